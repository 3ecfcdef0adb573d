"""``os`` for what every command runs through before its first request.

To import ``os`` takes 1.3 ms, a tenth of a short command, nearly all of it for
things that nobody uses there. The functions here are the very same ones, from
the module in C that ``os`` is made of.
"""

from __future__ import annotations

import sys
from posix import (
    O_CLOEXEC,
    O_CREAT,
    O_EXCL,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    _exit,
    close,
    fstat,
    get_terminal_size,
    geteuid,
    getpid,
    getuid,
    isatty,
    kill,
    lstat,
    mkdir,
    open,
    pipe2,
    read,
    readv,
    set_inheritable,
    stat,
    strerror,
    unlink,
    write,
    writev,
)
from posix import environ as _initial

__all__ = (
    "O_CLOEXEC", "O_CREAT", "O_EXCL", "O_NONBLOCK", "O_RDONLY", "O_WRONLY", "_exit", "close",
    "environ", "fstat", "get_terminal_size", "geteuid", "getpid", "getuid", "isatty", "kill",
    "lstat", "mkdir", "open", "pipe2", "read", "readv", "set_inheritable", "stat", "strerror",
    "unlink", "write", "writev",
)  # fmt: skip


class _Environ:
    """``os.environ``, to look one variable up."""

    @staticmethod
    def get(name: str, default: str | None = None) -> str | None:
        """Its value, or ``default`` when it is not set."""
        full = sys.modules.get("os")
        if full is not None:  # which notes changes; what this process began with does not
            found: str | None = full.environ.get(name, default)
            return found
        value = _initial.get(name.encode())
        if value is None:
            return default
        return value.decode(sys.getfilesystemencoding(), "surrogateescape")


environ = _Environ()
