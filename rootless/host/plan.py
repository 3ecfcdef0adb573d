"""Deciding what setup has to change: reads the machine, touches nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rootless.errors import Exhausted
from rootless.host.changes import (
    AddLine,
    CgroupSubtree,
    Change,
    Command,
    Mode,
    NewFile,
    OwnDirectory,
    Sysctl,
)
from rootless.host.checks.ids import WIDE
from rootless.host.checks.programs import libnftables, libseccomp
from rootless.host.checks.session import CONTROLLERS
from rootless.host.edit import read_lines
from rootless.host.facts import Host
from rootless.linux import cgroupfs, probe, selinux
from rootless.linux.subids import read_ranges
from rootless.resources import resource_path

_ALIGN = 1 << 16
_FIRST = 100_000
_LAST = (1 << 32) - 2
"""(uid_t)-1 means "leave alone" to chown(2) and is no id."""

_PROGRAMS = (
    ("newuidmap", "uidmap"),
    ("newgidmap", "uidmap"),
    ("fuse-overlayfs", "fuse-overlayfs"),
    ("slirp4netns", "slirp4netns"),
    ("busybox", "busybox-static"),
    ("catatonit", "catatonit"),
)
_DEVICES = (("/dev/fuse", "fuse", "fuse"), ("/dev/net/tun", "tun", "tun"))
"""Node, kernel module, KERNEL name in udev."""


def plan(host: Host, *, packages: bool = True) -> tuple[Change, ...]:
    """The changes this machine needs for the user, in order; empty when it is ready."""
    return (
        *(_packages(host) if packages else ()),
        *_subordinate_ids(host),
        *_devices(host),
        *_sysctls(host),
        *_session(host),
        *plan_selinux(host),
    )


def _packages(host: Host) -> Iterator[Change]:
    names = dict.fromkeys(package for program, package in _PROGRAMS if not host.program(program))
    if libseccomp(host).status == "missing":
        names["libseccomp2"] = None
    if libnftables(host).status == "missing":
        names["nftables"] = None
    if not names or not host.program("apt-get"):
        return
    listed = " ".join(names)
    yield Command(("apt-get", "update", "-q"), stays="")
    yield Command(
        ("apt-get", "install", "-q", "-y", "--no-install-recommends", *names),
        stays=f"keep the packages; remove them with: apt-get remove {listed}",
    )


def _subordinate_ids(host: Host) -> Iterator[Change]:
    """Grant a wide range for each kind that has less; the same numbers for both."""
    short = [
        kind
        for kind in ("uid", "gid")
        if sum(
            item.count for item in read_ranges(host.path(f"/etc/sub{kind}"), host.user, host.uid)
        )
        < WIDE
    ]
    if not short:
        return
    start = free_range(host, WIDE)
    for kind in short:
        yield AddLine(f"/etc/sub{kind}", f"{host.user}:{start}:{WIDE}")


def free_range(host: Host, count: int) -> int:
    """The first aligned id from which ``count`` ids belong to nobody.

    Taken are all ranges of /etc/subuid and /etc/subgid, whoever's, and the ids
    of accounts: two owners of one id could read each other's files.
    """
    taken = sorted(_taken(host))
    start = _up(_FIRST)
    for first, last in taken:
        if last < start:
            continue
        if first > start + count - 1:
            break
        start = _up(last + 1)
    if start + count - 1 > _LAST:
        raise Exhausted(
            f"no {count} consecutive ids are free in /etc/subuid and /etc/subgid",
            hint="remove ranges of accounts that are gone",
        )
    return start


def _up(number: int) -> int:
    return -(-number // _ALIGN) * _ALIGN


def _taken(host: Host) -> Iterator[tuple[int, int]]:
    for file in ("/etc/subuid", "/etc/subgid"):
        for line in read_lines(host.path(file)):
            parts = line.strip().split(":")
            if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
                yield int(parts[1]), int(parts[1]) + int(parts[2]) - 1
    for file in ("/etc/passwd", "/etc/group"):
        for line in read_lines(host.path(file)):
            parts = line.split(":")
            if len(parts) > 2 and parts[2].isdigit():
                yield int(parts[2]), int(parts[2])


def _devices(host: Host) -> Iterator[Change]:
    """Devices every user may open: fuse and tun check the caller's own privileges inside."""
    rules = []
    for node, module, kernel in _DEVICES:
        path = host.path(node)
        if not path.exists():
            if host.program("modprobe"):
                yield Command(("modprobe", module), stays="")
                yield NewFile(f"/etc/modules-load.d/rootless-{module}.conf", f"{module}\n")
            continue
        mode = path.stat().st_mode & 0o7777
        if mode & 0o666 != 0o666:
            yield Mode(node, mode | 0o666, mode)
            rules.append(f'KERNEL=="{kernel}", MODE="0666"\n')
    if rules and host.path("/etc/udev").is_dir():
        yield from _file(
            host,
            NewFile(
                "/etc/udev/rules.d/71-rootless.rules",
                "# Written by rootless setup: helpers of unprivileged containers open these.\n"
                + "".join(rules),
                ("udevadm", "control", "--reload"),
            ),
        )


_WANTED_SYSCTLS = (
    ("kernel.unprivileged_userns_clone", ("0",), "1"),
    ("user.max_user_namespaces", ("0",), "28633"),
    ("kernel.apparmor_restrict_unprivileged_userns", ("1",), "0"),
)
"""Name, values that stand in the way, value to set."""


def _sysctls(host: Host) -> Iterator[Change]:
    lines = []
    for name, blocking, value in _WANTED_SYSCTLS:
        before = host.sysctl(name)
        if before in blocking:
            yield Sysctl(name, value, before)
            lines.append(f"{name} = {value}\n")
    if lines:
        yield from _file(
            host,
            NewFile(
                "/etc/sysctl.d/60-rootless.conf",
                "# Written by rootless setup: unprivileged user namespaces.\n" + "".join(lines),
            ),
        )


def _session(host: Host) -> Iterator[Change]:
    if host.systemd:
        if not host.path(f"/var/lib/systemd/linger/{host.user}").exists():
            yield Command(
                ("loginctl", "enable-linger", host.user),
                ("loginctl", "disable-linger", host.user),
            )
        yield from _file(host, _delegation())
        return
    runtime = f"/run/user/{host.uid}"
    if not host.path(runtime).is_dir():
        yield OwnDirectory(runtime, host.uid, host.gid)
    yield from _subtree(host)


_LOGIN = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
"""The label of an ordinary login in the policies of distributions."""


def plan_selinux(host: Host) -> Iterator[Change]:
    """The rules for labelled containers, where the loaded policy has their types, not the rules."""
    if not (host.live and probe.selinux_enabled(root=host.root) and host.program("semodule")):
        return
    lacking = selinux.lacking(_LOGIN)
    if lacking and not lacking[0].startswith("the type"):
        module = str(resource_path("profiles", "selinux/rootless.cil"))
        yield Command(
            ("semodule", "-X", "400", "-i", module), ("semodule", "-X", "400", "-r", "rootless")
        )


def _delegation() -> NewFile:
    """systemd hands memory and pids on by default, and the others when told (systemd.resource…)."""
    return NewFile(
        "/etc/systemd/system/user@.service.d/50-rootless-delegate.conf",
        "# Written by rootless setup: limits of unprivileged containers.\n"
        f"[Service]\nDelegate={' '.join(CONTROLLERS)}\n",
        ("systemctl", "daemon-reload"),
    )


def _subtree(host: Host) -> Iterator[Change]:
    root = cgroupfs.mount_point(host.read("/proc/self/mountinfo"))
    if not root:
        return
    path = subtree_path(root, host.user)
    here = host.path(path)
    if here.is_dir() and here.stat().st_uid == host.uid:
        return
    if not _cgroup_writable(host.path(root)):
        return
    has = cgroupfs.controllers_of(host.path(root))
    yield CgroupSubtree(path, host.uid, host.gid, tuple(c for c in CONTROLLERS if c in has))


def _cgroup_writable(root: Path) -> bool:
    """Is it neither covered by another mount nor read-only, as in a container?"""
    return (root / "cgroup.procs").exists() and not os.statvfs(root).f_flag & os.ST_RDONLY


def subtree_path(root: str, user: str) -> str:
    """Where a host without systemd delegates to ``user``; ``root`` is the cgroup2 mount."""
    return f"{root}/rootless-{user}"


def _file(host: Host, wanted: NewFile) -> Iterator[Change]:
    if host.read(wanted.file) != wanted.text:
        yield wanted
