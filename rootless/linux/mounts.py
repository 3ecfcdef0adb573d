"""Mounting by descriptor: the file-descriptor mount API of Linux 5.2 and later.

A mount is made detached (fsopen, fsconfig, fsmount; or open_tree with
``OPEN_TREE_CLONE``), given its attributes, and only then moved to its place,
so that nothing is ever visible half-configured and no target path is resolved
twice. Sources: fsopen(2), fsconfig(2), fsmount(2), move_mount(2),
open_tree(2), mount_setattr(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from rootless.errors import SyscallError
from rootless.linux import libc

AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08

MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED}


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def fsopen(fstype: str) -> int:
    """A configuration context for a new superblock of type ``fstype``."""
    return libc.syscall("fsopen", fstype.encode(), FSOPEN_CLOEXEC, target=fstype)


def _explain(context: int, error: SyscallError, what: str) -> SyscallError:
    """Add the kernel's own words, which it leaves readable on the context (fsopen(2))."""
    messages = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:
            break
        messages.append(line.decode(errors="replace").partition(" ")[2].strip() or line.decode())
    detail = f"{what}: {'; '.join(messages)}" if messages else what
    return SyscallError(error.call, detail, error.errno)


def fsconfig_flag(context: int, key: str) -> None:
    """Set a flag such as ``ro`` or ``userxattr``."""
    try:
        libc.syscall("fsconfig", context, FSCONFIG_SET_FLAG, key.encode(), None, 0, target=key)
    except SyscallError as error:
        raise _explain(context, error, key) from None


def fsconfig_string(context: int, key: str, value: str | bytes) -> None:
    """Set ``key`` to a string of at most 255 bytes (strndup_user in fsconfig(2))."""
    try:
        libc.syscall("fsconfig", context, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)
    except SyscallError as error:
        raise _explain(context, error, f"{key}={os.fsdecode(value)}") from None


def fsmount(context: int, what: str, attributes: int = 0) -> int:
    """Create the superblock and return a descriptor of its detached mount; closes ``context``."""
    try:
        libc.syscall("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0, target=what)
        return libc.syscall("fsmount", context, FSMOUNT_CLOEXEC, attributes, target=what)
    except SyscallError as error:
        raise _explain(context, error, what) from None
    finally:
        os.close(context)


def new_mount(
    fstype: str,
    options: Iterable[tuple[str, str | None]] = (),
    *,
    attributes: int = 0,
    source: str = "",
) -> int:
    """A detached mount of a new superblock: ``options`` are flags (value None) or strings."""
    context = fsopen(fstype)
    try:
        if source:
            fsconfig_string(context, "source", source)
        for key, value in options:
            if value is None:
                fsconfig_flag(context, key)
            else:
                fsconfig_string(context, key, value)
    except BaseException:
        os.close(context)
        raise
    return fsmount(context, fstype, attributes)


def context_option(label: str) -> tuple[tuple[str, str], ...]:
    """The option that gives every file of a new mount this SELinux label; none for ''."""
    return (("context", label),) if label else ()


def clone_tree(dirfd: int, path: str = "", *, recursive: bool = True, follow: bool = False) -> int:
    """A detached bind mount of ``path`` below ``dirfd`` (of ``dirfd`` itself when empty).

    The source must be in the caller's mount namespace. ``recursive`` takes the
    mounts below along; in a less privileged mount namespace they are locked and
    leaving them out is refused with EINVAL (mount_namespaces(7)).
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= AT_EMPTY_PATH if not path else 0
    flags |= 0 if follow or not path else AT_SYMLINK_NOFOLLOW
    return libc.syscall("open_tree", dirfd, os.fsencode(path), flags, target=path or f"fd {dirfd}")


def move_mount(mount: int, target: int, what: object = "") -> None:
    """Attach the detached mount ``mount`` on the file that descriptor ``target`` refers to."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    libc.syscall("move_mount", mount, b"", target, b"", flags, target=what)


def set_attributes(
    mount: int,
    *,
    add: int = 0,
    clear: int = 0,
    propagation: str = "",
    recursive: bool = False,
    what: object = "",
) -> None:
    """mount_setattr(2) on the mount that descriptor ``mount`` is the root of.

    ``propagation`` is '', private, slave or shared.
    """
    attr = _MountAttr(add, clear, _PROPAGATION[propagation] if propagation else 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    libc.syscall(
        "mount_setattr",
        mount,
        b"",
        flags,
        ctypes.byref(attr),
        ctypes.sizeof(attr),
        target=what or f"fd {mount}",
    )


_mount = libc.libc.mount
_mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)


def mount(source: str, target: str, fstype: str, flags: int, data: str = "") -> None:
    """mount(2), for propagation changes and remounts on paths the engine itself made."""
    result = _mount(
        source.encode() or None,
        os.fsencode(target),
        fstype.encode() or None,
        flags,
        data.encode() or None,
    )
    libc.check(result, "mount", target)


def umount(target: str, flags: int = MNT_DETACH | UMOUNT_NOFOLLOW) -> None:
    """umount2(2); by default lazily and without following a symlink."""
    libc.check(libc.libc.umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    libc.syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), target=new_root)
