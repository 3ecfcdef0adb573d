"""What the kernel shows, read and compared with a record."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from rootless.model.mounts import MountSpec
from rootless.model.request import Resources
from rootless.model.spec import ContainerSpec, DeviceSpec, SelinuxSpec
from rootless.policy.inputs.body import container_spec
from rootless.policy.kernel import (
    Companion,
    KernelView,
    body_as_seen,
    drifts,
    look,
    parse_id_map,
    parse_listening,
    parse_mountinfo,
)
from rootless.policy.mounted import Mounted
from rootless.policy.paths import MountTable
from tests.unit.policy.cases import SPEC, spec

NONE: tuple[str, ...] = ()
SEEN = KernelView(
    uid=1000,
    gid=1000,
    capabilities={"Bnd": ("CAP_CHOWN",), "Eff": NONE, "Prm": NONE, "Inh": NONE, "Amb": NONE},
    no_new_privileges=True,
    filtered=True,
    shared=frozenset(),
    outside_root=100000,
    mounts=(
        Mounted("/", "/", "overlay", read_only=False),
        Mounted("/etc/hosts", "/x/hosts", "ext4", read_only=False),
        Mounted("/proc", "/", "proc", read_only=False),
        Mounted("/sys", "/", "sysfs", read_only=True),
        Mounted("/dev", "/", "tmpfs", read_only=False),
        Mounted("/dev/null", "/null", "devtmpfs", read_only=False),
        Mounted("/proc/kcore", "/null", "devtmpfs", read_only=False),
        Mounted("/proc/sys", "/sys", "proc", read_only=True),
        Mounted("/sys/firmware", "/", "tmpfs", read_only=True),
    ),
    present=frozenset({"/proc/kcore", "/proc/sys", "/sys/firmware"}),
    companions=(Companion(7, "sh", frozenset({"CAP_CHOWN"}), True, True),),
)
OWN = 4711
TABLE = MountTable((("/", ("8:1", "/")), ("/home", ("8:2", "/")), ("/home/in", ("8:3", "/"))))


def mounted(*more: Mounted, gone: str = "") -> dict[str, Any]:
    return {"mounts": (*(m for m in SEEN.mounts if m.point != gone), *more)}


def fields(recorded: ContainerSpec, seen: KernelView) -> set[str]:
    return {drift.field for drift in drifts(recorded, seen, OWN, TABLE)}


def test_what_agrees_is_no_drift() -> None:
    assert fields(SPEC, SEEN) == set()


@pytest.mark.parametrize(
    ("recorded", "change", "field"),
    [
        (SPEC, {"capabilities": {**SEEN.capabilities, "Bnd": ("CAP_SYS_ADMIN",)}}, "CapAdd"),
        (SPEC, {"capabilities": {**SEEN.capabilities, "Amb": ("CAP_NET_RAW",)}}, "CapAdd"),
        (SPEC, {"no_new_privileges": False}, "SecurityOpt"),
        (SPEC, {"filtered": False}, "SecurityOpt"),
        (SPEC, {"shared": frozenset({"pid"})}, "PidMode"),
        (SPEC, {"shared": frozenset({"net"})}, "NetworkMode"),
        (SPEC, {"outside_root": OWN}, "UsernsMode"),
        (SPEC, {"outside_root": 0}, "UsernsMode"),
        (spec(rootfs=replace(SPEC.rootfs, read_only=True)), {}, "ReadonlyRootfs"),
        (spec(process=replace(SPEC.process, user="1000")), {"uid": 0}, "User"),
        (SPEC, mounted(Mounted("/x", "/home", "ext4", False)), "Mounts"),
        (SPEC, mounted(Mounted("/usr", "/", "tmpfs", False)), "Mounts"),
        (SPEC, mounted(Mounted("/proc", "/", "tmpfs", False)), "Mounts"),
        (SPEC, mounted(Mounted("/dev/null", "/kmsg", "devtmpfs", False)), "Mounts"),
        (SPEC, mounted(gone="/proc/kcore"), "MaskedPaths"),
        (SPEC, mounted(Mounted("/proc/kcore", "/kcore", "proc", True)), "MaskedPaths"),
        (SPEC, mounted(Mounted("/sys/firmware", "/", "tmpfs", False)), "MaskedPaths"),
        (SPEC, mounted(gone="/proc/sys"), "ReadonlyPaths"),
        (SPEC, mounted(Mounted("/proc/sys", "/sys", "proc", False)), "ReadonlyPaths"),
        (SPEC, {"companions": (Companion(7, "x", frozenset({"CAP_BPF"}), True, True),)}, "Config"),
        (SPEC, {"companions": (Companion(7, "x", frozenset(), False, True),)}, "Config"),
        (SPEC, {"companions": (Companion(7, "x", frozenset(), True, False),)}, "Config"),
        (
            spec(sysctls=(("net.core.somaxconn", "5"),)),
            {"settings": {"net.core.somaxconn": "6"}},
            "Sysctls",
        ),
        (spec(resources=Resources(memory=100)), {"memory": 200}, "Memory"),
        (spec(selinux=SelinuxSpec("u:r:container_t:s0:c1,c2", "m")), {}, "ProcessLabel"),
        (
            spec(selinux=SelinuxSpec("u:r:container_t:s0:c1,c2")),
            {"label": "u:r:x_t:s0"},
            "ProcessLabel",
        ),
        (spec(resources=Resources(pids_limit=5)), {"pids": -1}, "PidsLimit"),
    ],
)
def test_what_is_weaker_is_drift(
    recorded: ContainerSpec, change: dict[str, Any], field: str
) -> None:
    [found] = fields(recorded, replace(SEEN, **change))
    assert found.endswith(field)


def test_what_was_asked_for_is_none() -> None:
    recorded = spec(
        mounts=(
            MountSpec("bind", "/x/", source="/home"),
            MountSpec("bind", "/y", source="/srv/y", read_only=True),
            MountSpec("tmpfs", "/dev/shm"),
        ),
        devices=(DeviceSpec("/dev/kvm", "/dev/kvm", "rw"),),
        resources=Resources(memory=100),
        sysctls=(("net.ipv4.ping_group_range", "0  5"), ("net.x", "1")),
    )
    change = mounted(
        Mounted("/x", "/", "ext4", False, "8:2"),
        Mounted("/x/in", "/", "ext4", False, "8:3"),
        Mounted("/y", "/srv/y", "ext4", True, "8:1"),
        Mounted("/dev/shm", "/", "tmpfs", False),
        Mounted("/dev/kvm", "/kvm", "devtmpfs", False),
    )
    settings = {"net.ipv4.ping_group_range": "0 5"}
    seen = replace(SEEN, **change, memory=100, settings=settings)
    assert fields(recorded, seen) == set()


@pytest.mark.parametrize(
    ("wanted", "mount", "drift"),
    [
        (MountSpec("bind", "/x", source="/srv"), Mounted("/x", "/srv", "ext4", False, "8:1"), 0),
        (MountSpec("bind", "/x", source="/srv"), Mounted("/x", "/srv/a", "ext4", False, "8:1"), 0),
        (MountSpec("bind", "/x", source="/srv"), Mounted("/x", "/a//deleted", "", False, "8:1"), 0),
        (MountSpec("bind", "/x", source="/srv"), Mounted("/x", "/etc", "ext4", False, "8:1"), 1),
        (MountSpec("bind", "/x", source="/srv"), Mounted("/x", "/srv", "ext4", False, "8:9"), 1),
        (MountSpec("bind", "/x", source="/srv"), Mounted("/x", "/", "proc", False, "0:9"), 1),
        (MountSpec("bind", "/x", source="/srv", read_only=True),
         Mounted("/x", "/srv", "ext4", False, "8:1"), 1),
        (MountSpec("tmpfs", "/x"), Mounted("/x", "/srv", "ext4", False, "8:1"), 1),
        (MountSpec("bind", "/x", source="/srv"), Mounted("/x/in", "/", "ext4", False, "8:3"), 1),
        (MountSpec("bind", "/x", source="/home", recursive=False),
         Mounted("/x/in", "/", "ext4", False, "8:3"), 1),
    ],
)  # fmt: skip
def test_a_target_shows_its_source_and_nothing_else(
    wanted: MountSpec, mount: Mounted, drift: int
) -> None:
    seen = replace(SEEN, **mounted(mount))
    assert len(fields(spec(mounts=(wanted,)), seen)) == drift


def test_this_very_process_shares_everything() -> None:
    seen = look(os.getpid())
    assert {"pid", "net", "user", "mnt"} <= seen.shared
    found = fields(SPEC, seen)
    assert {"HostConfig.PidMode", "HostConfig.NetworkMode", "HostConfig"} <= found


def test_the_kernels_files_are_read() -> None:
    line = r"36 35 98:0 /a\040b /mnt\011x ro,noatime master:1 shared:2 - ext3 /dev/root rw"
    assert parse_mountinfo(line) == (Mounted("/mnt\tx", "/a b", "ext3", True, "98:0"),)
    assert parse_id_map("  0 100000 1000\n 5 7 1\n") == ((0, 100000, 1000), (5, 7, 1))
    head = "  sl  local_address rem_address   st\n"
    rows = "   0: 0100007F:1F90 00000000:0000 0A\n   1: 00000000:0016 00000000:0000 01\n"
    assert parse_listening(head + rows) == (8080,)


def test_the_policy_sees_what_the_kernel_shows() -> None:
    record = {
        "HostConfig": {"CapAdd": None, "SecurityOpt": ["label=disable"], "Memory": 7},
        "Config": {"User": ""},
    }
    seen = replace(
        SEEN, filtered=False, no_new_privileges=False, shared=frozenset({"pid"}), memory=-1
    )
    shown = container_spec(body_as_seen(record, seen))
    assert shown.seccomp.kind == "unconfined"
    assert not shown.privileges.no_new_privileges
    assert shown.privileges.capabilities == ("CAP_CHOWN",)
    assert shown.namespaces.pid == "host"
    assert shown.resources.memory == 0
    assert shown.process.user == "1000:1000"
    kept = container_spec(body_as_seen({"HostConfig": {}, "Config": {}}, SEEN))
    assert kept.seccomp.kind == "default"
    assert kept.privileges.no_new_privileges
