"""The C library handle and the one way to make a raw system call.

Everything here raises :class:`~rootless.errors.SyscallError` with the call, the
object and errno. ``use_errno`` keeps errno per thread, so nothing between the
call and the read can clobber it.
"""

from __future__ import annotations

import ctypes
import errno as _errno
import os

from rootless.errors import HostUnsupported, SyscallError

libc = ctypes.CDLL(None, use_errno=True)
libc_with_gil = ctypes.PyDLL(None, use_errno=True)
"""For fork-like calls: the interpreter's lock is not released around them."""

_syscall = libc.syscall
_syscall.restype = ctypes.c_long

# Numbers of calls that appeared after Linux 5.1 are the same on every
# architecture (they come from the shared table); older ones differ.
_MACHINE = os.uname().machine
_OLD_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "seccomp": 317, "pivot_root": 155, "capset": 126, "capget": 125, "clone": 56, "keyctl": 250,
    },
    "aarch64": {
        "seccomp": 277, "pivot_root": 41, "capset": 91, "capget": 90, "clone": 220, "keyctl": 219,
    },
    "riscv64": {
        "seccomp": 277, "pivot_root": 41, "capset": 91, "capget": 90, "clone": 220, "keyctl": 219,
    },
    "ppc64le": {
        "seccomp": 358, "pivot_root": 203, "capset": 184, "capget": 183, "clone": 120,
        "keyctl": 271,
    },
    "s390x": {
        "seccomp": 348, "pivot_root": 217, "capset": 185, "capget": 184, "clone": 120,
        "keyctl": 280,
    },
}  # fmt: skip
_NEW_NUMBERS = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}


def number(name: str) -> int:
    """The number of system call ``name`` on this machine."""
    found = _NEW_NUMBERS.get(name)
    if found is None:
        found = _OLD_NUMBERS.get(_MACHINE, {}).get(name)
    if found is None:
        raise HostUnsupported(f"the number of system call {name} on {_MACHINE} is not known")
    return found


def check(result: int, call: str, target: object = "") -> int:
    """Return ``result``, or raise for the errno of the call just made when it is negative."""
    if result < 0:
        raise SyscallError(call, target, ctypes.get_errno())
    return result


def syscall(name: str, *args: object, target: object = "") -> int:
    """Make system call ``name``; ``args`` are ctypes values, ints, bytes or None.

    Plain ints are widened to a register: ctypes would pass them as C int and
    leave the upper half of the register undefined. EINTR is retried.
    """
    nr = number(name)
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    while True:
        result: int = _syscall(ctypes.c_long(nr), *wide)
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != _errno.EINTR:
            raise SyscallError(name, target, code)
