"""Mounting a container's root file system as a detached mount.

Runs in the shim, inside the engine's user and mount namespace, as its root.
Nothing is attached anywhere: the caller moves the mount into the container, and
when the last reference goes, so does the mount (and a FUSE server with it).
Layers and upper directories are opened first and handed to the kernel as
``/proc/self/fd/N``: no path is too long for an option, and no character in it
needs escaping.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from rootless.errors import HostUnsupported, SyscallError
from rootless.linux import fuse, mounts
from rootless.model.mounts import RootfsMount

MAX_LAYERS = 500
"""Lower directories the kernel's overlay takes (OVL_MAX_STACK, fs/overlayfs)."""
JOINED_LIMIT = 255
"""Bytes of one fsconfig(2) string; what bounds ``lowerdir`` before ``lowerdir+`` existed."""
FIRST_KERNEL_WITH_APPEND = (6, 8)

_O_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class MountedRootfs:
    """A detached mount: ``fd`` is its root, to be given to ``mounts.move_mount``.

    ``server_pid`` is the FUSE server, a child of the caller which the caller
    reaps; it ends by itself when the mount is gone. None for kernel drivers.
    """

    fd: int
    server_pid: int | None = None


def mount_rootfs(mount: RootfsMount, *, defer_read_only: bool = False) -> MountedRootfs:
    """Mount ``mount`` detached and return its descriptors.

    With ``mount.read_only`` the mount is read-only. ``defer_read_only`` leaves
    that to the caller, who first has to create mount points in it and then sets
    ``MOUNT_ATTR_RDONLY`` itself. Without an ``upper`` it is always read-only.

    Raises SyscallError for what the kernel refused and HostUnsupported for what
    this host cannot do, both with a hint.
    """
    if mount.size_limit:
        raise HostUnsupported(
            f"a size limit of {mount.size_limit} bytes for the root file system cannot be kept: "
            f"driver {mount.driver} has no project quota in a user namespace",
            hint="leave out --storage-opt size, or use --read-only with --tmpfs …:size=N",
        )
    if mount.driver == "overlay":
        mounted = MountedRootfs(_mount_overlay(mount))
    elif mount.driver == "fuse-overlayfs":
        mounted = MountedRootfs(*fuse.mount_overlay(mount))
    else:
        mounted = MountedRootfs(_mount_copy(mount))
    late = _late_attributes(mount, defer_read_only=defer_read_only)
    if late:
        try:
            mounts.set_attributes(mounted.fd, add=late, what=mount.driver)
        except BaseException:
            discard(mounted)
            raise
    return mounted


def _late_attributes(mount: RootfsMount, *, defer_read_only: bool) -> int:
    read_only = (mount.read_only and not defer_read_only) or not mount.upper
    flags = mounts.MOUNT_ATTR_RDONLY if read_only else 0
    # A writable overlay has it from the beginning, which saves the path of ``run`` a call.
    nosuid = mount.nosuid and not (mount.driver == "overlay" and mount.upper)
    return flags | (mounts.MOUNT_ATTR_NOSUID if nosuid else 0)


def discard(mounted: MountedRootfs) -> None:
    """Undo :func:`mount_rootfs` before the mount was moved anywhere."""
    os.close(mounted.fd)
    if mounted.server_pid is not None:
        fuse.kill_server(mounted.server_pid)


def open_dir(path: str, what: str) -> int:
    """An O_PATH descriptor of directory ``path``, whose last component is not a symlink."""
    try:
        return os.open(path, _O_DIR)
    except OSError as error:
        raise SyscallError(
            "open", f"{what} {path}", error.errno or 0, hint="rootless doctor"
        ) from None


def _mount_copy(mount: RootfsMount) -> int:
    """Driver vfs: a bind mount of the container's own full copy."""
    tree = open_dir(mount.upper, "root file system")
    try:
        if mount.label:
            from rootless.linux.selinux import label_tree

            label_tree(tree, mount.label, "the root file system")
        return mounts.clone_tree(tree, recursive=False)
    finally:
        os.close(tree)


def _mount_overlay(mount: RootfsMount) -> int:
    if len(mount.lowers) > MAX_LAYERS:
        raise HostUnsupported(
            f"the image has {len(mount.lowers)} layers and the kernel's overlay takes {MAX_LAYERS}",
            hint="rebuild the image with fewer layers, or use --storage-driver vfs",
        )
    opened: list[int] = []
    try:
        opened.extend(open_dir(path, "layer") for path in mount.lowers)
        if not mount.upper and len(opened) == 1:
            # A read-only overlay of one layer is refused by the kernel, and is that layer.
            # Labelled, it comes with an empty one (``steps.sources.MountImage``).
            return mounts.clone_tree(opened[0], recursive=False)
        lowers = tuple(opened)
        writable: tuple[int, ...] = ()
        if mount.upper:
            opened.append(open_dir(mount.upper, "upper directory"))
            opened.append(open_dir(mount.work, "work directory"))
            writable = (opened[-2], opened[-1])
        try:
            return _configure_overlay(mount, lowers, writable)
        except SyscallError as error:
            raise SyscallError(error.call, error.target, error.errno, hint=_HINT) from None
    finally:
        for fd in opened:
            os.close(fd)


_HINT = "native overlay in a user namespace needs Linux 5.13; try --storage-driver fuse-overlayfs"


def _configure_overlay(
    mount: RootfsMount, lowers: tuple[int, ...], writable: tuple[int, ...]
) -> int:
    context = mounts.fsopen("overlay")
    try:
        mounts.fsconfig_string(context, "source", "overlay")
        # userxattr keeps overlay's own marks in user.overlay.*, the only ones a user namespace
        # may write (Linux 5.11). It also stops the kernel from following redirects in layers.
        mounts.fsconfig_flag(context, "userxattr")
        if mount.label:
            mounts.fsconfig_string(context, "context", mount.label)
        for key in ("index", "metacopy"):
            # A file handle or a metadata-only copy found in a hostile layer must not be honoured.
            mounts.fsconfig_string(context, key, "off")
        if writable:
            if mount.volatile:
                forget_volatile(mount.work)
                mounts.fsconfig_flag(context, "volatile")
            for key, fd in zip(("upperdir", "workdir"), writable, strict=True):
                mounts.fsconfig_string(context, key, f"/proc/self/fd/{fd}")
        if kernel_version() >= FIRST_KERNEL_WITH_APPEND:
            for fd in lowers:
                mounts.fsconfig_string(context, "lowerdir+", f"/proc/self/fd/{fd}")
            return _create(context, mount)
        return _create_joined(context, lowers, mount)
    except BaseException:
        os.close(context)
        raise


def _create(context: int, mount: RootfsMount) -> int:
    # fsmount closes what it is given, whatever happens; the caller closes ``context`` on errors.
    duplicate = os.dup(context)
    os.set_inheritable(duplicate, False)
    attributes = mounts.MOUNT_ATTR_NOSUID if mount.nosuid else 0
    made = mounts.fsmount(duplicate, "overlay", attributes)
    os.close(context)
    return made


def _create_joined(context: int, lowers: tuple[int, ...], mount: RootfsMount) -> int:
    """Before Linux 6.8: one ``lowerdir`` string, kept short by working in /proc/self/fd."""
    names = ":".join(str(fd) for fd in lowers)
    if len(names) > JOINED_LIMIT:
        raise HostUnsupported(
            f"{len(lowers)} layers do not fit into one overlay option on Linux "
            f"{'.'.join(map(str, kernel_version()))}",
            hint="use --storage-driver fuse-overlayfs, or Linux 6.8 or later",
        )
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir("/proc/self/fd")
        mounts.fsconfig_string(context, "lowerdir", names)
        return _create(context, mount)
    finally:
        os.fchdir(before)
        os.close(before)


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def forget_volatile(work: str) -> None:
    """Allow a volatile overlay to be mounted again over the same upper directory.

    The kernel leaves ``work/incompat/volatile`` behind and refuses the next
    mount, because after a power failure the upper directory may be torn
    (overlayfs.rst, "Volatile mount"). Volatile containers are removed by
    recovery after a restart of the machine, so here the mark is stale.
    """
    mark = f"{work}/work/incompat/volatile"
    for remove, path in (
        (os.unlink, f"{mark}/dirty"),
        (os.rmdir, mark),
        (os.rmdir, f"{work}/work/incompat"),
    ):
        try:
            remove(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SyscallError("remove", path, error.errno or 0) from None
