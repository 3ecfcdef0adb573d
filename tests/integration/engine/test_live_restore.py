"""Containers, their logs, networks and exit codes survive the end of the daemon."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from typing import Any

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
QUIET = ("--network", "none")


def _inspect(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.ok("inspect", name))[0]
    return found


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_running_container_is_found_again(fresh_engine: Engine, how: str) -> None:
    engine = fresh_engine
    script = "n=0; while read line; do n=$((n+1)); echo $n $line; done"
    engine.ok("run", "-d", "-i", "--name", "live", *QUIET, IMAGE, "sh", "-c", script)
    pid = _inspect(engine, "live")["State"]["Pid"]
    getattr(engine, how)()
    engine.start()
    found = _inspect(engine, "live")["State"]
    assert (found["Running"], found["Pid"]) == (True, pid)
    with engine.popen("attach", "live", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"1 hello\n"
        engine.ok("kill", "live")
    assert engine.ok("logs", "live") == "1 hello"
    engine.ok("rm", "live")


def test_an_end_while_the_daemon_was_away_is_recorded(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for name, extra in (("kept", ()), ("gone", ("--rm",))):
        engine.ok(
            "run", "-d", "-i", *extra, "--name", name, *QUIET,
            IMAGE, "sh", "-c", "echo up; while [ ! -e /dev/shm/go ]; do sleep 0.05; done; exit 9",
        )  # fmt: skip
    pids = [_inspect(engine, name)["State"]["Pid"] for name in ("kept", "gone")]
    pidfds = [os.pidfd_open(pid) for pid in pids]
    for name in ("kept", "gone"):
        engine.ok("exec", "-d", name, "sh", "-c", "sleep 0.5; touch /dev/shm/go")
    engine.kill()
    for fd in pidfds:
        assert select.select([fd], [], [], 30)[0]
        os.close(fd)
    engine.start()
    state = _inspect(engine, "kept")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 9)
    assert engine.ok("logs", "kept") == "up"
    done = engine.run("wait", "gone")
    assert done.returncode != 0 or done.stdout.strip() == "9"
    engine.ok("rm", "kept")
    engine.stop()
    engine.start()
    assert engine.containers() == []


def test_always_comes_back_and_stopped_stays(fresh_engine: Engine) -> None:
    engine = fresh_engine
    for name, policy in (("always", "always"), ("unless", "unless-stopped")):
        engine.ok("run", "-d", "--name", name, "--restart", policy, *QUIET, IMAGE, "sleep", "99")
        engine.ok("stop", "-t", "0", name)
    engine.stop()
    with engine_events(engine, "event=start") as events:
        assert b"always" in events
    assert _inspect(engine, "unless")["State"]["Status"] == "exited"
    assert _inspect(engine, "always")["State"]["Status"] == "running"


class engine_events:
    """Start the engine and yield the first event that passes the filter since then."""

    def __init__(self, engine: Engine, wanted: str) -> None:
        self._engine, self._wanted = engine, wanted

    def __enter__(self) -> bytes:
        self._engine.start()
        self._client = self._engine.popen(
            "events",
            "--since",
            "60s",
            "--filter",
            "type=container",
            "--filter",
            self._wanted,
            stdout=subprocess.PIPE,
        )
        assert self._client.stdout is not None
        return bytes(self._client.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._client.terminate()
        self._client.communicate()


def test_a_killed_shim_ends_its_container_with_an_error(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.ok("run", "-d", "--name", "victim", *QUIET, IMAGE, "sleep", "1000")
    [found] = engine.data.glob("containers/*/shim.json")
    os.kill(json.loads(found.read_text())["shim_pid"], signal.SIGKILL)
    assert engine.ok("wait", "victim") == "255"
    state = _inspect(engine, "victim")["State"]
    assert state["Status"] == "exited"
    assert "was killed" in state["Error"]
    engine.ok("start", "victim")
    engine.ok("rm", "-f", "victim")


def test_a_killed_launcher_is_replaced_and_reaches_old_containers(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.ok("run", "-d", "--name", "old", *QUIET, IMAGE, "sleep", "1000")
    assert engine.daemon is not None
    children = f"/proc/{engine.daemon.pid}/task/{engine.daemon.pid}/children"
    with open(children, encoding="ascii") as file:
        launchers = [
            int(pid)
            for pid in file.read().split()
            if "rootless.runtime.launcher" in _command_line(int(pid))
        ]
    assert len(launchers) == 1
    os.kill(launchers[0], signal.SIGKILL)
    assert engine.ok("exec", "old", "echo", "reached") == "reached"
    assert engine.ok("run", "--rm", *QUIET, IMAGE, "echo", "new") == "new"
    engine.ok("rm", "-f", "old")


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def test_only_one_daemon_runs_per_data_root(fresh_engine: Engine) -> None:
    from tests.support.engine import program

    done = subprocess.run(
        program("rootlessd"), env=fresh_engine.env, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "already uses" in done.stderr
    assert "Traceback" not in done.stderr


def _inspect_exec(engine: Engine, exec_id: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall(f"GET /exec/{exec_id}/json HTTP/1.0\r\n\r\n".encode())
        answer = client.makefile("rb").read()
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


@pytest.mark.parametrize("away", [True, False])
def test_an_exec_outlives_the_daemon(fresh_engine: Engine, *, away: bool) -> None:
    """Its exit code is known whether it ended while the daemon was away or after it was back."""
    engine = fresh_engine
    engine.ok("run", "-d", "--name", "box", *QUIET, IMAGE, "tail", "-f", "/dev/null")
    engine.ok(
        "exec", "-d", "box", "sh", "-c", "while [ ! -e /dev/shm/go ]; do sleep 0.05; done; exit 7"
    )
    (exec_id,) = _inspect(engine, "box")["ExecIDs"]
    pid = _inspect_exec(engine, exec_id)["Pid"]
    watch = os.pidfd_open(pid)
    if away:
        engine.ok("exec", "-d", "box", "sh", "-c", "sleep 0.5; touch /dev/shm/go")
    engine.kill()
    if not away:
        engine.start()
        found = _inspect_exec(engine, exec_id)
        assert (found["Running"], found["Pid"], found["ExitCode"]) == (True, pid, None)
        assert _inspect(engine, "box")["ExecIDs"] == [exec_id]
        engine.ok("exec", "box", "touch", "/dev/shm/go")
    assert select.select([watch], [], [], 30)[0]
    os.close(watch)
    if away:
        engine.start()
    while (found := _inspect_exec(engine, exec_id))["Running"]:
        pass
    assert found["ExitCode"] == 7
    engine.ok("rm", "-f", "box")
