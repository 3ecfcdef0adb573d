"""The bare calls of landlock(7): all of it that every sandbox's first process carries along.

``linux.landlock`` has the rights, the versions and the checks.
"""

from __future__ import annotations

import sys

from rootless.linux import libc

_PATH_BENEATH = 1
_NET_PORT = 2


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, sys.byteorder) for value in values)


def create(*handled: int) -> int:
    """A ruleset's descriptor; one word for files, a second for ports, a third for scopes."""
    attr = _words(*handled)
    return libc.syscall("landlock_create_ruleset", attr, len(attr), 0, target="ruleset")


def allow_beneath(ruleset: int, fd: int, access: int) -> None:
    """Allow ``access`` to the file ``fd`` (may be O_PATH) and, for a directory, all below it."""
    attr = _words(access) + fd.to_bytes(4, sys.byteorder)
    libc.syscall("landlock_add_rule", ruleset, _PATH_BENEATH, attr, 0, target=fd)


def allow_port(ruleset: int, port: int, access: int) -> None:
    """Allow ``access`` (binding, connecting) for one TCP port."""
    libc.syscall("landlock_add_rule", ruleset, _NET_PORT, _words(access, port), 0, target=port)


def restrict_self(ruleset: int) -> None:
    """Enforce the ruleset on this thread and its children."""
    libc.syscall("landlock_restrict_self", ruleset, 0, target="ruleset")
