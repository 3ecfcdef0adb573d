"""kill -9 of the daemon at each step; the next daemon makes everything whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import SECONDS, Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
CRASHING = Path(__file__).with_name("crashing.py")

CREATE = [
    ("rootless.engine.state", "State", "add_container", "before"),
    ("rootless.engine.state", "State", "add_container", "after"),
    ("rootless.engine.creation", "Creator", "_make", "before"),
    ("rootless.engine.core", "Core", "call", "before"),
    ("rootless.engine.core", "Core", "call", "after"),
]
START = [
    ("rootless.engine.etcfiles", "", "write_etc", "after"),
    ("rootless.runtime.launcher_client", "Launcher", "create", "before"),
    ("rootless.runtime.launcher_client", "Launcher", "create", "after"),
    ("rootless.network.driver", "NetworkDriver", "connect", "after"),
    ("rootless.engine.lifecycle", "Lifecycle", "_running", "before"),
    ("rootless.engine.lifecycle", "Lifecycle", "_running", "after"),
    ("rootless.runtime.launcher_client", "Created", "go", "before"),
    ("rootless.runtime.launcher_client", "Created", "go", "after"),
]
EXEC = [
    ("rootless.runtime.launcher_client", "Launcher", "exec", "before"),
    ("rootless.runtime.launcher_client", "Launcher", "exec", "after"),
    ("rootless.runtime.launcher_client", "Created", "go", "after"),
]
REMOVE = [
    ("rootless.engine.core", "Core", "discard", "before"),
    ("rootless.engine.core", "Core", "discard", "after"),
    ("rootless.engine.registry", "Registry", "remove", "after"),
]


def _ident(point: tuple[str, ...]) -> str:
    return "-".join(part.rpartition(".")[2] for part in point if part)


def _start_crashing(engine: Engine, point: tuple[str, str, str, str], count: int = 1) -> None:
    """Replace the engine's daemon by one that will kill itself at ``point``."""
    where = str(engine.root / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(where)
        notify.settimeout(SECONDS)
        with open(engine.log, "ab") as log:
            engine.daemon = subprocess.Popen(
                [sys.executable, str(CRASHING), *point, str(count)],
                env={**engine.env, "NOTIFY_SOCKET": where},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        assert b"READY=1" in notify.recv(4096)
    os.unlink(where)


def _await_crash(engine: Engine) -> None:
    assert engine.daemon is not None
    assert engine.daemon.wait(SECONDS) == -9
    engine.daemon = None


def _docker(engine: Engine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Docker's client, which does not start a daemon by itself."""
    return subprocess.run(
        ["docker", "--host", f"unix://{engine.socket}", *arguments],
        env=engine.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _assert_whole(engine: Engine) -> None:
    """Everything works, everything can be removed, nothing is left."""
    assert engine.ok("run", "--rm", "--network", "none", IMAGE, "echo", "fine") == "fine"
    for container in engine.containers():
        engine.ok("rm", "--force", container)
    # What recovery removes in the background is gone when the daemon ended in order.
    engine.stop()
    engine.start()
    engine.stop()
    left = [*engine.data.glob("containers/*"), *engine.data.glob("trash/*")]
    assert left == []
    engine.start()


@pytest.mark.parametrize("point", CREATE, ids=_ident)
def test_create(fresh_engine: Engine, point: tuple[str, str, str, str]) -> None:
    engine = fresh_engine
    engine.stop()
    _start_crashing(engine, point)
    _docker(engine, "create", "--name", "one", "--network", "none", IMAGE, "true")
    _await_crash(engine)
    engine.start()
    names = engine.ok("ps", "--all", "--format", "{{.Names}}").split()
    if names:
        # What is listed is whole.
        assert engine.run("start", "--attach", "one").returncode == 0
    else:
        engine.ok("create", "--name", "one", "--network", "none", IMAGE, "true")
    _assert_whole(engine)


@pytest.mark.parametrize("point", START, ids=_ident)
def test_start(fresh_engine: Engine, point: tuple[str, str, str, str]) -> None:
    engine = fresh_engine
    engine.ok("create", "--name", "one", IMAGE, "sh", "-c", "echo ran; sleep 1000")
    engine.stop()
    _start_crashing(engine, point)
    _docker(engine, "start", "one")
    _await_crash(engine)
    engine.start()
    state = json.loads(engine.ok("inspect", "one"))[0]["State"]
    if state["Running"]:
        assert engine.ok("exec", "one", "echo", "alive") == "alive"
    else:
        engine.ok("start", "one")
        assert engine.ok("exec", "one", "echo", "alive") == "alive"
    _assert_whole(engine)


@pytest.mark.parametrize("point", EXEC, ids=_ident)
def test_exec(fresh_engine: Engine, point: tuple[str, str, str, str]) -> None:
    engine = fresh_engine
    engine.ok("run", "-d", "--name", "one", "--network", "none", IMAGE, "sleep", "1000")
    engine.stop()
    _start_crashing(engine, point)
    _docker(engine, "exec", "one", "sleep", "1")
    _await_crash(engine)
    engine.start()
    assert engine.ok("exec", "one", "echo", "alive") == "alive"
    _assert_whole(engine)


@pytest.mark.parametrize("point", REMOVE, ids=_ident)
def test_remove(fresh_engine: Engine, point: tuple[str, str, str, str]) -> None:
    engine = fresh_engine
    engine.ok("run", "--name", "one", "--network", "none", IMAGE, "true")
    engine.stop()
    _start_crashing(engine, point)
    _docker(engine, "rm", "one")
    _await_crash(engine)
    engine.start()
    _assert_whole(engine)
