"""Copying trees inside the engine's user namespace, ids and everything else kept.

Sources are unions of layers (``merged``), so that image content can be copied
without mounting it; a plain tree is a union of one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack

from rootless.errors import SyscallError, no_space
from rootless.storage import merged
from rootless.storage.merged import Directory
from rootless.storage.whiteouts import is_private_xattr

_CHUNK = 1 << 30
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_metadata(source: int, target: int) -> None:
    """Owner, mode, extended attributes and times of one descriptor to another.

    In this order: chown(2) clears set-id bits and file capabilities, and writing
    anything changes the times. Attributes of graph drivers stay behind.
    """
    status = os.stat(source)
    into = f"/proc/self/fd/{target}"
    os.chown(into, status.st_uid, status.st_gid)
    os.chmod(into, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(f"/proc/self/fd/{source}"):
        if not is_private_xattr(name) and not name.startswith("system."):
            _copy_attribute(f"/proc/self/fd/{source}", into, name)
    os.utime(into, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_attribute(source: str, target: str, name: str) -> None:
    try:
        os.setxattr(target, name, os.getxattr(source, name))
    except OSError as error:
        # Labels (security.selinux) belong to the target's file system, not to the content.
        if not name.startswith("security.") or error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise


def copy_data(source: int, target: int, size: int) -> None:
    """The first ``size`` bytes of a regular file, holes kept as holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                break
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            count = os.copy_file_range(source, target, min(end - start, _CHUNK))
            if count == 0:
                break
            start += count
        position = max(end, position + 1)
    os.ftruncate(target, size)


class Copier:
    """Copies the content of union directories below one target directory."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: dict[tuple[int, int], bytes] = {}

    def tree(self, source: Directory) -> None:
        """Copy everything in ``source`` into the target directory, which is empty.

        The target's own metadata become those of ``source``.
        """
        with ExitStack() as outer:
            top = os.open(".", _O_DIR, dir_fd=self._target)
            outer.callback(os.close, top)
            stack = [(ExitStack(), source, top, b"", iter(merged.names(source)))]
            try:
                while stack:
                    scope, directory, here, path, pending = stack[-1]
                    for name in pending:
                        below = self._entry(directory, name, here, path)
                        if below is not None:
                            stack.append(below)
                            break
                    else:
                        copy_metadata(directory[0].fd, here)
                        stack.pop()[0].close()
            except OSError as error:
                raise _explain(error) from None
            finally:
                for scope, *_ in stack:
                    scope.close()

    def _entry(
        self, directory: Directory, name: bytes, here: int, path: bytes
    ) -> tuple[ExitStack, Directory, int, bytes, Iterator[bytes]] | None:
        found = merged.lookup(directory, name)
        if found is None:
            return None
        kind = stat.S_IFMT(found.status.st_mode)
        below = path + b"/" + name if path else name
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=here)
            scope = ExitStack()
            inner = merged.enter(found, name, scope)
            target = os.open(name, _O_DIR, dir_fd=here)
            scope.callback(os.close, target)
            return scope, inner, target, below, iter(merged.names(inner))
        if found.status.st_nlink > 1 and self._linked(found.status, here, name, below):
            return None
        if kind == stat.S_IFREG:
            _copy_regular(found.parent, here, name)
        elif kind == stat.S_IFLNK:
            _copy_symlink(found.parent, here, name, found.status)
        elif kind == stat.S_IFIFO:
            _copy_fifo(found.parent, here, name)
        # Sockets have no content, devices cannot be made in a user namespace.
        return None

    def _linked(self, status: os.stat_result, here: int, name: bytes, path: bytes) -> bool:
        """Make ``name`` a link to an earlier copy of the same file; False when it is the first."""
        key = (status.st_dev, status.st_ino)
        first = self._links.setdefault(key, path)
        if first == path:
            return False
        try:
            os.link(first, name, src_dir_fd=self._target, dst_dir_fd=here, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EMLINK, errno.ENOENT):
                return False
            raise
        return True


def _copy_regular(source: int, target: int, name: bytes) -> None:
    reading = os.open(name, _READ, dir_fd=source)
    try:
        writing = os.open(name, _WRITE, 0o600, dir_fd=target)
        try:
            copy_data(reading, writing, os.fstat(reading).st_size)
            copy_metadata(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_symlink(source: int, target: int, name: bytes, status: os.stat_result) -> None:
    os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_fifo(source: int, target: int, name: bytes) -> None:
    os.mkfifo(name, 0o600, dir_fd=target)
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    reading = os.open(name, flags, dir_fd=source)
    try:
        writing = os.open(name, flags, dir_fd=target)
        try:
            copy_metadata(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _explain(error: OSError) -> Exception:
    code = error.errno or 0
    name = error.filename
    full = no_space(f"copying {os.fsdecode(name)}" if name is not None else "copying", error)
    if full is not None:
        return full
    return SyscallError("copy", os.fsdecode(name) if name is not None else "tree", code)
