"""What the kernel says of a container that asked for nothing: every protection, exactly.

Each line here is a protection that could be lost without any other test
noticing; an addition is one that somebody has to justify.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from rootless.linux.process import mask_of
from rootless.model.defaults import DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
RUN = ("run", "--rm", "--network", "none")

SAFE = {"nosuid", "nodev", "noexec"}
DEVICES = {"null", "zero", "full", "random", "urandom", "tty"}


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    fstype: str
    root: str
    options: frozenset[str]
    tags: tuple[str, ...]
    super_options: str


def mounts_of(text: str) -> dict[str, Mount]:
    """Mount points; of several on one point the last, which is what is seen."""
    found = {}
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        fields, (fstype, _, super_options) = head.split(), tail.split()
        options = frozenset(fields[5].split(",")) - {"relatime"}
        found[fields[4]] = Mount(fstype, fields[3], options, tuple(fields[6:]), super_options)
    return found


def test_mounts(engine: Engine) -> None:
    found = mounts_of(engine.ok(*RUN, IMAGE, "cat", "/proc/self/mountinfo"))
    expected = {
        "/": ("overlay", {"rw", "nosuid"}),
        "/proc": ("proc", {"rw", *SAFE}),
        "/sys": ("sysfs", {"ro", *SAFE}),
        "/sys/fs/cgroup": ("cgroup2", {"ro", *SAFE}),
        "/dev": ("tmpfs", {"rw", "nosuid"}),
        "/dev/pts": ("devpts", {"rw", "nosuid", "noexec"}),
        "/dev/shm": ("tmpfs", {"rw", *SAFE}),
        "/dev/mqueue": ("mqueue", {"rw", *SAFE}),
    }
    for point, (fstype, options) in expected.items():
        assert (found[point].fstype, found[point].options) == (fstype, options), point
    for path in READONLY_PATHS:
        if os.path.exists(path):
            assert (found[path].fstype, found[path].options) == ("proc", {"ro", *SAFE}), path
    for path in MASKED_PATHS:
        if os.path.isdir(path):
            mask = found[path]
            assert (mask.fstype, mask.options) == ("tmpfs", {"ro", *SAFE}), path
        elif os.path.exists(path):
            assert found[path].root == "/null", path
    files = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    for path in files:
        assert {"nosuid", "nodev"} <= found[path].options
    nodes = {f"/dev/{name}" for name in DEVICES}
    allowed = {*expected, *READONLY_PATHS, *MASKED_PATHS, *files, *nodes}
    assert set(found) <= allowed
    # Nothing mounted here shows elsewhere, nothing mounted elsewhere shows here.
    assert [point for point, mount in found.items() if mount.tags] == []
    assert "size=65536k" in found["/dev"].super_options
    assert "size=65536k" in found["/dev/shm"].super_options


def test_masked_and_read_only_paths_are_those_that_leak_or_harm() -> None:
    """The lists themselves: losing an entry must be somebody's decision."""
    assert {
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/key-users", "/proc/kmsg", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
        "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
        "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux", "/sys/kernel/debug",
        "/sys/kernel/security", "/sys/kernel/tracing",
    } <= set(MASKED_PATHS)  # fmt: skip
    assert {
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
    } <= set(READONLY_PATHS)  # fmt: skip


def test_devices(engine: Engine) -> None:
    """Only these nodes, and writing to /sys and to cgroups is refused."""
    script = (
        "find /dev ! -type d ! -type l; "
        "for f in /sys/kernel/uevent_seqnum /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/new; do "
        "  (echo 0 > $f) 2>&1; mkdir $f 2>&1; done"
    )
    lines = engine.ok(*RUN, IMAGE, "sh", "-c", f"{script}; true").splitlines()
    denied = [line for line in lines if "Read-only file system" in line or "File exists" in line]
    assert {line for line in lines if line.startswith("/dev/")} - {"/dev/pts/ptmx"} == {
        f"/dev/{name}" for name in DEVICES
    }
    assert len(denied) == 6


def test_credentials(engine: Engine) -> None:
    text = engine.ok(*RUN, IMAGE, "cat", "/proc/self/status", "/proc/self/uid_map")
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    status = {name: value.split() for name, _, value in lines}
    wanted = f"{mask_of(DEFAULT_CAPABILITIES):016x}"
    assert status["CapBnd"] == status["CapPrm"] == status["CapEff"] == [wanted]
    assert status["CapInh"] == status["CapAmb"] == ["0" * 16]
    assert status["NoNewPrivs"] == ["1"]
    assert (status["Seccomp"], status["Seccomp_filters"]) == (["2"], ["1"])
    assert status["Uid"] == status["Gid"] == ["0"] * 4
    assert status["Groups"] == []
    # An image could otherwise rely on signals that the engine's own programs ignore.
    assert status["SigBlk"] == status["SigIgn"] == ["0" * 16]
    first, owner, _ = text.splitlines()[-1].split()
    assert (first, owner) != ("0", str(os.getuid()))


def test_umask_session_and_descriptors(engine: Engine) -> None:
    # 3 is the directory that the shell reads.
    script = "umask; cut -d' ' -f6 /proc/self/stat; echo /proc/1/fd/*; pwd"
    output = engine.ok(*RUN, IMAGE, "sh", "-c", script).splitlines()
    assert output == ["0022", "1", "/proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2 /proc/1/fd/3", "/"]


def test_supplementary_groups_of_the_user_are_gone(engine: Engine) -> None:
    """setgroups(2) comes before the ids: what the user may read as a group, no container may."""
    output = engine.ok(*RUN, "--user", "5:6", IMAGE, "grep", "Groups", "/proc/self/status")
    assert output.split() == ["Groups:"]


def test_an_image_does_not_choose_signals(engine: Engine) -> None:
    """PID 1 of a container gets what its parent's exec left: SIGPIPE ends a writer."""
    done = engine.run(*RUN, IMAGE, "sh", "-c", "(yes; echo $? >&2) | head -n 1")
    assert str(128 + signal.SIGPIPE) in done.stderr


def test_an_exec_is_confined_as_the_container_is(engine: Engine) -> None:
    limit = ("--ulimit", "nofile=77:88")
    engine.ok("run", "-d", "--name", "box", *RUN[2:], *limit, IMAGE, "sleep", "1000")
    names = r"^(Cap|NoNew|Seccomp|Sig[BI])"
    shown = [
        engine.ok("exec", "box", "grep", "-E", names, f"/proc/{who}/status")
        for who in ("1", "self")
    ]
    assert shown[0] == shown[1]
    assert "NoNewPrivs:\t1" in shown[0]
    assert "Seccomp:\t2" in shown[0]
    assert engine.ok("exec", "box", "sh", "-c", "ulimit -n; ulimit -Hn").split() == ["77", "88"]
    engine.ok("rm", "-f", "box")
