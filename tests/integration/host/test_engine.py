"""The main job on a real engine, through the fixtures every integration test uses."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from rootless.linux import procfs
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox:latest"


def test_run_prints_and_passes_the_exit_status_on(engine: Engine) -> None:
    assert engine.ok("run", "--rm", IMAGE, "echo", "hello") == "hello"
    assert engine.run("run", "--rm", IMAGE, "sh", "-c", "exit 7").returncode == 7
    assert engine.run("run", "--rm", IMAGE, "/no/such/program").returncode == 127
    assert engine.run("run", "--rm", IMAGE, "/etc/passwd").returncode == 126


def test_container_root_is_a_subordinate_id(engine: Engine) -> None:
    container = engine.ok("run", "--detach", IMAGE, "sleep", "600")
    try:
        pid = int(engine.ok("inspect", "--format", "{{.State.Pid}}", container))
        status = procfs.status(pid)
        uids = {int(word) for word in status["Uid"].split()}
        assert os.getuid() not in uids
        assert 0 not in uids
        assert min(uids) > 65_535
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert procfs.pid_inside(pid) == 1
    finally:
        engine.ok("rm", "--force", container)


def test_docker_client_sees_the_same(engine: Engine, docker_cli: DockerCli) -> None:
    done = docker_cli("run", "--rm", IMAGE, "echo", "through docker")
    assert (done.returncode, done.stdout) == (0, "through docker\n"), done.stderr
    container = engine.ok("create", "--name", "seen", IMAGE, "true")
    listed = docker_cli("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}}")
    assert listed.stdout == f"{container} seen\n"
    assert docker_cli("rm", "seen").returncode == 0


def test_the_command_starts_the_daemon_on_demand(fresh_engine: Engine) -> None:
    fresh_engine.stop()
    assert fresh_engine.ok("run", "--rm", IMAGE, "echo", "up") == "up"
    assert re.fullmatch(
        r"\d+", (fresh_engine.root / "r/rootless/rootlessd.pid").read_text().strip()
    )


def test_killed_daemon_loses_no_container(fresh_engine: Engine) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 1; done"
    container = fresh_engine.ok("run", "--detach", IMAGE, "sh", "-c", script)
    pid = fresh_engine.ok("inspect", "--format", "{{.State.Pid}}", container)
    fresh_engine.kill()
    assert Path(f"/proc/{pid}").exists()
    fresh_engine.start()
    assert fresh_engine.ok("inspect", "--format", "{{.State.Pid}}", container) == pid
    fresh_engine.ok("stop", container)
    assert fresh_engine.ok("wait", container) == "5"
    assert fresh_engine.ok("logs", container) == "up\nbye"
    fresh_engine.ok("rm", container)
    assert fresh_engine.leftovers() == []


def test_doctor_says_that_containers_can_run(engine: Engine) -> None:
    assert "can run containers here." in engine.ok("doctor")
