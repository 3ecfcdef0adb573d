"""cgroup v2: finding our place, conversions, refusals, control files in a directory of fakes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import HostUnsupported, InvalidInput, SyscallError
from rootless.linux import cgroupfs, cgrouplimits
from rootless.model.facts import CgroupFacts
from rootless.model.request import Resources

ALL = CgroupFacts(2, "/sys/fs/cgroup", "/sys/fs/cgroup/mine", ("cpu", "cpuset", "io", "memory"))
HYBRID = """24 30 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
26 24 0:24 / /sys/fs/cgroup/unified rw,relatime shared:7 - cgroup2 cgroup2 rw
"""


def _tree(tmp_path: Path, own: str) -> tuple[Path, Path]:
    """A fake /proc and a cgroup2 directory; ``own`` is our path in it."""
    root = tmp_path / "cg"
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(f"26 24 0:24 / {root} rw - cgroup2 none rw\n")
    (proc / "self/cgroup").write_text(f"4:memory:/v1\n0::{own}\n")
    root.mkdir()
    (root / "cgroup.procs").touch()
    here = root / own.lstrip("/")
    here.mkdir(parents=True)
    for directory in (here, here.parent):
        (directory / "cgroup.procs").touch()
        (directory / "cgroup.subtree_control").touch()
        (directory / "cgroup.controllers").write_text("memory pids\n")
    return proc, root


def test_mount_point_of_hybrid_and_unified_hosts() -> None:
    assert cgroupfs.mount_point(HYBRID) == "/sys/fs/cgroup/unified"
    assert cgroupfs.mount_point("26 24 0:24 / /a\\040b rw - cgroup2 none rw\n") == "/a b"
    assert cgroupfs.mount_point("25 24 0:23 / /x rw - cgroup cgroup rw,memory\n") == ""


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/user.slice\n", "/user.slice"),
        ("9:pids:/a\n0::/b\n", "/b"),
        ("0::/gone (deleted)\n", "/gone"),
        ("9:pids:/a\n", ""),
    ],
)
def test_own_path(text: str, path: str) -> None:
    assert cgroupfs.own_path(text) == path


def test_find_delegated(tmp_path: Path) -> None:
    proc, root = _tree(tmp_path, "/app.slice/rootless.service")
    found = cgroupfs.find(proc=proc)
    assert found.delegated == f"{root}/app.slice/rootless.service"
    assert found.controllers == ("memory", "pids")


def test_find_looks_above_the_engines_own_leaf(tmp_path: Path) -> None:
    proc, root = _tree(tmp_path, f"/app.slice/{cgroupfs.ENGINE_LEAF}")
    assert cgroupfs.find(proc=proc).delegated == f"{root}/app.slice"


def test_a_service_finds_the_unit_of_its_containers_beside_its_own(tmp_path: Path) -> None:
    proc, root = _tree(tmp_path, "/app.slice/rootless.service")
    beside = root / "app.slice/rootless-containers.service"
    beside.mkdir()
    assert cgroupfs.find(proc=proc).delegated == f"{root}/app.slice/rootless.service"
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.controllers"):
        (beside / name).touch()
    assert cgroupfs.find(proc=proc).delegated == str(beside)


def test_find_without_delegation(tmp_path: Path) -> None:
    proc, root = _tree(tmp_path, "/session-1.scope")
    (root / "session-1.scope/cgroup.procs").unlink()
    found = cgroupfs.find(proc=proc)
    assert (found.version, found.root, found.delegated) == (2, str(root), "")
    (root / "cgroup.procs").unlink()
    assert cgroupfs.find(proc=proc) == cgroupfs.NONE
    (proc / "self/mountinfo").write_text("")
    assert cgroupfs.find(proc=proc) == cgroupfs.NONE


def test_create_below_parent_hands_controllers_on(tmp_path: Path) -> None:
    subtree = tmp_path / "mine"
    (subtree / "batch/jobs").mkdir(parents=True)
    for directory in (subtree, subtree / "batch", subtree / "batch/jobs"):
        (directory / "cgroup.subtree_control").write_text("cpu\n")
    facts = CgroupFacts(2, str(tmp_path), str(subtree), ("cpu", "memory"))
    path = cgroupfs.create(facts, "abc", parent="/batch/jobs")
    assert path == f"{subtree}/batch/jobs/abc"
    for directory in (subtree, subtree / "batch", subtree / "batch/jobs"):
        assert (directory / "cgroup.subtree_control").read_text() == "+memory"
    with pytest.raises(HostUnsupported, match="leaves the delegated subtree"):
        cgroupfs.create(facts, "abc", parent="../other")
    assert cgroupfs.create(cgroupfs.NONE, "abc") == ""


def test_write_names_file_value_and_errno(tmp_path: Path) -> None:
    with pytest.raises(SyscallError) as caught:
        cgroupfs.write(tmp_path / "memory.max", "5")
    assert caught.value.errno == errno.ENOENT
    assert "memory.max, '5'" in caught.value.message


def test_sample_reads_what_is_there(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 1\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n",
        "memory.current": "4096\n",
        "memory.max": "max\n",
        "memory.events": "oom 3\noom_kill 2\n",
        "memory.stat": "anon 7\nfile 8\n",
        "pids.current": "3\n",
        "pids.max": "64\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = cgroupfs.sample(str(tmp_path))
    assert (found.cpu_usage, found.cpu_user, found.cpu_system) == (5000, 3000, 2000)
    assert (found.io_read, found.io_write) == (11, 22)
    assert (found.memory_usage, found.memory_limit, found.oom_kills) == (4096, 0, 2)
    assert (found.pids, found.pids_limit) == (3, 64)
    assert found.memory_stat == (("anon", 7), ("file", 8))
    assert cgroupfs.sample(str(tmp_path / "gone")) == cgroupfs.CgroupSample()


@pytest.mark.parametrize(
    ("resources", "controller"),
    [
        (Resources(memory=1), "memory"),
        (Resources(memory_reservation=1), "memory"),
        (Resources(nano_cpus=1), "cpu"),
        (Resources(cpu_shares=2), "cpu"),
        (Resources(cpu_quota=1000), "cpu"),
        (Resources(cpuset_cpus="0"), "cpuset"),
        (Resources(blkio_weight=10), "io"),
        (Resources(blkio_read_bps=(("/dev/sda", 1),)), "io"),
    ],
)
def test_limit_without_its_controller_is_refused(resources: Resources, controller: str) -> None:
    lacking = CgroupFacts(2, "/cg", "/cg/mine", ("hugetlb",))
    with pytest.raises(HostUnsupported) as caught:
        cgrouplimits.check_resources(resources, lacking)
    assert caught.value.message == (
        f"{controller} limit requested but controller '{controller}' is not in "
        "/cg/mine/cgroup.controllers (has: hugetlb)"
    )
    assert "rootless setup" in str(caught.value.hint)
    nothing = CgroupFacts(2, "/cg", "", ("cpu", "cpuset", "io", "memory"))
    with pytest.raises(HostUnsupported, match=f"controller '{controller}' cannot be used"):
        cgrouplimits.check_resources(resources, nothing)
    with pytest.raises(HostUnsupported, match="no cgroup2 file system"):
        cgrouplimits.check_resources(resources, cgroupfs.NONE)
    cgrouplimits.check_resources(resources, ALL)


def test_no_limit_needs_no_host() -> None:
    cgrouplimits.check_resources(Resources(), cgroupfs.NONE)
    cgrouplimits.check_resources(Resources(pids_limit=10), cgroupfs.NONE)
    assert not cgrouplimits.keeps_pids(ALL)


def test_settings_that_cgroup_v2_has_not_are_refused() -> None:
    with pytest.raises(HostUnsupported, match="swappiness"):
        cgrouplimits.check_resources(Resources(memory_swappiness=0), ALL)
    with pytest.raises(HostUnsupported, match="OOM killer"):
        cgrouplimits.check_resources(Resources(oom_kill_disable=True), ALL)
    cgrouplimits.check_resources(Resources(memory_swappiness=-1), ALL)


@pytest.mark.parametrize(
    ("resources", "writes"),
    [
        (Resources(), ()),
        (Resources(memory=64), (("memory.max", "64"), ("memory.swap.max", "64"))),
        (
            Resources(memory=64, memory_swap=100),
            (("memory.max", "64"), ("memory.swap.max", "36")),
        ),
        (
            Resources(memory=64, memory_swap=-1),
            (("memory.max", "64"), ("memory.swap.max", "max")),
        ),
        (Resources(memory_reservation=9), (("memory.low", "9"),)),
        (Resources(nano_cpus=1_500_000_000), (("cpu.max", "150000 100000"),)),
        (Resources(nano_cpus=1), (("cpu.max", "1000 100000"),)),
        (Resources(cpu_quota=5000, cpu_period=20_000), (("cpu.max", "5000 20000"),)),
        (Resources(cpu_quota=-1), (("cpu.max", "max 100000"),)),
        (Resources(cpu_shares=1024), (("cpu.weight", "100"),)),
        (Resources(pids_limit=0), (("pids.max", "max"),)),
        (Resources(pids_limit=7), (("pids.max", "7"),)),
        (Resources(cpuset_cpus="0-1"), (("cpuset.cpus", "0-1"),)),
        (Resources(blkio_weight=1000), (("io.weight", "default 10000"),)),
    ],
)
def test_limit_writes(resources: Resources, writes: tuple[tuple[str, str], ...]) -> None:
    assert cgrouplimits.limit_writes(resources) == writes


def test_swap_rules() -> None:
    with pytest.raises(InvalidInput, match="needs a memory limit"):
        cgrouplimits.limit_writes(Resources(memory_swap=5))
    with pytest.raises(InvalidInput, match="larger than memory limit"):
        cgrouplimits.limit_writes(Resources(memory=6, memory_swap=5))


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262_144, 10_000), (1, 1)])
def test_cpu_weight_anchors(shares: int, weight: int) -> None:
    assert cgrouplimits.cpu_weight(shares) == weight


@given(st.integers(2, 262_144), st.integers(2, 262_144))
def test_cpu_weight_keeps_order(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert 1 <= cgrouplimits.cpu_weight(low) <= cgrouplimits.cpu_weight(high) <= 10_000


@given(st.integers(10, 1000))
def test_io_weight_range(weight: int) -> None:
    assert 1 <= cgrouplimits.io_weight(weight) <= 10_000


def test_device_must_be_a_block_device() -> None:
    with pytest.raises(InvalidInput, match="not a block device"):
        cgrouplimits.device_number("/dev/null")
    with pytest.raises(InvalidInput, match="No such file"):
        cgrouplimits.device_number("/dev/no-such-device")


def test_write_limits_skips_only_implied_swap(tmp_path: Path) -> None:
    (tmp_path / "memory.max").touch()
    cgrouplimits.write_limits(str(tmp_path), Resources(memory=64), ALL)
    assert (tmp_path / "memory.max").read_text() == "64"
    with pytest.raises(SyscallError, match=r"memory\.swap\.max"):
        cgrouplimits.write_limits(str(tmp_path), Resources(memory=64, memory_swap=65), ALL)
