"""SIGHUP: what is taken, what is not, and that a wrong file changes nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.daemon.test_effects import info, ran
from tests.support.api import Api, until
from tests.support.engine import Engine, new_engine

pytestmark = pytest.mark.integration


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with a flag and a key."""
    with new_engine(start=False) as made:
        made.configure(labels=["rack=7"], max_concurrent_downloads=2)
        made.start("--shutdown-timeout", "7", "--dns", "192.0.2.1")
        yield made


def hang_up(engine: Engine) -> None:
    """SIGHUP."""
    assert engine.daemon is not None
    engine.daemon.send_signal(signal.SIGHUP)


def reload(engine: Engine, **settings: object) -> dict[str, Any]:
    """Configure, reload, and the event that tells of it."""
    engine.configure(**settings)
    with Api(engine).stream("GET", "/events", filters={"type": ["daemon"]}) as events:
        hang_up(engine)
        found = next(events)
    assert isinstance(found, dict)
    return found


def test_the_event_tells_what_is_in_force(engine: Engine) -> None:
    event = reload(
        engine, labels=["rack=8", "a=b"], debug=True, live_restore=False, max_concurrent_uploads=9,
        registry_mirrors=["https://mirror.example"], insecure_registries=["r.example"],
        features={"buildkit": False}, default_shm_size="5m",
    )  # fmt: skip
    assert (event["Type"], event["Action"]) == ("daemon", "reload")
    assert event["Actor"]["ID"] == info(engine)["ID"]
    attributes = event["Actor"]["Attributes"]
    expected = {
        "debug": "true",
        "default-shm-size": str(5 << 20),
        "features": "map[buildkit:false]",
        "insecure-registries": '["r.example"]',
        "labels": '["rack=8","a=b"]',
        "live-restore": "false",
        "max-concurrent-downloads": "3",
        "max-concurrent-uploads": "9",
        "registry-mirrors": '["https://mirror.example"]',
        "shutdown-timeout": "7",
        "name": info(engine)["Name"],
    }
    assert {key: attributes[key] for key in expected} == expected


def test_what_is_reloaded_takes_effect(engine: Engine) -> None:
    assert info(engine)["Labels"] == ["rack=7"]
    proxies = {"http-proxy": "http://proxy.example:3128"}
    reload(engine, labels=["rack=8"], debug=True, live_restore=False, proxies=proxies,
           default_shm_size="5m", insecure_registries=["192.0.2.0/24"])  # fmt: skip
    found = info(engine)
    assert found["Labels"] == ["rack=8"]
    assert found["Debug"] is True
    assert found["LiveRestoreEnabled"] is False
    assert found["HttpProxy"] == "http://proxy.example:3128"
    assert "192.0.2.0/24" in found["RegistryConfig"]["InsecureRegistryCIDRs"]
    assert " 5 " in ran(engine, "df -m /dev/shm | tail -1")
    reload(engine)
    assert info(engine)["Labels"] == [], "a key that is gone has its default again"
    assert "192.0.2.1" in ran(engine, "cat /etc/resolv.conf", "--network", "slirp4netns"), (
        "a flag stays"
    )


def test_what_needs_a_restart_is_named_and_not_taken(engine: Engine) -> None:
    reload(engine, ip="127.0.0.9", labels=["rack=8"])
    assert "ip changed in" in engine.log.read_text()
    assert info(engine)["Labels"] == ["rack=8"]
    assert "labels changed" not in engine.log.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"labels": ["rack=8"], "debgu": true}', "don't match any configuration option: debgu"),
        ('{"labels": ["rack=8"]', "daemon.json:1:"),
        ('{"labels": ["rack=8"], "shutdown-timeout": 3}', "shutdown-timeout: (from flag: 7"),
        ('{"labels": ["rack=8"], "ip-forward": true}', "ip-forward cannot be true here"),
    ],
)
def test_a_wrong_file_leaves_everything_as_it_is(engine: Engine, text: str, message: str) -> None:
    (engine.root / "c/rootless/daemon.json").write_text(text)
    hang_up(engine)
    until(lambda: "configuration not reloaded" in engine.log.read_text())
    assert message in engine.log.read_text()
    assert info(engine)["Labels"] == ["rack=7"]
    past = json.dumps({"type": ["daemon"], "event": ["reload"]})
    assert Api(engine).raw("GET", "/events", since=1, until=1, filters=json.loads(past))[2] == b""
