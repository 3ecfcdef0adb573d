"""kill -9 of the daemon while containers of every kind run: the next one finds them all."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.recovery.world import IMAGE, QUIET, World, await_end
from tests.support.engine import SECONDS
from tests.support.registry import free_port

pytestmark = pytest.mark.integration
AWAIT = "while [ ! -e /go/now ]; do sleep 0.05; done; "
LINES = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done; "


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """A directory to mount at /go: containers that AWAIT go on when ``now`` is in it."""
    path = tmp_path / "go"
    path.mkdir()
    path.chmod(0o755)
    return path


def _mounted(go: Path) -> tuple[str, ...]:
    return ("-v", f"{go}:/go:ro", *QUIET)


def _crash(world: World) -> None:
    world.engine.kill()
    world.start()


def _await(condition: Callable[[], bool]) -> None:
    """Wait for what nothing announces, with a bound."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)


def test_lines_written_meanwhile_are_in_the_log(world: World, go: Path) -> None:
    engine = world.engine
    script = f"echo up; {AWAIT}{LINES}exec sleep 1000"
    engine.ok("run", "-d", "--name", "talks", *_mounted(go), IMAGE, "sh", "-c", script)
    before = world.state("talks")
    [log] = engine.data.glob("containers/*/*-json.log")
    engine.kill()
    (go / "now").touch()
    _await(lambda: b"line 5000" in log.read_bytes())
    world.start()
    expected = ["up", *(f"line {i}" for i in range(1, 5001))]
    assert engine.ok("logs", "talks").splitlines() == expected
    after = world.state("talks")
    assert (after["Running"], after["Pid"]) == (True, before["Pid"])
    assert after["StartedAt"] == before["StartedAt"]
    assert "talks" in engine.ok("ps", "--format", "{{.Names}}")


@pytest.mark.parametrize("kind", ["plain", "terminal", "own-ids"])
def test_ends_meanwhile_are_recorded(world: World, go: Path, kind: str) -> None:
    engine = world.engine
    extra = {"plain": (), "terminal": ("-t",), "own-ids": ("--userns=auto",)}[kind]
    script = f"{AWAIT}echo bye; exit 7"
    for name, more in (("kept", ()), ("gone", ("--rm", "-v", "/data"))):
        engine.ok(
            "run", "-d", "--name", name, *more, *extra, *_mounted(go), IMAGE, "sh", "-c", script
        )
    shims = [world.shim(name) for name in ("kept", "gone")]
    engine.kill()
    (go / "now").touch()
    for shim in shims:
        await_end(shim)
    world.start()
    assert engine.ok("wait", "kept") == "7"
    state = world.state("kept")
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 7, "")
    assert engine.ok("logs", "kept").strip() == "bye"
    _await(lambda: engine.ok("ps", "-a", "--format", "{{.Names}}") == "kept")
    _await(lambda: engine.ok("volume", "ls", "--quiet") == "")
    engine.ok("start", "kept")
    assert engine.ok("wait", "kept") == "7"


@pytest.mark.parametrize("kind", ["plain", "terminal", "own-ids"])
def test_a_found_container_takes_every_command(world: World, kind: str) -> None:
    engine = world.engine
    extra = {"plain": (), "terminal": ("-t",), "own-ids": ("--userns=auto",)}[kind]
    script = "trap 'exit 3' TERM; while read line; do echo got $line; done"
    engine.ok("run", "-d", "-i", "--name", "one", *extra, *QUIET, IMAGE, "sh", "-c", script)
    _crash(world)
    assert engine.ok("exec", "one", "echo", "alive") == "alive"
    with engine.popen(
        "attach", "one", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        if kind != "terminal":  # a terminal wants one on this side too
            client.stdin.write(b"word\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"got word\n"
        assert "sh" in engine.ok("top", "one")
        engine.ok("stop", "one")
        client.communicate(timeout=SECONDS)
    assert engine.ok("wait", "one") in ("3", "137")
    assert world.state("one")["Status"] == "exited"


def _answers(port: int) -> bool:
    """Whether the server does. A connection that met it between two lives is given up soon."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            return client.makefile().readline() == "hello\n"
    except OSError:
        return False


@pytest.mark.parametrize("network", ["bridge", "slirp4netns"])
def test_published_ports_and_the_run_time_directory(world: World, network: str) -> None:
    """Also when $XDG_RUNTIME_DIR was emptied, as at a logout."""
    engine, port = world.engine, free_port()
    serve = "while :; do echo hello | nc -l -p 80; done"
    published = ("--network", network, "-p", f"{port}:80")
    engine.ok("run", "-d", "--name", "web", *published, IMAGE, "sh", "-c", serve)
    _await(lambda: _answers(port))
    helpers = world.network_of(world.inspect("web")["Id"])
    assert bool(helpers) is (network == "slirp4netns")  # those of a bridge are no container's
    _crash(world)
    _await(lambda: _answers(port))
    assert engine.ok("port", "web") == f"80/tcp -> 127.0.0.1:{port}"
    engine.kill()
    for entry in (engine.root / "r").iterdir():
        shutil.rmtree(entry)
    _await(lambda: _answers(port))
    world.start()
    _await(lambda: _answers(port))
    assert world.network_of(world.inspect("web")["Id"]) == helpers
    assert engine.ok("port", "web") == f"80/tcp -> 127.0.0.1:{port}"
    assert engine.ok("exec", "web", "echo", "alive") == "alive"
    # Its port is free again when it has stopped, and can be taken by a new start.
    engine.ok("restart", "-t", "0", "web")
    _await(lambda: _answers(port))


def test_restart_policies(world: World, go: Path) -> None:
    engine = world.engine
    script = f"echo run; {AWAIT}exit 4"
    policies = ("always", "on-failure:5", "unless-stopped", "no")
    for policy in policies:
        name = policy.partition(":")[0]
        engine.ok(
            "run", "-d", "--name", name, "--restart", policy, *_mounted(go),
            IMAGE, "sh", "-c", script,
        )  # fmt: skip
    shims = [world.shim(policy.partition(":")[0]) for policy in policies]
    engine.kill()
    (go / "now").touch()
    for shim in shims:
        await_end(shim)
    (go / "now").unlink()
    world.start()
    for name in ("always", "on-failure", "unless-stopped"):
        _await(lambda name=name: world.state(name)["Running"])
        assert engine.ok("logs", name).splitlines() == ["run", "run"]
    state = world.state("no")
    assert (state["Status"], state["ExitCode"]) == ("exited", 4)


def test_everything_at_once(world: World) -> None:
    """Daemon, launcher and shim killed together: the container is over, and it is said."""
    engine = world.engine
    for name in ("one", "two"):
        engine.ok("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    engine.ok("run", "-d", "--rm", "--name", "three", "--userns=auto", IMAGE, "sleep", "1000")
    victims = [world.shim("one"), world.shim("three"), *world.launchers()]
    engine.kill()
    for pid in victims:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue  # the launcher ends with the daemon
    for pid in victims:
        await_end(pid)
    world.start()
    state = world.state("one")
    assert (state["Status"], state["ExitCode"]) == ("exited", 255)
    assert "unknown" in state["Error"]
    assert engine.ok("exec", "two", "echo", "alive") == "alive"
    _await(lambda: "three" not in engine.ok("ps", "-a", "--format", "{{.Names}}"))
    world.assert_sound()
    engine.ok("start", "one")
