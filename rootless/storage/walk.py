"""Walking and removing trees by descriptor, however deep and whatever their modes.

A container can nest directories deeper than PATH_MAX and than Python recurses,
and may change them meanwhile; nothing here recurses, builds absolute paths or
follows a symlink.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Iterator

from rootless.errors import Conflict, Exhausted, SyscallError
from rootless.linux import openat2

Entries = list[tuple[bytes, os.stat_result]]
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN = 128


def raise_open_limit() -> None:
    """Allow as many descriptors as the hard limit: a walk holds one for each level."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def entries(directory: int) -> Entries:
    """Names and lstat results of ``directory``, sorted; what vanishes meanwhile is left out."""
    found: Entries = []
    with os.scandir(directory) as scan:
        for entry in scan:
            with contextlib.suppress(FileNotFoundError):
                found.append((os.fsencode(entry.name), entry.stat(follow_symlinks=False)))
    found.sort(key=lambda item: item[0])
    return found


def open_dir(parent: int, name: bytes) -> int | None:
    """A readable descriptor of directory ``name``; None when it vanished or is none any more."""
    try:
        return os.open(name, _O_DIR, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Exhausted(
                "directories are nested deeper than open files are allowed",
                hint="raise the hard limit of open files (ulimit -Hn)",
            ) from None
        raise SyscallError("open", os.fsdecode(name), error.errno or 0) from None


def walk(root: int) -> Iterator[tuple[bytes, int, Entries]]:
    """Each directory below ``root``, itself first: path, descriptor, entries.

    The path is relative to ``root`` (b"" for itself). Directories the caller
    takes out of the list are not entered. Descriptors are valid until the next step.
    """
    here = os.open(".", _O_DIR, dir_fd=root)
    stack: list[tuple[bytes, int, Iterator[bytes]]] = []
    path = b""
    try:
        while True:
            found = entries(here)
            try:
                yield path, here, found
            except BaseException:
                os.close(here)
                raise
            below = (name for name, status in found if stat.S_ISDIR(status.st_mode))
            stack.append((path, here, iter(list(below))))
            while stack:
                path, parent, names = stack[-1]
                child = None
                for name in names:
                    child = open_dir(parent, name)
                    if child is not None:
                        path, here = (path + b"/" + name if path else name), child
                        break
                if child is not None:
                    break
                os.close(stack.pop()[1])
            if not stack:
                return
    finally:
        for _, fd, _names in stack:
            os.close(fd)


def remove(parent: int, name: bytes) -> None:
    """Remove ``name`` in directory ``parent`` with all below; absent is fine.

    The caller may remove everything (it is root of the engine's user
    namespace). Mount points are not entered, not even bind mounts from the same
    file system (openat2(2), RESOLVE_NO_XDEV): they raise Conflict.
    """
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        _unlink(parent, name)
        return
    while not _removed_empty(parent, name):
        top = _enter(parent, name)
        if top is None:
            return
        try:
            _empty(top)
        finally:
            os.close(top)


def _enter(parent: int, name: bytes) -> int | None:
    resolve = openat2.RESOLVE_NO_XDEV | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_BENEATH
    try:
        return openat2.openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY, resolve=resolve)
    except SyscallError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        if error.errno == errno.EXDEV:
            raise _busy(name, "something is mounted on it") from None
        raise


def _busy(name: bytes, why: str) -> Conflict:
    return Conflict(
        f"{os.fsdecode(name)} cannot be removed: {why}", hint="stop what uses it, then try again"
    )


def _empty(top: int) -> None:
    """Remove what is in ``top``, lifting what is nested too deep into it for another pass.

    Renaming a subtree up costs passes instead of open files, and no depth a
    container can make is a limit.
    """
    stack = [(top, b"", iter(_kinds(top)))]
    try:
        while stack:
            here, own, pending = stack[-1]
            for name, is_dir in pending:
                if not is_dir:
                    _unlink(here, name)
                elif not _removed_empty(here, name):
                    if len(stack) > _MAX_OPEN:
                        # Random, because an earlier pass that was killed may have left some.
                        lifted = f".lifted-{os.urandom(8).hex()}"
                        os.rename(name, lifted, src_dir_fd=here, dst_dir_fd=top)
                        continue
                    child = _enter(here, name)
                    if child is not None:
                        stack.append((child, name, iter(_kinds(child))))
                        break
            else:
                stack.pop()
                if stack:
                    os.close(here)
                    if not _removed_empty(stack[-1][0], own):
                        raise _busy(own, "something is being written to it")
    finally:
        for fd, _, _pending in stack[1:]:
            os.close(fd)


def _kinds(directory: int) -> list[tuple[bytes, bool]]:
    with os.scandir(directory) as scan:
        return [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in scan]


def _unlink(parent: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SyscallError("unlink", os.fsdecode(name), error.errno or 0) from None


def _removed_empty(parent: int, name: bytes) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        if error.errno == errno.EBUSY:
            raise _busy(name, "something is mounted on it") from None
        raise SyscallError("rmdir", os.fsdecode(name), error.errno or 0) from None
    return True
