"""Descriptors of the directories an archive writes to."""

from __future__ import annotations

import os

from rootless.linux import openat2

_FLAGS = os.O_RDONLY | os.O_DIRECTORY
_BENEATH = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_MAGICLINKS
_KEPT = 128


class Directories:
    """A bounded cache: path below the root → open directory.

    ``follow`` False refuses every symlink on the way (ELOOP); True resolves them
    inside the root, as a process of the container would see them.  The kernel
    decides in both cases (openat2(2)); no path is checked and then used.
    """

    def __init__(self, root: int, *, follow: bool) -> None:
        self._root = root
        self._resolve = openat2.IN_ROOT if follow else _BENEATH
        self._open: dict[bytes, int] = {}

    def get(self, path: bytes) -> int:
        """The directory ``path``; raises SyscallError (ENOENT, ELOOP, ENOTDIR)."""
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is None:
            fd = openat2.openat2(self._root, path, _FLAGS, resolve=self._resolve)
            self.keep(path, fd)
        return fd

    def keep(self, path: bytes, fd: int) -> None:
        """Take over ``fd``, just opened for ``path``."""
        if len(self._open) >= _KEPT:
            os.close(self._open.pop(next(iter(self._open))))
        old = self._open.pop(path, None)
        if old is not None:
            os.close(old)
        self._open[path] = fd

    def forget(self) -> None:
        """Close everything: a directory was replaced, so paths may mean something else."""
        while self._open:
            os.close(self._open.popitem()[1])

    def open_child(self, parent: int, name: bytes) -> int:
        """The directory ``name`` of ``parent``, which must not be a symlink."""
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=parent)


def remove(parent: int, name: bytes) -> None:
    """Remove ``name`` of ``parent``, a tree if it is one, never following a symlink.

    Iterative, with one descriptor a level: trees here come from archives.
    """
    try:
        os.unlink(name, dir_fd=parent)
        return
    except (IsADirectoryError, PermissionError):
        pass
    stack: list[tuple[int, bytes, list[str]]] = []
    stack.append(_enter(parent, name))
    try:
        while stack:
            fd, own, names = stack[-1]
            if not names:
                stack.pop()
                os.close(fd)
                os.rmdir(own, dir_fd=stack[-1][0] if stack else parent)
                continue
            child = os.fsencode(names.pop())
            try:
                os.unlink(child, dir_fd=fd)
            except (IsADirectoryError, PermissionError):
                stack.append(_enter(fd, child))
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _enter(parent: int, name: bytes) -> tuple[int, bytes, list[str]]:
    fd = os.open(name, _FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    return fd, name, os.listdir(fd)
