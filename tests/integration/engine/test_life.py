"""The life of containers through the daemon: states, exit codes, names, restarts, health."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.support.api import until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
QUIET = ("--network", "none")


def _state(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.ok("inspect", name))[0]["State"]
    return found


def _run(engine: Engine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return engine.run("run", "--rm", *QUIET, *arguments)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 42"), 42),
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
        (("no-such-program",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_exit_codes(engine: Engine, command: tuple[str, ...], code: int) -> None:
    assert _run(engine, IMAGE, *command).returncode == code


def test_missing_command_leaves_nothing_with_rm_and_a_reason_without(engine: Engine) -> None:
    done = engine.run("run", "--name", "bad", *QUIET, IMAGE, "no-such-program")
    assert done.returncode == 127
    state = _state(engine, "bad")
    assert state["Status"] == "created"
    assert state["ExitCode"] == 127
    assert "no-such-program" in state["Error"]
    engine.ok("rm", "bad")


@pytest.mark.parametrize("network", ["none", "slirp4netns", "bridge"])
def test_a_sandbox_that_fails_is_the_reason_and_changes_no_state(
    engine: Engine, network: str
) -> None:
    """Its network is connected while it is made, which may fail because of it, or not."""
    made = engine.ok("create", "--network", network, "--user", "nosuch", IMAGE, "true")
    before = _state(engine, made)
    for _ in range(3):
        done = engine.run("start", made)
        assert done.returncode == 1
        assert "unable to find user nosuch" in done.stderr
        state = _state(engine, made)
        assert "unable to find user nosuch" in state.pop("Error")
        assert state.pop("ExitCode") == 125
        assert state == {key: before[key] for key in state}
    engine.ok("rm", made)


def test_states_follow_the_process(engine: Engine) -> None:
    engine.ok("create", "--name", "life", *QUIET, IMAGE, "sleep", "1000")
    assert _state(engine, "life")["Status"] == "created"
    engine.ok("start", "life")
    running = _state(engine, "life")
    assert running["Status"] == "running"
    assert running["Pid"] > 0
    engine.ok("stop", "-t", "0", "life")
    stopped = _state(engine, "life")
    assert (stopped["Status"], stopped["ExitCode"], stopped["Pid"]) == ("exited", 137, 0)
    engine.ok("start", "life")
    engine.ok("kill", "life")
    assert engine.ok("wait", "life") == "137"
    engine.ok("rm", "life")


def test_stop_sends_the_stop_signal_first(engine: Engine) -> None:
    script = "trap 'echo got it; exit 3' USR1; echo up; while true; do sleep 0.1; done"
    engine.ok(
        "run", "-d", "--name", "sig", "--stop-signal", "USR1", *QUIET, IMAGE, "sh", "-c", script
    )
    with engine.popen("logs", "-f", "sig", stdout=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"up\n"
        engine.ok("stop", "sig")
        assert logs.stdout.read() == b"got it\n"
    assert _state(engine, "sig")["ExitCode"] == 3
    engine.ok("rm", "sig")


def test_names_are_unique_and_reusable(engine: Engine) -> None:
    first = engine.ok("create", "--name", "taken", *QUIET, IMAGE)
    done = engine.run("create", "--name", "taken", *QUIET, IMAGE)
    assert done.returncode != 0
    assert f'is already in use by container "{first}"' in done.stderr
    engine.ok("rename", "taken", "other")
    engine.ok("create", "--name", "taken", *QUIET, IMAGE)
    engine.ok("rm", "taken", "other")


def test_prefixes_and_unknown_names(engine: Engine) -> None:
    made = engine.ok("create", "--name", "pre", *QUIET, IMAGE)
    assert json.loads(engine.ok("inspect", made[:10]))[0]["Id"] == made
    done = engine.run("start", "nobody")
    assert "No such container: nobody" in done.stderr
    engine.ok("rm", made[:12])


def test_running_containers_are_not_removed_without_force(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "keep", *QUIET, IMAGE, "sleep", "1000")
    done = engine.run("rm", "keep")
    assert done.returncode != 0
    assert "container is running" in done.stderr
    engine.ok("rm", "-f", "keep")


def test_restart_policy_counts_and_gives_up(engine: Engine) -> None:
    engine.ok(
        "run", "-d", "--name", "again", "--restart", "on-failure:2", *QUIET,
        IMAGE, "sh", "-c", "echo ran; exit 5",
    )  # fmt: skip
    until(lambda: _state(engine, "again")["Status"] == "exited")
    found = json.loads(engine.ok("inspect", "again"))[0]
    assert found["RestartCount"] == 2
    assert found["State"]["ExitCode"] == 5
    assert engine.ok("logs", "again").split() == ["ran"] * 3
    engine.ok("rm", "again")


def test_a_stopped_container_is_not_restarted(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "final", "--restart", "always", *QUIET, IMAGE, "sleep", "1000")
    engine.ok("stop", "-t", "0", "final")
    assert _state(engine, "final")["Status"] == "exited"
    engine.ok("rm", "final")


@pytest.mark.parametrize(("probe", "status"), [("true", "healthy"), ("exit 1", "unhealthy")])
def test_health(engine: Engine, probe: str, status: str) -> None:
    with engine.popen(
        "events", "--filter", f"event=health_status: {status}", "--format", "{{.Action}}",
        stdout=subprocess.PIPE,
    ) as events:  # fmt: skip
        engine.ok(
            "run", "-d", "--name", "sick", "--health-cmd", probe, "--health-interval", "50ms",
            "--health-retries", "2", *QUIET, IMAGE, "sleep", "1000",
        )  # fmt: skip
        assert events.stdout is not None
        assert status.encode() in events.stdout.readline()
        events.terminate()
    assert _state(engine, "sick")["Health"]["Status"] == status
    engine.ok("rm", "-f", "sick")


def test_exec(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "box", "-e", "A=1", *QUIET, IMAGE, "sleep", "1000")
    assert engine.ok("exec", "-e", "B=2", "box", "sh", "-c", "echo $A$B") == "12"
    assert engine.ok("exec", "-i", "box", "cat", input="through") == "through"
    assert engine.run("exec", "box", "sh", "-c", "exit 9").returncode == 9
    assert engine.run("exec", "box", "no-such").returncode == 127
    engine.ok("rm", "-f", "box")


def test_stdin_is_passed_whole_and_half_closed(engine: Engine) -> None:
    data = bytes(range(256)) * 40_000
    done = subprocess.run(
        _command(engine, "run", "--rm", "-i", *QUIET, IMAGE, "sha256sum"),
        env=engine.env,
        input=data,
        capture_output=True,
        timeout=60,
        check=True,
    )
    import hashlib

    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def _command(engine: Engine, *arguments: str) -> list[str]:
    del engine
    from tests.support.engine import program

    return [*program("rootless"), *arguments]


def test_files_come_and_go(engine: Engine, docker_cli: Any) -> None:
    engine.ok("create", "--name", "files", *QUIET, IMAGE, "cat", "/srv/in")
    put = subprocess.run(
        ["tar", "c", "-C", "/etc", "hostname"], capture_output=True, check=True
    ).stdout
    done = subprocess.run(
        ["docker", "-H", f"unix://{engine.socket}", "cp", "-", "files:/tmp"],
        env=engine.env, input=put, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert docker_cli("diff", "files").stdout.splitlines() == ["C /tmp", "A /tmp/hostname"]
    engine.ok("rm", "files")


def test_commit_and_run_the_result(engine: Engine, docker_cli: Any) -> None:
    engine.ok("run", "--name", "base", *QUIET, IMAGE, "sh", "-c", "echo kept > /kept")
    made = docker_cli("commit", "base", "committed:1").stdout.strip()
    assert made.startswith("sha256:")
    assert engine.ok("run", "--rm", *QUIET, "committed:1", "cat", "/kept") == "kept"
    engine.ok("rm", "base")
    engine.ok("rmi", "committed:1")
    assert "No such image" in engine.run("inspect", "--type", "image", "committed:1").stderr


def test_volumes_keep_data_and_anonymous_ones_go(engine: Engine) -> None:
    engine.ok("volume", "create", "data")
    engine.ok("run", "--rm", "-v", "data:/d", "-v", "/anon", *QUIET, IMAGE, "touch", "/d/x")
    assert engine.ok("run", "--rm", "-v", "data:/d", *QUIET, IMAGE, "ls", "/d") == "x"
    assert engine.ok("volume", "ls", "--quiet") == "data"
    engine.ok("create", "--name", "user", "-v", "data:/d", *QUIET, IMAGE)
    done = engine.run("volume", "rm", "data")
    assert "volume is in use" in done.stderr
    engine.ok("rm", "user")
    engine.ok("volume", "rm", "data")


def test_the_policy_denies_with_reason_and_nothing_is_left(engine: Engine) -> None:
    done = _run(engine, "-v", f"{engine.data}:/x", IMAGE, "true")
    assert done.returncode == 125
    assert "mounts.engine" in done.stderr
    assert engine.containers() == []


def test_userns_auto_gives_ids_of_its_own(engine: Engine) -> None:
    script = "awk '$1==0 {print $2}' /proc/self/uid_map; sleep 1000"
    for name in ("a1", "a2"):
        engine.ok(
            "run", "-d", "--name", name, "--userns", "auto", *QUIET, IMAGE, "sh", "-c", script
        )
    starts = set()
    for name in ("a1", "a2"):
        with engine.popen("logs", "-f", name, stdout=subprocess.PIPE) as logs:
            assert logs.stdout is not None
            starts.add(int(logs.stdout.readline()))
            logs.terminate()
    engine.ok("rm", "-f", "a1", "a2")
    assert len(starts) == 2
    # 0 is the user and 1… the ids of shared containers.
    assert all(start > 65536 for start in starts)


def test_seccomp_log_names_the_denied_calls(engine: Engine) -> None:
    done = _run(engine, "--security-opt", "seccomp-log", IMAGE, "unshare", "-m", "true")
    assert done.returncode != 0
    assert "denied by seccomp: unshare (1 time)" in done.stderr
    quiet = _run(engine, "--security-opt", "seccomp-log", IMAGE, "true")
    assert quiet.stderr == ""
    without = _run(engine, IMAGE, "unshare", "-m", "true")
    assert "denied by seccomp" not in without.stderr


POLICY = """\
apiVersion: rootless.dev/v1alpha1
kind: Policy
metadata:
  name: only-one
spec:
  images:
    allow: ["docker.io/library/other:*"]
"""


def test_the_policy_says_which_images_run(fresh_engine: Engine) -> None:
    engine = fresh_engine
    assert engine.run("run", "--rm", *QUIET, IMAGE, "true").returncode == 0
    (engine.root / "c/rootless").mkdir(exist_ok=True)
    (engine.root / "c/rootless/policy.yaml").write_text(POLICY)
    done = engine.run("run", "--rm", *QUIET, IMAGE, "true")
    assert done.returncode == 125
    assert "images.allowed" in done.stderr
    planned = engine.run("run", "--dry-run", *QUIET, IMAGE, "true")
    assert "images.allowed" in planned.stdout + planned.stderr
    (engine.root / "c/rootless/policy.yaml").unlink()
    assert engine.run("run", "--rm", *QUIET, IMAGE, "true").returncode == 0
