"""Real cgroups in the subtree that ``rootless setup`` delegates: freeze, kill, remove."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.errors import HostUnsupported, SyscallError
from rootless.linux import cgroupfs, cgrouplimits, procfs
from rootless.model.facts import CgroupFacts
from rootless.model.request import Resources

pytestmark = pytest.mark.integration


@pytest.fixture
def facts() -> CgroupFacts:
    found = cgroupfs.find()
    if not found.delegated:
        pytest.skip("host lacks delegated cgroup controllers: no subtree of our own")
    cgroupfs.prepare(found)
    return found


@pytest.fixture
def cgroup(facts: CgroupFacts) -> Iterator[str]:
    path = cgroupfs.create(facts, f"t{os.getpid()}", parent="test-parent")
    yield path
    cgroupfs.remove(path)
    os.rmdir(Path(path).parent)
    assert not os.path.exists(path)


def _sleeper(cgroup: str) -> subprocess.Popen[bytes]:
    """A process with a child, both in the cgroup, that says when they are there and on SIGUSR1."""
    script = (
        f"echo 0 > {cgroup}/cgroup.procs; trap 'echo got' USR1; sleep 600 & echo up; wait; wait"
    )
    child = subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    return child


def _end(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None
    child.stdout.close()
    return child.wait()


def test_prepare_twice_keeps_the_subtree_usable(facts: CgroupFacts) -> None:
    cgroupfs.prepare(facts)
    again = cgroupfs.find()
    assert again == facts
    assert cgroupfs.pids(Path(facts.delegated)) == []


def test_freeze_thaw_and_kill(cgroup: str) -> None:
    child = _sleeper(cgroup)
    assert len(cgroupfs.pids(Path(cgroup))) == 2
    cgroupfs.freeze(cgroup, frozen=True)
    # A frozen process runs no handler: the signal stays pending until it thaws.
    child.send_signal(signal.SIGUSR1)
    assert int(procfs.status(child.pid)["ShdPnd"], 16) >> (signal.SIGUSR1 - 1) & 1
    cgroupfs.freeze(cgroup, frozen=False)
    assert child.stdout is not None
    assert child.stdout.readline() == b"got\n"
    cgroupfs.freeze(cgroup, frozen=True)
    cgroupfs.kill(cgroup)
    assert _end(child) == -signal.SIGKILL


def test_remove_kills_what_runs_below(facts: CgroupFacts) -> None:
    path = cgroupfs.create(facts, f"r{os.getpid()}")
    os.mkdir(f"{path}/nested")
    child = _sleeper(f"{path}/nested")
    cgroupfs.remove(path)
    assert not os.path.exists(path)
    assert _end(child) == -signal.SIGKILL
    cgroupfs.remove(path)
    cgroupfs.kill(path)


def test_sample_counts_this_machine(cgroup: str) -> None:
    child = _sleeper(cgroup)
    assert cgroupfs.sample(cgroup).cpu_usage > 0
    cgroupfs.kill(cgroup)
    assert _end(child) == -signal.SIGKILL


def test_limit_the_subtree_cannot_keep_is_refused(cgroup: str, facts: CgroupFacts) -> None:
    if "memory" in facts.controllers:
        cgrouplimits.write_limits(cgroup, Resources(memory=64 << 20), facts)
        assert Path(cgroup, "memory.max").read_text().strip() == str(64 << 20)
    else:
        with pytest.raises(HostUnsupported, match="'memory' is not in"):
            cgrouplimits.write_limits(cgroup, Resources(memory=64 << 20), facts)


def test_kernel_refuses_nonsense(cgroup: str) -> None:
    with pytest.raises(SyscallError, match=r"ERANGE|EINVAL"):
        cgroupfs.write(Path(cgroup) / "cgroup.freeze", "7")


def test_pids_of_a_pid_namespace() -> None:
    """A joined process (as exec makes) is found, though its parent is outside."""
    child = subprocess.Popen(
        [
            *"unshare --user --map-root-user --pid --fork --kill-child sh -c".split(),
            "sleep 600 & echo up; wait",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    (init,) = [p for p in procfs.descendants(child.pid) if procfs.pid_inside(p) == 1]
    joined = subprocess.Popen(
        [
            *f"nsenter --target {init} --user --preserve-credentials --pid sh -c".split(),
            "echo up; exec sleep 600",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert joined.stdout is not None
    assert joined.stdout.readline() == b"up\n"
    found = procfs.pids_of_namespace(init)
    below = {pid for one in (child, joined) for pid in procfs.descendants(one.pid)}
    child.kill()
    for process in (child, joined):
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert found[0] == init
    assert len(found) == 3
    assert set(found) == below
