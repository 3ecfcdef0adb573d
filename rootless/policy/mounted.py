"""The mounts of a running container against its record: nothing more, and nothing bare."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rootless.model.mounts import MountSpec
from rootless.model.spec import ContainerSpec
from rootless.policy.kinds import beneath
from rootless.policy.paths import Location, MountTable

_ENGINES = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/init"})
"""Files of the engine's own that it mounts into each container."""
_FRAME: Mapping[str, frozenset[str]] = {
    "/proc": frozenset({"proc"}),
    "/sys": frozenset({"sysfs"}),
    "/dev": frozenset({"tmpfs"}),
    "/dev/pts": frozenset({"devpts"}),
    "/dev/shm": frozenset({"tmpfs"}),
    "/dev/mqueue": frozenset({"mqueue"}),
    "/dev/console": frozenset({"devpts"}),
    "/sys/fs/cgroup": frozenset({"cgroup", "cgroup2", "tmpfs"}),
}
"""What every container has, and which file systems these are."""
_NODES = frozenset(f"/dev/{name}" for name in "full null random tty urandom zero".split())
_DELETED = "//deleted"
"""What mountinfo appends to the root of a mount whose directory was removed."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of proc_pid_mountinfo(5)."""

    point: str
    root: str
    kind: str
    read_only: bool
    device: str = ""
    """``major:minor``."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference that makes the container weaker than its record."""

    field: str
    recorded: str
    found: str


_MOUNTS = "HostConfig.Mounts"


def mount_drifts(
    spec: ContainerSpec, mounts: tuple[Mounted, ...], present: frozenset[str], table: MountTable
) -> Iterator[Drift]:
    """Where the mounts show more than was recorded.

    ``present`` are the protected paths that there are in the container, ``table`` is
    the host's, to know the recorded sources by.
    """
    top = {mount.point: mount for mount in mounts}  # later ones cover earlier ones
    if spec.rootfs.read_only and not top["/"].read_only:
        yield Drift("HostConfig.ReadonlyRootfs", "true", "the root is writable")
    asked = {posixpath.normpath(mount.target): mount for mount in spec.mounts}
    for mount in top.values():
        if mount.point in asked:
            yield from _asked(asked[mount.point], mount, table)
        elif not _expected(mount, spec, asked, table):
            yield Drift(_MOUNTS, "not mounted", f"{mount.point} shows {mount.kind} {mount.root}")
    yield from _bare(spec, top, present)


def _asked(wanted: MountSpec, mount: Mounted, table: MountTable) -> Iterator[Drift]:
    """A mount that was asked for, on its target: read-only when it has to be, and the source."""
    if wanted.read_only and not mount.read_only:
        yield Drift(_MOUNTS, f"{wanted.target} read-only", "it is writable")
    if wanted.type == "tmpfs" and mount.kind != "tmpfs":
        yield Drift(_MOUNTS, f"{wanted.target} tmpfs", f"{mount.kind} {mount.root}")
    if wanted.type in {"bind", "volume"} and wanted.source:
        device, inner = table.locate(os.path.realpath(wanted.source))
        same = mount.device == device and beneath(mount.root, inner)
        if not same and not mount.root.endswith(_DELETED):
            shown = f"{mount.kind} {mount.root} of device {mount.device}"
            yield Drift(_MOUNTS, f"{wanted.target} shows {wanted.source}", shown)


def _expected(
    mount: Mounted, spec: ContainerSpec, asked: Mapping[str, MountSpec], table: MountTable
) -> bool:
    """Whether a mount nobody asked for is one that the engine makes."""
    point = mount.point
    if point == "/" or point in _ENGINES:
        return True
    if point in _FRAME:
        return mount.kind in _FRAME[point]
    if point in {device.target for device in spec.devices}:
        return True
    if point in _NODES:
        return posixpath.basename(mount.root) == posixpath.basename(point)
    if point in spec.masked_paths or point in spec.readonly_paths:
        return True  # _bare looks at them
    shared = {"/proc": spec.namespaces.pid, "/sys": spec.namespaces.network}
    if any(beneath(point, tree) and mode != "private" for tree, mode in shared.items()):
        return True  # the host's own tree, with what is mounted in it
    return any(
        beneath(point, target) and _below(wanted, target, mount, table)
        for target, wanted in asked.items()
    )


def _below(wanted: MountSpec, target: str, mount: Mounted, table: MountTable) -> bool:
    """Whether the host has this mount at the same place below the source, or had."""
    if not wanted.recursive or not wanted.source:
        return False
    source = posixpath.join(os.path.realpath(wanted.source), posixpath.relpath(mount.point, target))
    found: Location = table.locate(source)
    return found[0] == mount.device


def _bare(
    spec: ContainerSpec, top: Mapping[str, Mounted], present: frozenset[str]
) -> Iterator[Drift]:
    """Masked paths that show something, and read-only ones that can be written."""
    for path in sorted(present & set(spec.masked_paths)):
        cover = top.get(path)
        empty = cover is not None and (
            (cover.kind == "tmpfs" and cover.read_only) or posixpath.basename(cover.root) == "null"
        )
        if not empty:
            yield Drift("HostConfig.MaskedPaths", path, "it is bare")
    for path in sorted(present & set(spec.readonly_paths)):
        cover = top.get(path)
        if cover is None or not cover.read_only:
            yield Drift("HostConfig.ReadonlyPaths", path, "it is writable")
