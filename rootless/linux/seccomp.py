"""seccomp(2): loading filters and answering user notifications (seccomp_unotify(2))."""

from __future__ import annotations

import ctypes
import errno as _errno
import fcntl
import os
import struct
from dataclasses import dataclass

from rootless.errors import SyscallError
from rootless.linux import libc

_SET_MODE_FILTER = 1
_GET_NOTIF_SIZES = 3

FLAG_TSYNC = 1 << 0
FLAG_LOG = 1 << 1
FLAG_SPEC_ALLOW = 1 << 2
FLAG_NEW_LISTENER = 1 << 3
FLAG_TSYNC_ESRCH = 1 << 4
FLAG_WAIT_KILLABLE_RECV = 1 << 5

RET_KILL_PROCESS = 0x80000000
RET_KILL_THREAD = 0x00000000
RET_TRAP = 0x00030000
RET_ERRNO = 0x00050000
RET_USER_NOTIF = 0x7FC00000
RET_TRACE = 0x7FF00000
RET_LOG = 0x7FFC0000
RET_ALLOW = 0x7FFF0000
RET_ACTION_MASK = 0xFFFF0000
RET_DATA_MASK = 0x0000FFFF

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS."""


def _ioctl_number(write: bool, read: bool, number: int, size: int) -> int:  # noqa: FBT001 - the bits of the kernel's _IOC
    """asm/ioctl.h: PowerPC and MIPS put the direction elsewhere than everybody else."""
    if os.uname().machine.startswith(("ppc", "mips")):
        return (4 * write | 2 * read) << 29 | size << 16 | ord("!") << 8 | number
    return (write | 2 * read) << 30 | size << 16 | ord("!") << 8 | number


_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECV = _ioctl_number(True, True, 0, _NOTIF.size)
_SEND = _ioctl_number(True, True, 1, _RESPONSE.size)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


@dataclass(frozen=True, slots=True)
class Notification:
    """One call that waits for an answer. ``pid`` is as the listener's pid namespace sees it.

    ``arch`` is an audit architecture (linux/audit.h), ``args`` the registers.
    """

    id: int
    pid: int
    number: int
    arch: int
    args: tuple[int, ...]


def load_filter(bpf: bytes, *, flags: int = 0, listener: bool = False) -> int | None:
    """Put a filter on the calling thread (all threads with ``FLAG_TSYNC``).

    Needs no_new_privs or CAP_SYS_ADMIN in the caller's user namespace. Returns
    the listener's close-on-exec descriptor with ``listener``, else None.
    """
    if listener:
        flags |= FLAG_NEW_LISTENER
        if flags & FLAG_TSYNC:
            flags |= FLAG_TSYNC_ESRCH  # otherwise a result could be a thread or a descriptor
    if not bpf or len(bpf) % 8 or len(bpf) // 8 > MAX_INSTRUCTIONS:
        raise SyscallError("seccomp", f"filter of {len(bpf)} bytes", _errno.EINVAL)
    program = _Program(len(bpf) // 8, bpf)
    target = f"SECCOMP_SET_MODE_FILTER, {len(bpf) // 8} instructions"
    result = _set_filter(program, flags, target)
    if flags & FLAG_NEW_LISTENER:
        return result
    if result:
        # With TSYNC alone a positive result is the thread that could not follow.
        raise SyscallError("seccomp", f"{target}, thread {result}", _errno.ESRCH)
    return None


def _set_filter(program: _Program, flags: int, target: str) -> int:
    """The call itself; with a listener, waiting calls are made immune to signals if possible.

    Go interrupts its threads with signals all the time, and each would take a
    notification back and make a new one (FLAG_WAIT_KILLABLE_RECV, Linux 5.19).
    """
    pointer = ctypes.byref(program)
    if flags & FLAG_NEW_LISTENER:
        wanted = flags | FLAG_WAIT_KILLABLE_RECV
        try:
            return libc.syscall("seccomp", _SET_MODE_FILTER, wanted, pointer, target=target)
        except SyscallError as error:
            if error.errno != _errno.EINVAL:
                raise
    return libc.syscall("seccomp", _SET_MODE_FILTER, flags, pointer, target=target)


def notif_sizes() -> tuple[int, int, int]:
    """The kernel's sizes of a notification, a response and seccomp_data, in bytes."""
    sizes = (ctypes.c_uint16 * 3)()
    libc.syscall("seccomp", _GET_NOTIF_SIZES, 0, ctypes.byref(sizes), target="GET_NOTIF_SIZES")
    return sizes[0], sizes[1], sizes[2]


def notif_receive(fd: int, *, size: int = _NOTIF.size) -> Notification | None:
    """Wait for the next call; None when its process died in the meantime.

    ``size`` is the kernel's size of a notification when it is larger than ours
    (:func:`notif_sizes`): the kernel writes that much.
    """
    while True:
        buffer = bytearray(max(size, _NOTIF.size))  # the kernel insists on zeros
        try:
            fcntl.ioctl(fd, _RECV, buffer, True)
        except InterruptedError:
            continue
        except OSError as error:
            if error.errno == _errno.ENOENT:
                return None
            raise SyscallError("ioctl", "SECCOMP_IOCTL_NOTIF_RECV", error.errno or 0) from error
        ident, pid, _flags, number, arch, _ip, *args = _NOTIF.unpack_from(buffer)
        return Notification(ident, pid, number, arch, tuple(args))


def notif_respond(fd: int, ident: int, errno: int) -> bool:
    """Answer a waiting call with ``errno`` (positive); False when its process is gone."""
    buffer = bytearray(_RESPONSE.pack(ident, 0, -errno, 0))
    try:
        fcntl.ioctl(fd, _SEND, buffer, True)
    except OSError as error:
        if error.errno == _errno.ENOENT:
            return False
        raise SyscallError("ioctl", "SECCOMP_IOCTL_NOTIF_SEND", error.errno or 0) from error
    return True
