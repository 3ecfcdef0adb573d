"""Reading a file of /proc/sys as the processes of another namespace see it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence

from rootless.errors import RootlessError
from rootless.linux import process

_SEPARATOR = b"\0"
_MISSING = b"\1"


def settings_of(pid: int, names: Sequence[str]) -> Mapping[str, str]:
    """Kernel parameters (``net.core.somaxconn``) of a process' network, IPC and UTS namespace.

    A child joins its namespaces, for what /proc/sys shows depends on who reads. What
    cannot be read is left out; nothing is there when the namespaces cannot be joined.
    """
    if not names:
        return {}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError, RootlessError):
            os.close(reading)
            flags = process.CLONE_NEWUSER | process.CLONE_NEWNET | process.CLONE_NEWIPC
            process.setns(os.pidfd_open(pid), flags | process.CLONE_NEWUTS, "namespaces")
            with os.fdopen(writing, "wb") as out:
                out.write(_SEPARATOR.join(map(_value, names)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        values = answer.read().split(_SEPARATOR)
    os.waitpid(child, 0)
    if len(values) != len(names):
        return {}
    pairs = zip(names, values, strict=True)
    return {name: value.decode("ascii", "replace") for name, value in pairs if value != _MISSING}


def _value(name: str) -> bytes:
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", "rb") as file:
            return b" ".join(file.read().split())
    except OSError:
        return _MISSING
