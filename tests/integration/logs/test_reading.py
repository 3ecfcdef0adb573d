"""``logs``: every choice of the API, followers, and logs that met trouble."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rootless.runtime.shim_client import read_state
from tests.support.api import Api
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli
from tests.support.sinks import wait_for

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
DRIVERS = ["json-file", "local"]


def _ended(engine: Engine, script: str, *options: str) -> str:
    """The id of a container that has run ``script``."""
    command = ("--network", "none", *options, IMAGE, "sh", "-c", script)
    ident = engine.ok("run", "-d", *command)
    engine.ok("wait", ident)
    return ident


def _frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        size = int.from_bytes(body[4:8], "big")
        found.append((body[0], body[8 : 8 + size]))
        body = body[8 + size :]
    return found


def _logs(api: Api, ident: str, **query: object) -> list[tuple[int, bytes]]:
    status, _, body = api.raw("GET", f"/containers/{ident}/logs", **query)
    assert status == 200, body
    return _frames(body)


@pytest.mark.parametrize("driver", DRIVERS)
def test_choices(engine: Engine, api: Api, driver: str) -> None:
    script = "for i in 1 2 3; do echo o$i; sleep 0.01; echo e$i >&2; sleep 0.01; done"
    ident = _ended(engine, script, "--log-driver", driver)
    both = {"stdout": 1, "stderr": 1}
    whole = _logs(api, ident, **both)
    assert whole == [(s, b"%c%d\n" % (b"oe"[s - 1], n)) for n in (1, 2, 3) for s in (1, 2)]
    assert _logs(api, ident, stderr=1) == whole[1::2]
    for tail, count in (("2", 2), ("0", 0), ("99", 6), ("all", 6), ("-3", 6), ("x", 6), ("", 6)):
        assert _logs(api, ident, **both, tail=tail) == whole[6 - count :], tail
    assert _logs(api, ident, stdout=1, tail=2) == whole[2::2][:2]
    stamped = _logs(api, ident, **both, timestamps=1)
    times = [text.split()[0].decode() for _, text in stamped]
    assert times == sorted(times)
    assert all(len(moment) == 30 and moment.endswith("Z") for moment in times)
    # Seconds with a fraction of nanoseconds, as the docker CLI sends them.
    from datetime import UTC, datetime

    seconds = int(datetime.fromisoformat(times[3][:19]).replace(tzinfo=UTC).timestamp())
    moment = f"{seconds}.{times[3][20:29]}"
    assert _logs(api, ident, **both, since=moment) == whole[3:]
    assert _logs(api, ident, **both, until=moment) == whole[:4]
    assert _logs(api, ident, **both, since=times[3], until=times[3]) == whole[3:4]
    assert _logs(api, ident, **both, until=0) == whole
    assert _logs(api, ident, **both, since=moment, tail=1) == whole[5:]
    assert _logs(api, ident, **both, until=moment, tail=1) == whole[3:4]
    # No options name an attribute: an empty list of them is in front, as in Docker.
    assert _logs(api, ident, stdout=1, details=1, tail=1) == [(1, b" o3\n")]
    assert _logs(api, ident, **both, follow=1) == whole
    status, body = api("GET", f"/containers/{ident}/logs")
    assert (status, body["message"]) == (
        400, "Bad parameters: you must choose at least one stream",
    )  # fmt: skip
    assert api("GET", f"/containers/{ident}/logs", stdout=1, since="soon")[0] == 400
    assert api("GET", "/containers/nobody/logs", stdout=1)[0] == 404
    engine.ok("rm", ident)


def test_a_terminal_is_not_framed(engine: Engine, api: Api) -> None:
    ident = _ended(engine, "echo one; echo two >&2", "--tty", "--log-driver", "local")
    _, headers, body = api.raw("GET", f"/containers/{ident}/logs", stdout=1)
    assert body == b"one\r\ntwo\r\n"
    assert headers["Content-Type"] == "application/vnd.docker.raw-stream"
    engine.ok("rm", ident)


def test_the_docker_cli_reads_them(engine: Engine, docker_cli: DockerCli) -> None:
    done = docker_cli(
        "run", "--name", "dd", "--log-driver", "local", "--log-opt", "tag={{.Name}}",
        "--log-opt", "mode=non-blocking", IMAGE, "sh", "-c", "echo a; echo b; echo e >&2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = docker_cli("logs", "--since", "10m", "--tail", "2", "--details", "dd")
    assert shown.stdout + shown.stderr in ("tag=dd b\ntag=dd e\n", "tag=dd a\ntag=dd b\n")
    assert docker_cli("logs", "--until", "10m", "dd").stdout == ""
    info = json.loads(docker_cli("info", "--format", "{{json .Plugins.Log}}").stdout)
    assert info == ["journald", "json-file", "local", "syslog"]
    inspected = docker_cli(
        "inspect", "--format", "{{.LogPath}}|{{json .HostConfig.LogConfig}}", "dd"
    )
    assert inspected.stdout.startswith('|{"Type":"local","Config":{')
    assert docker_cli("run", "--log-driver", "splunk", IMAGE).returncode == 125
    engine.ok("rm", "dd")


def test_what_cannot_be_read_says_so(engine: Engine, api: Api) -> None:
    ident = _ended(engine, "echo x", "--log-driver", "none")
    status, body = api("GET", f"/containers/{ident}/logs", stdout=1)
    assert status == 501
    assert body["message"].startswith("configured logging driver does not support reading")
    engine.ok("rm", ident)


def test_warnings_tell_what_has_no_effect(engine: Engine, api: Api) -> None:
    config = {
        "Image": IMAGE,
        "HostConfig": {"LogConfig": {"Type": "", "Config": {"max-file": "3"}}},
    }
    made = api.ok("POST", "/containers/create", config)
    assert made["Warnings"] == ["log option max-file has no effect without max-size"]
    engine.ok("rm", made["Id"])


def test_the_path_of_a_log_holds_dockers_format(engine: Engine) -> None:
    ident = _ended(engine, "echo hello", "--log-opt", "labels=role", "--label", "role=web")
    path = Path(engine.ok("inspect", "--format", "{{.LogPath}}", ident))
    assert path.name == f"{ident}-json.log"
    (row,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(row) == ["log", "stream", "attrs", "time"]
    assert (row["log"], row["attrs"]) == ("hello\n", {"role": "web"})
    engine.ok("rm", ident)


@pytest.mark.parametrize("driver", DRIVERS)
def test_compressed_files_are_read(engine: Engine, driver: str) -> None:
    lines = 30_000
    ident = engine.ok(
        "run", "-d", "--network", "none", "--log-driver", driver, "--log-opt", "compress=true",
        "--log-opt", "max-size=50k", "--log-opt", "max-file=100",
        IMAGE, "sh", "-c", f"seq {lines}; exec sleep 1000",
    )  # fmt: skip
    wanted = "".join(f"{n}\n" for n in range(1, lines + 1))
    directory = engine.data / "containers" / ident
    # Compressed in the background: a shim that ends with its container may have made none yet.
    wait_for("the last line", lambda: engine.ok("logs", "--tail", "1", ident) == str(lines))
    wait_for("a compressed file", lambda: list(directory.glob("*.gz")))
    engine.ok("kill", ident)
    engine.ok("wait", ident)
    assert engine.ok("logs", ident) + "\n" == wanted
    assert engine.ok("logs", "--tail", "20000", ident) + "\n" == wanted[wanted.index("10001\n") :]
    engine.ok("rm", ident)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_follower_ends_with_the_run_and_sees_all_runs(engine: Engine, driver: str) -> None:
    """As in Docker: a restart ends it, and the next one begins with what there was."""
    ident = engine.ok(
        "run", "-d", "--log-driver", driver, IMAGE, "sh", "-c", "echo up; exec sleep 1000"
    )
    first = engine.popen("logs", "-f", ident, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == b"up\n"
    engine.ok("restart", "--timeout", "0", ident)
    assert first.communicate(timeout=60)[0] == b""
    second = engine.popen("logs", "-f", ident, stdout=subprocess.PIPE)
    assert second.stdout is not None
    assert [second.stdout.readline() for _ in range(2)] == [b"up\n", b"up\n"]
    engine.ok("rm", "-f", ident)
    assert second.communicate(timeout=60)[0] == b""
    assert second.returncode == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_output_is_kept_while_no_daemon_runs(fresh_engine: Engine, driver: str) -> None:
    engine = fresh_engine
    script = "echo first; while [ ! -e /go ]; do sleep 0.1; done; echo second; exec sleep 1000"
    ident = engine.ok("run", "-di", "--log-driver", driver, IMAGE, "sh", "-c", script)
    wait_for("the first line", lambda: engine.ok("logs", ident) == "first")
    engine.ok("exec", ident, "sh", "-c", "(sleep 1; touch /go) &")
    engine.kill()
    time.sleep(1.5)
    engine.start()
    wait_for("the second line", lambda: engine.ok("logs", ident) == "first\nsecond")
    engine.ok("rm", "-f", ident)


def _limit_files(pid: int, size: int) -> None:
    """Let ``pid`` make no file larger than ``size``: a full disk, for it alone (EFBIG)."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_full_disk_stops_nobody_and_is_said(
    fresh_engine: Engine, driver: str, *, restarted: bool
) -> None:
    """Also to a daemon that was not there when the container began."""
    engine = fresh_engine
    script = "while read word; do echo $word; done"
    ident = engine.ok(
        "run", "-di", "--name", "full", "--log-driver", driver, IMAGE, "sh", "-c", script
    )
    if restarted:
        engine.kill()
        engine.start()
    state = read_state(engine.data / "containers" / ident)
    assert state is not None

    def say(word: str) -> None:
        engine.ok("exec", ident, "sh", "-c", f"echo {word} >/proc/1/fd/1")

    say("kept")
    wait_for("a first line", lambda: engine.ok("logs", ident) == "kept")
    _limit_files(state.shim_pid, 8)
    say("lost")
    wait_for("the trouble is said", lambda: "container full: cannot write the log" in _log(engine))
    say("lost")
    assert engine.ok("logs", ident) == "kept"
    assert engine.ok("inspect", "--format", "{{.State.Status}}", ident) == "running"
    _limit_files(state.shim_pid, resource.RLIM_INFINITY)
    say("after")
    wait_for("the log goes on", lambda: engine.ok("logs", ident) == "kept\nafter")
    wait_for("that is said", lambda: "container full: the log is written again" in _log(engine))
    assert _log(engine).count("cannot write the log") == 1
    engine.ok("rm", "-f", ident)


def _log(engine: Engine) -> str:
    return engine.log.read_text()


def test_a_shim_that_is_killed_leaves_a_log_that_is_read_and_goes_on(fresh_engine: Engine) -> None:
    engine = fresh_engine
    ident = engine.ok(
        "run",
        "-d",
        "--log-driver",
        "local",
        IMAGE,
        "sh",
        "-c",
        "while :; do seq 1000; sleep 0.05; done",
    )
    wait_for("output", lambda: engine.ok("logs", "--tail", "1", ident))
    state = read_state(engine.data / "containers" / ident)
    assert state is not None
    os.kill(state.shim_pid, signal.SIGKILL)
    engine.ok("wait", ident)
    before = engine.ok("logs", ident).splitlines()
    assert before[:3] == ["1", "2", "3"]
    expected = [str(index % 1000 + 1) for index in range(len(before))]
    assert before == expected
    engine.ok("start", ident)
    wait_for("more", lambda: len(engine.ok("logs", ident).splitlines()) > len(before) + 1000)
    engine.ok("kill", ident)
    after = engine.ok("logs", ident).splitlines()
    assert after[: len(before)] == before
    assert after[len(before) : len(before) + 2] == ["1", "2"]
    engine.ok("rm", "-f", ident)
