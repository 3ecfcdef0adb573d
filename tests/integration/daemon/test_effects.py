"""What each setting of daemon.json does to containers and to what the engine says of itself."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import IMAGE, Api
from tests.support.engine import Engine, new_engine

INIT = shutil.which("tini-static") or shutil.which("catatonit") or "neither of them"
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with a value of its own for nearly everything."""
    profile = json.loads((Path(__file__).parents[3] / "profiles/seccomp/default.json").read_text())
    profile["syscalls"] = [
        {**rule, "names": [name for name in rule["names"] if name not in ("mkdir", "mkdirat")]}
        for rule in profile["syscalls"]
    ]
    seccomp = tmp_path_factory.mktemp("seccomp") / "nomkdir.json"
    seccomp.write_text(json.dumps(profile))
    with new_engine(
        experimental=True,
        min_api_version="1.41",
        init=True,
        init_path=INIT,
        seccomp_profile=str(seccomp),
        default_ulimits={
            "nofile": {"Name": "nofile", "Soft": 123, "Hard": 456},
            "locks": {"Soft": 77, "Hard": 77},
        },
        default_shm_size="7m",
        default_ipc_mode="shareable",
        default_runtime="runc",
        default_stop_timeout=1,
        log_driver="none",
        ip="127.0.0.2",
        ipv6=False,
        mtu=1400,
        dns=["192.0.2.53"],
        dns_opts=["ndots:3"],
        dns_search=["corp.example"],
        host_gateway_ips=["192.0.2.1", "2001:db8::1"],
        default_address_pools=[{"base": "10.9.0.0/16", "size": 24}],
        insecure_registries=["registry.example:5000", "192.0.2.0/24"],
        registry_mirrors=["https://mirror.example"],
        proxies={"http-proxy": "http://user:word@proxy.example:3128", "no-proxy": "a.example"},
        storage_driver="vfs",
        labels=["rack=7"],
        debug=True,
        log_format="json",
        live_restore=False,
        exec_opts=["native.cgroupdriver=cgroupfs"],
        allow_nondistributable_artifacts=["registry.example"],
    ) as engine:
        yield engine


def ran(engine: Engine, script: str, *options: str) -> str:
    """The output of a shell in a container."""
    return engine.ok("run", "--rm", *options, IMAGE, "sh", "-c", script)


def info(engine: Engine, *options: str) -> dict[str, Any]:
    """The answer of ``GET /info``."""
    found: dict[str, Any] = json.loads(engine.ok(*options, "info", "--format", "{{json .}}"))
    return found


def test_a_container_has_the_daemons_defaults(tuned: Engine) -> None:
    script = (
        "exec 2>&1; ulimit -Sn; ulimit -Hn; df -m /dev/shm | tail -1; mkdir /tmp/x; "
        "cat /proc/1/comm /proc/self/limits /etc/resolv.conf /etc/hosts /sys/class/net/tap0/mtu; "
        "ip addr show tap0"
    )
    text = ran(tuned, script, "--add-host", "gw:host-gateway", "--network", "slirp4netns")
    assert text.startswith("123\n456\n"), "default-ulimits"
    assert re.search(r"^Max file locks +77 +77 ", text, re.MULTILINE), "default-ulimits"
    assert re.search(r"^\S+ +7 ", text, re.MULTILINE), "default-shm-size"
    assert "can't create directory" in text, "seccomp-profile"
    assert re.search(r"^init$", text, re.MULTILINE), "init"
    assert "nameserver 192.0.2.53\n" in text, "dns"
    assert "search corp.example\n" in text, "dns-search"
    assert "options ndots:3\n" in text, "dns-opts"
    assert "192.0.2.1\tgw\n" in text, "host-gateway-ips"
    assert "2001:db8::1\tgw\n" in text, "host-gateway-ips"
    assert re.search(r"^1400$", text, re.MULTILINE), "mtu"
    assert "inet6 fd00:" not in text, "ipv6"


def test_containers_own_words_come_before_the_defaults(tuned: Engine) -> None:
    text = ran(
        tuned,
        "ulimit -Sn; df -m /dev/shm | tail -1; cat /etc/resolv.conf /proc/1/comm; true",
        *"--ulimit nofile=99 --shm-size 5m --dns 192.0.2.54 --init=false".split(),
        *("--network", "slirp4netns"),
    )
    assert text.startswith("99\n")
    assert re.search(r"^\S+ +5 ", text, re.MULTILINE)
    assert "nameserver 192.0.2.54\n" in text
    assert text.endswith("\nsh")


def test_ports_bind_to_the_daemons_address(tuned: Engine) -> None:
    tuned.ok("run", "-d", "--name", "web", "-p", "80", IMAGE, "sleep", "60")
    try:
        assert tuned.ok("port", "web").startswith("80/tcp -> 127.0.0.2:")
    finally:
        tuned.ok("rm", "-f", "web")


def test_ipc_can_be_joined_and_the_stop_signal_is_followed_soon(tuned: Engine) -> None:
    tuned.ok(
        *("run", "-d", "--name", "donor", IMAGE, "sh", "-c"),
        "trap '' TERM; echo here > /dev/shm/note; while :; do sleep 0.1; done",
    )
    try:
        assert ran(tuned, "cat /dev/shm/note", "--ipc", "container:donor") == "here"
        assert tuned.ok("inspect", "-f", "{{.HostConfig.IpcMode}}", "donor") == "shareable"
        begun = time.monotonic()
        tuned.ok("stop", "donor")
        assert time.monotonic() - begun < 9, "default-stop-timeout: 10 seconds would be Docker's"
        failed = tuned.run("logs", "donor")
        assert "configured logging driver does not support reading" in failed.stderr
    finally:
        tuned.ok("rm", "-f", "donor")


def test_info_shows_them(tuned: Engine) -> None:
    found = info(tuned)
    expected = {
        "Driver": "vfs",
        "Debug": True,
        "ExperimentalBuild": True,
        "LiveRestoreEnabled": False,
        "Labels": ["rack=7"],
        "DefaultRuntime": "rootless",
        "LoggingDriver": "none",
        "HttpProxy": "http://xxxxx:xxxxx@proxy.example:3128",
        "NoProxy": "a.example",
        "InitBinary": INIT,
        "DefaultAddressPools": [{"Base": "10.9.0.0/16", "Size": 24}],
    }
    assert {key: found[key] for key in expected} == expected
    registry = found["RegistryConfig"]
    assert registry["Mirrors"] == ["https://mirror.example/"]
    assert registry["IndexConfigs"]["registry.example:5000"]["Secure"] is False
    assert registry["InsecureRegistryCIDRs"] == ["::1/128", "127.0.0.0/8", "192.0.2.0/24"]
    assert found["NFd"] > 5
    assert found["NGoroutines"] > 1
    assert "WARNING: daemon is not using the default seccomp profile" in found["Warnings"]


def test_the_command_shows_what_is_configured(tuned: Engine) -> None:
    text = tuned.ok("info")
    for part in (
        " Debug Mode: true\n  File Descriptors: ",
        " HTTP Proxy: http://xxxxx:xxxxx@proxy.example:3128\n No Proxy: a.example\n",
        " Labels:\n  rack=7\n Experimental: true\n",
        " Insecure Registries:\n  registry.example:5000\n  ::1/128\n",
        " Registry Mirrors:\n  https://mirror.example/\n Live Restore Enabled: false\n",
        " Default Address Pools:\n   Base: 10.9.0.0/16, Size: 24",
    ):
        assert part in text, part


def test_the_api_says_experimental_and_refuses_older_versions(tuned: Engine) -> None:
    api = Api(tuned)
    assert api.raw("GET", "/_ping")[1]["Docker-Experimental"] == "true"
    version = api.ok("GET", "/version")
    assert (version["Experimental"], version["MinAPIVersion"]) == (True, "1.41")
    status, message = api.refused("GET", "/v1.40/version")
    assert status == 400
    assert "Minimum supported API version is 1.41" in message
    assert api.raw("GET", "/v1.41/_ping")[2] == b"OK"


def test_the_daemons_log_is_json_and_tells_everything(tuned: Engine) -> None:
    info(tuned)
    lines = [json.loads(line) for line in tuned.log.read_text().splitlines()]
    ready = next(line for line in lines if line["msg"].startswith("ready"))
    assert (ready["level"], ready["logger"]) == ("info", "rootlessd")
    user = pwd.getpwuid(os.getuid()).pw_name
    assert any(line["msg"].endswith(f"/info by unix {user}") for line in lines), "debug"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", ready["time"])
