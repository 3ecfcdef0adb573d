"""Making writes durable and names change places."""

from __future__ import annotations

import os

from rootless.errors import SyscallError
from rootless.linux import libc


def syncfs(fd: int, what: object = "") -> None:
    """Write out everything of the file system that ``fd`` is on (syncfs(2)).

    One call instead of one fsync(2) for each file of an unpacked layer; errors
    of earlier writes are reported since Linux 5.8.
    """
    libc.check(libc.libc.syncfs(fd), "syncfs", what)


def fsync_dir(path: str | os.PathLike[str]) -> None:
    """Make the names in directory ``path`` durable (fsync(2) on a directory)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise SyscallError("fsync", path, error.errno or 0) from None


def write_new(path: str | os.PathLike[str], content: bytes, mode: int = 0o600) -> None:
    """A new file with ``content``, synced; the directory is the caller's to sync or rename."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise SyscallError("write", path, error.errno or 0) from None


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def exchange(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> None:
    """Let two paths name each other's file, in one step (renameat2(2), RENAME_EXCHANGE)."""
    paths = os.fsencode(first), os.fsencode(second)
    result = libc.libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)
    libc.check(result, "renameat2", first)
