"""A container's cgroup goes with it, whatever happened to the daemon in between."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from rootless.engine import spare_cgroup
from rootless.linux import cgroupfs
from tests.support.engine import Engine

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"


@pytest.fixture(autouse=True)
def _subtree() -> None:
    if not cgroupfs.find().delegated:
        pytest.skip("host lacks delegated cgroup controllers: no delegated cgroup")


def _cgroups_of(container: str) -> list[str]:
    subtree = cgroupfs.find().delegated
    return [path for path, _, _ in os.walk(subtree) if path.endswith(f"/{container}")]


def test_removed_containers_leave_no_cgroup(fresh_engine: Engine) -> None:
    container = fresh_engine.ok("run", "--detach", IMAGE, "sleep", "600")
    assert _cgroups_of(container)
    fresh_engine.ok("rm", "--force", container)
    assert not _cgroups_of(container)


def test_the_next_start_is_safe_from_the_removal_of_the_cgroup_before(fresh_engine: Engine) -> None:
    container = fresh_engine.ok("run", "--detach", IMAGE, "sleep", "600")
    assert _cgroups_of(container)
    for _ in range(5):
        fresh_engine.ok("restart", "--timeout", "0", container)
    assert fresh_engine.ok("inspect", "--format", "{{.State.Status}}", container) == "running"
    fresh_engine.ok("rm", "--force", container)


@pytest.mark.parametrize("options", [(), ("--rm",)], ids=["kept", "--rm"])
def test_a_container_that_ends_while_the_daemon_is_away(
    fresh_engine: Engine, options: tuple[str, ...]
) -> None:
    container = fresh_engine.ok("run", "--detach", *options, IMAGE, "sleep", "2")
    assert _cgroups_of(container)
    pid = int(fresh_engine.ok("inspect", "--format", "{{.State.Pid}}", container))
    ended = os.pidfd_open(pid)
    fresh_engine.kill()
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)
    fresh_engine.start()
    if not options:
        fresh_engine.ok("rm", container)
    assert container not in fresh_engine.containers()
    assert not _cgroups_of(container)


SEEN = "tail -n 1 /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/new"


@pytest.mark.parametrize("options", [(), ("--pids-limit", "50")], ids=["spare", "no spare"])
def test_a_container_sees_its_own_cgroup_and_nothing_above(
    engine: Engine, options: tuple[str, ...]
) -> None:
    for _ in range(3):
        seen = engine.run("run", "--rm", *options, IMAGE, "sh", "-c", SEEN)
        root, *pids = seen.stdout.split()
        assert root == "0::/"
        assert "1" in pids
        assert "0" not in pids  # somebody of another pid namespace: the engine
        assert "Read-only file system" in seen.stderr
        if not options:
            _wait_for_spare(engine)


def test_an_exec_is_in_the_containers_cgroup(engine: Engine) -> None:
    container = engine.ok("run", "--detach", IMAGE, "sleep", "600")
    (cgroup,) = _cgroups_of(container)
    assert engine.ok("exec", container, "tail", "-n", "1", "/proc/self/cgroup") == "0::/"
    engine.ok("exec", "--detach", container, "sleep", "500")
    assert len(cgroupfs.pids(Path(cgroup))) == 2
    engine.ok("rm", "--force", container)


def _spare_cgroups(engine: Engine) -> list[str]:
    subtree = cgroupfs.find().delegated
    return [
        path
        for path in spare_cgroup.leftovers(subtree, str(engine.data))
        if os.path.basename(path) not in engine.containers()
    ]


def _wait_for_spare(engine: Engine) -> str:
    """The cgroup in which the spare's init waits."""
    while True:
        for path in _spare_cgroups(engine):
            if cgroupfs.pids(Path(path)):
                return path
        time.sleep(0.01)


def test_the_next_container_is_born_where_its_name_waits(
    fresh_engine: Engine,
) -> None:
    engine = fresh_engine  # with no spare of an earlier test
    engine.ok("run", "--rm", IMAGE, "true")
    path = _wait_for_spare(engine)
    container = engine.ok("run", "--detach", "--rm", IMAGE, "sleep", "600")
    assert os.path.basename(path) == container
    pid = int(engine.ok("inspect", "--format", "{{.State.Pid}}", container))
    assert cgroupfs.pids(Path(path)) == [pid]
    engine.ok("rm", "--force", container)
    assert not os.path.exists(path)


@pytest.mark.parametrize("shm", ["64m", "1m"], ids=["fits", "does not fit"])
def test_a_container_that_has_the_name_and_starts_later(fresh_engine: Engine, shm: str) -> None:
    engine = fresh_engine  # with no spare of an earlier test
    engine.ok("run", IMAGE, "true")
    path = _wait_for_spare(engine)
    named = engine.ok("create", "--shm-size", shm, IMAGE, "sleep", "600")
    assert os.path.basename(path) == named
    engine.ok("run", IMAGE, "true")
    assert _wait_for_spare(engine) != path
    engine.ok("start", named)
    assert len(cgroupfs.pids(Path(path))) == 1
    assert engine.ok("exec", named, "tail", "-n", "1", "/proc/self/cgroup") == "0::/"
    engine.purge()
    assert not os.path.exists(path)


def test_a_killed_daemon_leaves_no_cgroup_to_the_next(fresh_engine: Engine) -> None:
    fresh_engine.ok("run", "--rm", IMAGE, "true")
    path = _wait_for_spare(fresh_engine)
    fresh_engine.kill()
    assert os.path.isdir(path)
    fresh_engine.start()
    assert not os.path.exists(path)


def test_a_daemon_in_other_cgroups_finds_where_a_container_runs(fresh_engine: Engine) -> None:
    container = fresh_engine.ok("run", "--detach", IMAGE, "sleep", "600")
    (cgroup,) = _cgroups_of(container)
    fresh_engine.kill()
    other = Path(cgroupfs.find().delegated, f"other-{os.getpid()}")
    cgroupfs.make(str(other))
    before = Path(cgroupfs.find().root + cgroupfs.own_path(Path("/proc/self/cgroup").read_text()))
    cgroupfs.attach(str(other), os.getpid())
    try:
        fresh_engine.start()
    finally:
        cgroupfs.attach(str(before), os.getpid())
    fresh_engine.ok("exec", "--detach", container, "sleep", "500")
    assert len(cgroupfs.pids(Path(cgroup))) == 2
    fresh_engine.ok("rm", "--force", container)
    assert not os.path.exists(cgroup)
    fresh_engine.stop()
    cgroupfs.remove(str(other))
