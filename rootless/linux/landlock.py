"""landlock(7): a process gives up access to files and TCP ports for good.

A right is only restricted when the ruleset handles it, and a kernel refuses
rights it does not know; :func:`file_rights` says which an ABI version has.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from rootless.errors import HostUnsupported, SyscallError
from rootless.linux import landlock_calls, libc

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

BIND_TCP = 1 << 0
CONNECT_TCP = 1 << 1

SCOPE_ABSTRACT_UNIX = 1 << 0
SCOPE_SIGNAL = 1 << 1

_FIRST_FILE_RIGHTS = REFER - 1
_NEWER_FILE_RIGHTS = ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
_NET_ABI = 4
_SCOPE_ABI = 6

READ = EXECUTE | READ_FILE | READ_DIR
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that mean something for what is not a directory; others are EINVAL there."""

_VERSION = 1


def abi() -> int:
    """The kernel's Landlock ABI version; 0 when it has none or it is not enabled at boot."""
    try:
        return libc.syscall("landlock_create_ruleset", None, 0, _VERSION, target="version")
    except SyscallError:
        return 0


def file_rights(version: int) -> int:
    """Every file right that ABI ``version`` knows."""
    rights = _FIRST_FILE_RIGHTS if version else 0
    for since, right in _NEWER_FILE_RIGHTS:
        if version >= since:
            rights |= right
    return rights


def create_ruleset(
    *, handled_fs: int = 0, handled_net: int = 0, scoped: int = 0, version: int | None = None
) -> int:
    """A close-on-exec descriptor of an empty ruleset: what is handled is denied.

    Raises HostUnsupported when the kernel cannot restrict something asked for.
    """
    found = abi() if version is None else version
    missing = handled_fs & ~file_rights(found)
    need = _NET_ABI if handled_net else 0
    need = max(need, _SCOPE_ABI if scoped else 0, 1)
    need = max([need, *(since for since, right in _NEWER_FILE_RIGHTS if missing & right)])
    if found < need or missing:
        raise HostUnsupported(
            f"Landlock ABI {need} is needed and this kernel has {found}",
            hint="boot with lsm=landlock,… or a newer kernel (ABI 4 is Linux 6.7, 6 is 6.12)",
        )
    return landlock_calls.create(*attributes(found, handled_fs, handled_net, scoped))


def attributes(
    version: int, handled_fs: int, handled_net: int = 0, scoped: int = 0
) -> tuple[int, ...]:
    """The words of a ruleset: an older kernel knows a shorter one (landlock_create_ruleset(2))."""
    count = 1 if version < _NET_ABI else 2 if version < _SCOPE_ABI else 3
    return (handled_fs, handled_net, scoped)[:count]


def allow_beneath(ruleset: int, fd: int, access: int) -> None:
    """Allow ``access`` to the file ``fd`` (may be O_PATH) and, for a directory, all below it."""
    landlock_calls.allow_beneath(ruleset, fd, access)


def allow_ports(ruleset: int, ports: Iterable[int], access: int) -> None:
    """Allow ``BIND_TCP`` or ``CONNECT_TCP`` for each port."""
    for port in ports:
        landlock_calls.allow_port(ruleset, port, access)


def restrict_self(ruleset: int) -> None:
    """Enforce the ruleset on this thread and its children, and close it.

    Needs no_new_privs or CAP_SYS_ADMIN. Changing the mount tree fails from here on.
    """
    try:
        landlock_calls.restrict_self(ruleset)
    finally:
        os.close(ruleset)
