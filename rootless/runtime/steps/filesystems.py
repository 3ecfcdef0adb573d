"""The kernel's own file systems and /dev."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rootless.errors import Denied, SyscallError
from rootless.linux import mounts
from rootless.linux.inroot import ensure_dir, ensure_file, ensure_like, open_path
from rootless.linux.openat2 import openat2
from rootless.runtime.context import EngineContext, InitContext
from rootless.runtime.steps.base import EngineStep, InitStep

_SAFE = mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOEXEC
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_PROC_ROOT_INODE = 1
_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
)


@dataclass(frozen=True, slots=True)
class CloneDevices(EngineStep):
    """Take the nodes of ``--device`` from the host."""

    devices: tuple[tuple[str, str], ...]
    """Host path and path in the container."""

    def describe(self) -> str:
        return f"take {', '.join(source for source, _ in self.devices)} from the host"

    def apply(self, ctx: EngineContext) -> None:
        for index, (source, _) in enumerate(self.devices):
            ctx.fds[f"device:{index}"] = mounts.clone_tree(
                -100, source, recursive=False, follow=True
            )


@dataclass(frozen=True, slots=True)
class MakeFilesystems(InitStep):
    """Make proc, sysfs, devpts, mqueue, cgroup2 and the tmpfs of /dev while the host's are visible.

    The kernel lets a user namespace mount proc and sysfs only where an
    unobstructed one is already in sight (mount_namespaces(7)), hence before the
    host's tree is dropped.
    """

    proc: bool = True
    sysfs: bool = True
    mqueue: bool = True
    cgroup: bool = True
    shm: bool = True
    shm_size: int = 64 << 20
    tty_gid: int = 5
    label: str = ""

    def describe(self) -> str:
        names = ["proc"] * self.proc + ["sysfs read-only"] * self.sysfs
        names += ["devpts"] + [f"shm of {self.shm_size} bytes"] * self.shm
        names += ["mqueue"] * self.mqueue + ["cgroup2 read-only"] * self.cgroup
        label = f", labelled {self.label}" if self.label else ""
        return f"make new {', '.join(names)} and a tmpfs for /dev{label}"

    def apply(self, ctx: InitContext) -> None:
        readonly = _SAFE | mounts.MOUNT_ATTR_RDONLY
        if self.proc:
            ctx.fds["proc"] = mounts.new_mount("proc", attributes=_SAFE, source="proc")
        if self.sysfs:
            ctx.fds["sysfs"] = mounts.new_mount("sysfs", attributes=readonly, source="sysfs")
        if self.mqueue:
            ctx.fds["mqueue"] = mounts.new_mount("mqueue", attributes=_SAFE, source="mqueue")
            if self.label:
                self._label_mqueue(ctx.fds["mqueue"])
        if self.cgroup:
            ctx.fds["cgroup"] = mounts.new_mount("cgroup2", attributes=readonly, source="cgroup")
        label = mounts.context_option(self.label)
        ctx.fds["dev"] = mounts.new_mount(
            "tmpfs",
            (("mode", "755"), ("size", "65536k"), *label),
            attributes=mounts.MOUNT_ATTR_NOSUID,
            source="tmpfs",
        )
        ctx.fds["devpts"] = mounts.new_mount(
            "devpts",
            (
                ("newinstance", None),
                ("ptmxmode", "0666"),
                ("mode", "0620"),
                ("gid", str(self.tty_gid)),
                *label,
            ),
            attributes=mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC,
            source="devpts",
        )
        if self.shm:
            ctx.fds["shm"] = mounts.new_mount(
                "tmpfs",
                (("mode", "1777"), ("size", str(self.shm_size)), *label),
                attributes=_SAFE,
                source="shm",
            )

    def _label_mqueue(self, fd: int) -> None:
        """By its root: the file system is the namespace's and takes no option any more."""
        from rootless.linux.selinux import label_file  # loaded before: ``prepare_label``

        label_file(fd, self.label, "/dev/mqueue")


def place(ctx: InitContext, name: str, target: str) -> None:
    """Attach the mount called ``name`` on the directory ``target``, made when missing."""
    mount = ctx.fds[name]
    point = ensure_dir(ctx.root, target)
    try:
        mounts.move_mount(mount, point, target)
    finally:
        os.close(point)


def refuse_proc(root: int, point: int, target: str) -> None:
    """Nothing may cover files of /proc, which the engine's own protection relies on.

    A symlink in the image could make a harmless target lead there
    (CVE-2019-16884, CVE-2025-52881); hence the check on the opened file.
    """
    proc = openat2(root, "/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        same = os.fstat(proc).st_dev == os.fstat(point).st_dev
        is_proc = os.fstat(proc).st_ino == _PROC_ROOT_INODE
    finally:
        os.close(proc)
    if same and is_proc:
        raise Denied(
            f"mount target {target} is inside /proc",
            hint="choose a target outside /proc",
        )


def place_node(ctx: InitContext, mount: int, target: str) -> None:
    """Attach a device node (or what was given for one) on ``target``; closes ``mount``."""
    point = ensure_like(ctx.root, target, mount)
    mounts.move_mount(mount, point, target)
    os.close(point)
    os.close(mount)


@dataclass(frozen=True, slots=True)
class AssembleTrees(InitStep):
    """Put /proc, /sys and /dev together, over the host's in this mount namespace.

    Nobody but init sees them there; :class:`EnterRootfs` moves each as a whole
    into the root file system. So everything up to here is the same for every
    container and can be done before one is asked for.
    """

    def describe(self) -> str:
        return f"put together /proc, /sys, and /dev with {', '.join(_DEVICES)}"

    def apply(self, ctx: InitContext) -> None:
        # Device nodes come from the host by bind mount: a user namespace cannot make any.
        nodes = [mounts.clone_tree(-100, f"/dev/{name}", recursive=False) for name in _DEVICES]
        ctx.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name, target in (
            ("proc", "/proc"),
            ("sysfs", "/sys"),
            ("cgroup", "/sys/fs/cgroup"),
            ("dev", "/dev"),
            ("devpts", "/dev/pts"),
            ("shm", "/dev/shm"),
            ("mqueue", "/dev/mqueue"),
        ):
            if name in ctx.fds:
                place(ctx, name, target)
        for name, mount in zip(_DEVICES, nodes, strict=True):
            place_node(ctx, mount, f"/dev/{name}")
        dev = ensure_dir(ctx.root, "/dev")
        for link, to in _LINKS:
            os.symlink(to, link, dir_fd=dev)
        os.close(dev)


@dataclass(frozen=True, slots=True)
class PlaceDevices(InitStep):
    """Attach the nodes of ``--device``."""

    targets: tuple[str, ...]

    def describe(self) -> str:
        return f"attach {', '.join(self.targets)}"

    def apply(self, ctx: InitContext) -> None:
        for index, target in enumerate(self.targets):
            node = ctx.take(f"device:{index}")
            point = ensure_like(ctx.root, target, node)
            refuse_proc(ctx.root, point, target)
            mounts.move_mount(node, point, target)
            os.close(point)
            os.close(node)


@dataclass(frozen=True, slots=True)
class ProtectPaths(InitStep):
    """Hide and write-protect the parts of /proc and /sys that speak of the host.

    A masked file shows /dev/null, a masked directory an empty read-only tmpfs.
    Each path is opened once and that descriptor is what gets covered
    (CVE-2025-31133: a path checked and mounted by name could be swapped).
    """

    masked: tuple[str, ...]
    readonly: tuple[str, ...]

    def describe(self) -> str:
        return f"mask {len(self.masked)} paths, make {len(self.readonly)} paths read-only"

    def apply(self, ctx: InitContext) -> None:
        for path in self.readonly:
            self._protect(ctx.root, path)
        if not self.masked:
            return
        empty = mounts.new_mount(
            "tmpfs",
            (("size", "0"), ("mode", "755"), ("nr_inodes", "1")),
            attributes=_SAFE | mounts.MOUNT_ATTR_RDONLY,
            source="tmpfs",
        )
        # The clone source must be attached in this mount namespace before Linux
        # 6.15, so the first masked directory gets the tmpfs itself and the rest
        # clones of that mount.
        attached = False
        for path in self.masked:
            attached = self._mask(ctx.root, path, empty, attached=attached)
        os.close(empty)

    @staticmethod
    def _open(root: int, path: str) -> int | None:
        try:
            return open_path(root, path)
        except SyscallError as error:
            if error.errno in {2, 20}:  # the kernel does not have it: nothing to protect
                return None
            raise

    def _protect(self, root: int, path: str) -> None:
        fd = self._open(root, path)
        if fd is None:
            return
        clone = mounts.clone_tree(fd)
        mounts.set_attributes(
            clone, add=mounts.MOUNT_ATTR_RDONLY | _SAFE, recursive=True, what=path
        )
        mounts.move_mount(clone, fd, path)
        os.close(clone)
        os.close(fd)

    def _mask(self, root: int, path: str, empty: int, *, attached: bool) -> bool:
        fd = self._open(root, path)
        if fd is None:
            return attached
        mode = os.fstat(fd).st_mode
        if mode & 0o170000 == 0o040000:
            cover = mounts.clone_tree(empty) if attached else empty
            mounts.move_mount(cover, fd, path)
            if attached:
                os.close(cover)
            attached = True
        else:
            null = open_path(root, "/dev/null")
            cover = mounts.clone_tree(null, recursive=False)
            mounts.move_mount(cover, fd, path)
            os.close(cover)
            os.close(null)
        os.close(fd)
        return attached


@dataclass(frozen=True, slots=True)
class OpenTerminal(InitStep):
    """Open a pseudo-terminal of the container's own devpts and put it on /dev/console."""

    rows: int
    columns: int

    def describe(self) -> str:
        return "open a pseudo-terminal of the container's own and put it on /dev/console"

    def apply(self, ctx: InitContext) -> None:
        from rootless.linux.terminal import open_pair

        master, slave, name = open_pair(ctx.root, self.rows, self.columns)
        ctx.terminal_master, ctx.terminal_slave = master, slave
        point = ensure_file(ctx.root, "/dev/console", 0o620)
        refuse_proc(ctx.root, point, "/dev/console")
        source = mounts.clone_tree(open_path(ctx.root, name), recursive=False)
        mounts.move_mount(source, point, "/dev/console")
        os.close(source)
        os.close(point)
