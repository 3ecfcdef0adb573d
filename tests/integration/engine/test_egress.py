"""Egress lists in the whole engine: what holds, what is refused, what is told."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.integration.engine.test_bridges import (
    IMAGE,
    _kill,
    _named,
    inside,
    own_address,
    place,
    serve,
)
from tests.support.api import Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
REACHED = "0"


@pytest.fixture
def tidied(engine: Engine) -> Iterator[Engine]:
    """The engine; no container and no network stays there."""
    yield engine
    if ids := engine.containers():
        engine.ok("rm", "--force", *ids)
    engine.ok("network", "prune", "-f")


@pytest.fixture
def servers() -> Iterator[tuple[int, int]]:
    """Two ports on this host where somebody listens."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("0.0.0.0", 0))) for _ in range(2)]
        yield made[0].getsockname()[1], made[1].getsockname()[1]


def reach(engine: Engine, name: str, port: int, address: str = "") -> str:
    """What connect(2) says to a container that connects to this host; '0' when it may."""
    source = (
        "import socket; s = socket.socket(); s.settimeout(20)\n"
        f"print(s.connect_ex(('{address or own_address()}', {port})))"
    )
    return inside(engine, name, source)


def box(engine: Engine, name: str, *flags: str) -> None:
    engine.ok("run", "-d", "--name", name, *flags, IMAGE, "sleep", "1000")


def rows(engine: Engine, name: str) -> dict[str, int]:
    """What was denied to a container: target → count."""
    text = engine.ok("network", "denied", "--container", name, "--format", "{{.Target}} {{.Count}}")
    return {line.split()[0]: int(line.split()[1]) for line in text.splitlines()}


def test_a_network_s_list_holds_for_its_containers(
    tidied: Engine, servers: tuple[int, int]
) -> None:
    good, bad = servers
    tidied.ok("network", "create", "-o", f"egress={own_address()}:{good}", "ci")
    box(tidied, "job", "--network", "ci", "-p", "8000")
    serve(tidied, "web", "--network", "ci")
    assert reach(tidied, "job", good) == REACHED
    assert reach(tidied, "job", bad) != REACHED
    fetched = tidied.ok("exec", "job", "wget", "-q", "-O", "-", "http://web:8000/page")
    assert fetched == "page"
    assert tidied.run("exec", "job", "nslookup", "example.com").returncode != 0
    until(lambda: {f"{own_address()}:{bad}/tcp", "example.com"} <= rows(tidied, "job").keys())
    shown = json.loads(tidied.ok("network", "inspect", "ci"))[0]
    assert shown["Options"] == {"egress": f"{own_address()}:{good}"}


@pytest.mark.parametrize("network", ["slirp4netns", "ci"])
def test_a_container_s_own_list(tidied: Engine, servers: tuple[int, int], network: str) -> None:
    good, bad = servers
    if network == "ci":
        tidied.ok("network", "create", "ci")
    item = f"egress={own_address()}:{good}"
    box(tidied, "job", "--network", network, "--network-opt", item)
    box(tidied, "free", "--network", network)
    assert reach(tidied, "job", good) == REACHED
    assert reach(tidied, "job", bad) != REACHED
    assert reach(tidied, "job", 53, "10.0.2.3") != REACHED
    assert reach(tidied, "free", bad) == REACHED
    shown = json.loads(tidied.ok("inspect", "job"))[0]["NetworkSettings"]["Networks"][network]
    assert shown["DriverOpts"] == {"egress": item.partition("=")[2]}
    until(lambda: rows(tidied, "job").keys() >= {f"{own_address()}:{bad}/tcp", "10.0.2.3:53/tcp"})
    assert tidied.run("network", "denied", "--container", "free").stdout.count("\n") == 1


def test_it_holds_from_the_first_packet_on(tidied: Engine, servers: tuple[int, int]) -> None:
    done = tidied.run(
        "run", "--rm", "--name", "short", "--network-opt", "egress=none", IMAGE,
        "nc", "-w", "5", own_address(), str(servers[1]),
    )  # fmt: skip
    assert done.returncode != 0
    # Told under its name though it is gone.
    until(lambda: rows(tidied, "short").keys() == {f"{own_address()}:{servers[1]}/tcp"})


def test_a_network_s_and_a_container_s_list_both_count(
    tidied: Engine, servers: tuple[int, int]
) -> None:
    tidied.ok("network", "create", "-o", "egress=none", "jail")
    box(tidied, "job", "--network", f"name=jail,egress={own_address()}")
    assert reach(tidied, "job", servers[0]) != REACHED


def test_one_connected_later_is_restricted_too(tidied: Engine, servers: tuple[int, int]) -> None:
    good, bad = servers
    tidied.ok("network", "create", "open")
    own = f"egress={own_address()}:{good}"
    box(tidied, "job", "--network", "slirp4netns", "--network-opt", own)
    tidied.ok("network", "connect", "open", "job")
    assert reach(tidied, "job", good) == REACHED
    assert reach(tidied, "job", bad) != REACHED
    gateway = place(tidied, "job", "open")["Gateway"]
    by_bridge = ["ip", "route", "replace", "default", "via", gateway]
    inside(tidied, "job", f"import subprocess; subprocess.run({by_bridge}, check=True)")
    assert reach(tidied, "job", good) == REACHED
    assert reach(tidied, "job", bad) != REACHED
    until(lambda: "open" in tidied.ok("network", "denied", "--container", "job"))


def test_no_list_is_gone_around_by_another_network(tidied: Engine) -> None:
    for name in ("open", "other"):
        tidied.ok("network", "create", name)
    tidied.ok("network", "create", "--internal", "inner")
    box(tidied, "job", "--network", "open", "--network-opt", "egress=none")
    box(tidied, "both", "--network", "open", "--network", "other", "--network-opt", "egress=none")
    said = "would not keep container"
    for words in (
        ("run", "--rm", "--network", "name=open,egress=none", "--network", "other", IMAGE),
        ("network", "connect", "other", "job"),
    ):
        done = tidied.run(*words)
        assert done.returncode != 0, words
        assert said in done.stderr
    tidied.ok("network", "connect", "inner", "job")
    tidied.ok("network", "connect", "--driver-opt", "egress=none", "other", "job")


@pytest.mark.parametrize("capability", ["NET_ADMIN", "NET_RAW"])
def test_what_would_undo_a_private_list_is_refused(tidied: Engine, capability: str) -> None:
    done = tidied.run(
        *("run", "--rm", "--cap-add", capability, "--network", "slirp4netns"),
        *("--network-opt", "egress=none", IMAGE),
    )
    assert done.returncode != 0
    assert f"cannot be kept from a container with CAP_{capability}" in done.stderr


def test_neither_an_exec_nor_who_shares_the_network_undoes_it(
    tidied: Engine, servers: tuple[int, int]
) -> None:
    box(tidied, "job", "--network", "slirp4netns", "--network-opt", "egress=none")
    tidied.run("exec", "--privileged", "job", "ip", "link", "set", "dev", "tap0", "name", "out0")
    tidied.run(
        *("run", "--rm", "--cap-add", "NET_ADMIN", "--network", "container:job", IMAGE),
        *("ip", "link", "set", "dev", "tap0", "name", "out0"),
    )
    assert "tap0" in tidied.ok("exec", "job", "ip", "link")
    assert reach(tidied, "job", servers[0]) != REACHED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("network", "create", "-o", "egress=exa mple:x", "bad"), "invalid egress item"),
        (("network", "create", "-o", "egress=", "bad"), "the egress list is empty"),
        (("network", "create", "-o", "egres=none", "bad"), "unknown network option: egres"),
        (("run", "--rm", "--network-opt", "egress=1.2.3.4/8", IMAGE), "invalid egress item"),
        (("run", "--rm", "--network-opt", "egres=none", IMAGE), "unknown network option: egres"),
        (
            ("run", "--rm", "--network", "none", "--network-opt", "egress=none", IMAGE),
            "network mode none takes no egress list",
        ),
        (
            ("run", "--rm", "--network", "host", "--network-opt", "egress=none", IMAGE),
            "network mode host takes no egress list",
        ),
        (("network", "denied", "--container", "nobody"), "No such container: nobody"),
        (("network", "denied", "--since", "x"), "invalid time"),
    ],
)
def test_bad_input(tidied: Engine, words: tuple[str, ...], said: str) -> None:
    done = tidied.run(*words)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_denials_are_in_the_log_and_in_the_events(
    tidied: Engine, servers: tuple[int, int], api: Api
) -> None:
    box(tidied, "loud", "--network", "slirp4netns", "--network-opt", "egress=none")
    for _ in range(3):
        assert reach(tidied, "loud", servers[0]) != REACHED
    target = f"{own_address()}:{servers[0]}/tcp"
    until(lambda: rows(tidied, "loud").get(target) == 3)
    line = f"container loud: egress to {target} denied on network slirp4netns"
    assert len(re.findall(re.escape(line), tidied.log.read_text())) == 1
    text = tidied.ok(
        *("events", "--since", "10m", "--until", "0s", "--filter", "event=egress_denied"),
        *("--filter", "container=loud", "--format", "{{.Actor.Attributes.destination}}"),
    )
    assert text == target
    (row,) = api.ok("GET", "/rootless/denied?container=loud")
    assert (row["Container"], row["Network"], row["Count"]) == ("loud", "slirp4netns", 3)
    assert (row["Reason"], row["Protocol"], row["Port"]) == ("destination", "tcp", servers[0])
    assert api.ok("GET", "/rootless/denied?network=elsewhere") == []


def test_a_policy_requires_and_fills_lists(fresh_engine: Engine, servers: tuple[int, int]) -> None:
    engine = fresh_engine
    good, bad = servers
    engine.ok("network", "create", "open")
    engine.ok("network", "create", "-o", "egress=none", "shut")
    (engine.root / "c/rootless").mkdir(exist_ok=True)
    (engine.root / "c/rootless/policy.yaml").write_text(
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: lists}\n"
        f"spec:\n  network: {{egress: ['{own_address()}']}}\n"
        f"defaults:\n  egress: ['{own_address()}:{good}']\n"
    )
    engine.stop()
    engine.start()
    box(engine, "filled", "--network", "open")
    assert reach(engine, "filled", good) == REACHED
    assert reach(engine, "filled", bad) != REACHED
    box(engine, "own", "--network", "open", "--network-opt", f"egress={own_address()}:{bad}")
    assert reach(engine, "own", bad) == REACHED
    box(engine, "shut", "--network", "shut")
    for words in (
        ("run", "--rm", "--network-opt", "egress=192.0.2.0/24", IMAGE),
        ("run", "--rm", "--network-opt", "egress=*:443", IMAGE),
        ("run", "--rm", "--network", "container:shut", IMAGE),
        ("network", "connect", "open", "shut"),
    ):
        done = engine.run(*words)
        assert done.returncode != 0, words
        assert "network.egress" in done.stderr, done.stderr


@pytest.mark.parametrize("network", ["slirp4netns", "ci"])
@pytest.mark.parametrize(
    "victim", ["rootless-net", "rootless-dns", "slirp4netns", "daemon", "both"]
)
def test_lists_outlive_everything(
    fresh_engine: Engine, servers: tuple[int, int], victim: str, network: str
) -> None:
    engine = fresh_engine
    good, bad = servers
    if network == "ci":
        engine.ok("network", "create", "-o", f"egress={own_address()}:{good}", "ci")
        box(engine, "job", "--network", "ci")
    else:
        own = f"egress={own_address()}:{good}"
        box(engine, "job", "--network", "slirp4netns", "--network-opt", own)
    # Somebody in there who tries all the time, and writes down when it worked.
    probe = f"nc -w 1 {own_address()} {bad} </dev/null && echo through >> /tmp/through"
    watch = f"while true; do {probe}; done"
    engine.ok("exec", "-d", "job", "sh", "-c", watch)
    until(lambda: rows(engine, "job").get(f"{own_address()}:{bad}/tcp", 0) > 3)
    if victim in ("daemon", "both"):
        engine.kill()
        if victim == "both":
            _kill(_named("rootless-net", engine.root))
        engine.start()
    else:
        _kill(_named(victim, engine.root))
    until(lambda: reach(engine, "job", good) == REACHED)
    # The list is there again, by itself and with its denials.
    seen = rows(engine, "job").get(f"{own_address()}:{bad}/tcp", 0)
    until(lambda: rows(engine, "job").get(f"{own_address()}:{bad}/tcp", 0) > seen)
    assert engine.run("exec", "job", "nslookup", "example.com").returncode != 0
    until(lambda: "example.com" in rows(engine, "job"))
    assert engine.run("exec", "job", "cat", "/tmp/through").returncode != 0
