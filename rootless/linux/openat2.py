"""openat2(2): opening paths inside a tree that somebody else controls."""

from __future__ import annotations

import ctypes
import errno
import os

from rootless.errors import SyscallError
from rootless.linux import libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
"""How every path of a container is resolved: symlinks stay inside, /proc links do not count."""


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(
    dirfd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = IN_ROOT
) -> int:
    """Open ``path`` below ``dirfd``; always close-on-exec.

    EAGAIN, which the kernel answers when a ``..`` raced with a rename (openat2(2),
    RESOLVE_IN_ROOT), is retried a bounded number of times.
    """
    raw = os.fsencode(path)
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(64):
        try:
            return libc.syscall(
                "openat2", dirfd, raw, ctypes.byref(how), ctypes.sizeof(how), target=path
            )
        except SyscallError as error:
            if error.errno != errno.EAGAIN:
                raise
    raise SyscallError("openat2", path, errno.EAGAIN)
