"""Making and opening paths inside a root that somebody else controls.

Every component is resolved by the kernel with ``RESOLVE_IN_ROOT`` and without
magic links, so that neither an absolute symlink nor a race leads outside
(the runc bugs CVE-2021-30465 and CVE-2024-21626 were of this kind).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from rootless.errors import SyscallError
from rootless.linux.openat2 import (
    IN_ROOT,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

_MAX_DEPTH = 255
_MAX_LINKS = 40
"""As the kernel's own bound (path_resolution(7))."""


def open_path(root: int, path: str) -> int:
    """An O_PATH descriptor of ``path`` below ``root``, the last symlink followed inside."""
    return openat2(root, path, os.O_PATH)


def _components(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if len(parts) > _MAX_DEPTH:
        raise SyscallError("openat2", path, errno.ENAMETOOLONG)
    return parts


def _real_path(root: int, path: str) -> list[str]:
    """The components of ``path`` with its symlinks replaced; what is missing keeps its name.

    Whoever makes something there still opens each part with ``RESOLVE_IN_ROOT``.
    """
    done: list[str] = []
    left = _components(path)[::-1]
    links = 0
    missing = False
    while left:
        part = left.pop()
        if part == ".." and not missing:
            done = done[:-1]
            continue
        done.append(part)
        if missing:
            if part == "..":  # of what nobody has made yet
                raise SyscallError("openat2", path, errno.ENOENT)
            continue
        target = _link_target(root, "/".join(done))
        if target is None:
            missing = True
        elif target:
            links += 1
            if links > _MAX_LINKS:
                raise SyscallError("openat2", path, errno.ELOOP)
            done = [] if target.startswith("/") else done[:-1]
            left += _components(target)[::-1]
    return done


def _link_target(root: int, path: str) -> str | None:
    """What the symlink ``path`` leads to; an empty text for anything else, None for nothing."""
    try:
        fd = openat2(root, path, os.O_PATH | os.O_NOFOLLOW)
    except SyscallError as error:
        if error.errno != errno.ENOENT:
            raise
        return None
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else ""
    finally:
        os.close(fd)


def ensure_dir(root: int, path: str, mode: int = 0o755) -> int:
    """Open the directory ``path`` below ``root``, making what is missing; an O_PATH descriptor.

    What a dangling symlink leads to is made, inside of the root: an image's
    /etc/resolv.conf may lead to a directory below /run that only its init system would make.
    """
    try:
        return openat2(root, path or ".", os.O_PATH | os.O_DIRECTORY)
    except SyscallError as error:
        if error.errno != errno.ENOENT:
            raise
    done = "."
    for part in _real_path(root, path):
        here = openat2(root, done, os.O_PATH | os.O_DIRECTORY)
        try:
            try:
                os.mkdir(part, mode, dir_fd=here)
            except FileExistsError:
                pass
            except OSError as error:
                raise SyscallError("mkdir", path, error.errno or 0) from None
        finally:
            os.close(here)
        done = f"{done}/{part}"
    return openat2(root, done, os.O_PATH | os.O_DIRECTORY)


def ensure_file(root: int, path: str, mode: int = 0o644) -> int:
    """Open the file ``path`` below ``root`` with O_PATH, making an empty one when it is missing."""
    try:
        return openat2(root, path, os.O_PATH)
    except SyscallError as error:
        if error.errno != errno.ENOENT:
            raise
    parts = _real_path(root, path)
    parent = ensure_dir(root, "/".join(parts[:-1]))
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(parts[-1], flags, mode, dir_fd=parent))
    except FileExistsError:
        pass
    except OSError as error:
        raise SyscallError("open", path, error.errno or 0) from None
    finally:
        os.close(parent)
    return openat2(root, "/".join(parts), os.O_PATH)


def ensure_plain_dir(root: int, path: str) -> int:
    """Open the directory ``path`` below ``root``, made when it is missing, but by no symlink."""
    os.close(ensure_dir(root, path))
    return openat2(root, path, os.O_PATH | os.O_DIRECTORY, resolve=IN_ROOT | RESOLVE_NO_SYMLINKS)


def ensure_like(root: int, path: str, source: int) -> int:
    """A mount point for ``source`` (a descriptor): a directory for a directory, else a file."""
    if stat.S_ISDIR(os.fstat(source).st_mode):
        return ensure_dir(root, path)
    return ensure_file(root, path)


def make_own(root: int, path: str, *, directory: bool) -> None:
    """Make what is missing of ``path`` below ``root``, in directories of this process' user only.

    The last component becomes a directory or an empty file. Where a directory is somebody
    else's, or a symlink is on the way, nothing is made.
    """
    parts = _components(path)
    straight = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    here = openat2(root, ".", os.O_PATH | os.O_DIRECTORY, resolve=straight)
    mask = os.umask(0o022)  # whoever is to come through has other ids
    try:
        for depth, part in enumerate(parts, 1):
            if os.fstat(here).st_uid == os.geteuid():
                with contextlib.suppress(FileExistsError):
                    if directory or depth < len(parts):
                        os.mkdir(part, 0o755, dir_fd=here)
                    else:
                        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                        os.close(os.open(part, flags, 0o644, dir_fd=here))
            if depth < len(parts):
                inner = openat2(here, part, os.O_PATH | os.O_DIRECTORY, resolve=straight)
                os.close(here)
                here = inner
    finally:
        os.umask(mask)
        os.close(here)


def read_file(root: int, path: str, limit: int) -> bytes | None:
    """The content of the regular file ``path`` below ``root``; None when there is none.

    At most ``limit`` bytes; a longer file is an error, so that an image cannot
    make its reader swallow gigabytes. O_NONBLOCK keeps a FIFO from hanging us.
    """
    try:
        fd = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except SyscallError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}:
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        chunks = []
        left = limit + 1
        while left > 0 and (chunk := os.read(fd, min(left, 1 << 16))):
            chunks.append(chunk)
            left -= len(chunk)
    finally:
        os.close(fd)
    if left <= 0:
        raise SyscallError("read", path, errno.EFBIG)
    return b"".join(chunks)
