"""The daemon as a unit of the user's systemd: socket activation, delegation, upgrades in place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.linux import cgroupfs
from tests.support.engine import SECONDS, program

IMAGE = "rootless/busybox"


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


def _cgroup_of(pid: int) -> list[str]:
    """The parts of its path."""
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::").split("/")


def _upgrade() -> None:
    """The package anew from its wheel, the units, and the daemon's restart, as docs/cli.md says."""
    (wheel,) = Path(os.environ["LANE_IN"]).glob("*.whl")
    pip = ("/opt/venv/bin/pip", "-q", "--python", sys.executable, "install", "--no-index")
    _run(*pip, "--no-deps", "--force-reinstall", str(wheel))
    _rootless("system", "service", "install")
    _restart()


def _restart() -> None:
    _run("systemctl", "--user", "restart", "rootless.service")


def _crash() -> None:
    os.kill(_main_pid(), signal.SIGKILL)


@pytest.fixture
def lasting(service: None) -> Iterator[str]:
    """A container of the service's that has a memory limit."""
    assert _main_pid() == 0, "nobody has asked yet"
    ident = _rootless("run", "-d", "--network", "none", "--memory", "64m", IMAGE, "sleep", "9000")
    try:
        yield ident
    finally:
        _rootless("rm", "-f", ident)


def _check_outlives(ident: str, end: Callable[[], None]) -> None:
    """The container goes on, and is the next daemon's, when this one ends by ``end``."""
    before = _main_pid()
    inner = _rootless("inspect", "-f", "{{.State.Pid}}", ident)
    end()
    assert _rootless("inspect", "-f", "{{.State.Pid}}", ident) == inner
    assert _main_pid() not in (0, before)
    os.kill(int(inner), 0)


@pytest.mark.short
def test_the_service_starts_by_its_socket_and_containers_outlive_it(lasting: str) -> None:
    assert _cgroup_of(_main_pid())[-1] == cgroupfs.SERVICE
    inner = int(_rootless("inspect", "-f", "{{.State.Pid}}", lasting))
    assert _cgroup_of(inner)[-2:] == [cgroupfs.BESIDE, lasting]
    _check_outlives(lasting, _restart)
    limit = ("cat", "/sys/fs/cgroup/memory.max")
    assert _rootless("exec", lasting, *limit) == str(64 << 20)
    other = ("run", "--rm", "--network", "none", "--memory", "32m", IMAGE)
    assert _rootless(*other, *limit) == str(32 << 20), "beside the container from before"


def test_containers_outlive_a_crash_and_an_upgrade(lasting: str) -> None:
    state = _run("loginctl", "show-user", "--property", "State", "--value", str(os.getuid()))
    assert state == "lingering", "nobody is logged in, so that what runs outlives every login"
    for end in (_crash, _upgrade):
        _check_outlives(lasting, end)
        assert _rootless("exec", lasting, "echo", "still here") == "still here"
