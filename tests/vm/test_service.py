"""The daemon as a unit of the user's systemd: socket activation, delegation, upgrades in place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import SECONDS, program

IMAGE = "rootless/busybox"
pytestmark = pytest.mark.short


def _run(*words: str) -> str:
    """A command as the user types it; it must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def _rootless(*words: str) -> str:
    return _run(*program("rootless"), *words)


@pytest.fixture
def service() -> Iterator[None]:
    """The units are installed and the socket is enabled; afterwards they are gone."""
    _rootless("system", "service", "install")
    try:
        yield
    finally:
        _rootless("system", "service", "uninstall")
    assert not (Path.home() / ".config/systemd/user/rootless.service").exists()


def _main_pid() -> int:
    return int(_run("systemctl", "--user", "show", "-P", "MainPID", "rootless.service"))


@pytest.mark.usefixtures("service")
def test_the_service_starts_by_its_socket_and_containers_outlive_it() -> None:
    assert _main_pid() == 0, "nobody has asked yet"
    script = "cat /sys/fs/cgroup/memory.max; exec sleep 9000"
    ident = _rootless(
        "run", "-d", "--network", "none", "--memory", "64m", IMAGE, "sh", "-c", script
    )
    try:
        first = _main_pid()
        assert first
        assert "rootless.service" in Path(f"/proc/{first}/cgroup").read_text()
        assert _rootless("logs", ident) == str(64 << 20)
        inner = int(_rootless("inspect", "-f", "{{.State.Pid}}", ident))
        _run("systemctl", "--user", "restart", "rootless.service")
        assert _rootless("inspect", "-f", "{{.State.Pid}}", ident) == str(inner)
        assert _main_pid() != first
        os.kill(inner, 0)
        assert _rootless("exec", ident, "echo", "still here") == "still here"
    finally:
        _rootless("rm", "-f", ident)
