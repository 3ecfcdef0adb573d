"""Copying in and out of a container, export and commit, on a root given as a descriptor.

The descriptor is the root of a running container or a root file system mounted
for the purpose. Either way its content is hostile and may change at any moment:
the caller has become the container's root (``linux.inside``), every path is
resolved by openat2(2) with ``RESOLVE_IN_ROOT`` and without magic links, and what
was opened is what is used (CVE-2018-15664 and CVE-2019-14271 were copies that
trusted a path). Semantics are those of the
Engine API's ``/containers/{id}/archive``.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import BinaryIO

from rootless.archive.create import Created, create
from rootless.archive.extract import Extracted, extract
from rootless.archive.limits import IdShift
from rootless.archive.whiteout import PREFIX
from rootless.archive.writer import TarWriter, entry
from rootless.errors import InvalidInput, NotFound, RootlessError, SyscallError
from rootless.linux.inside import path_of
from rootless.linux.openat2 import openat2
from rootless.model.mounts import RootfsMount
from rootless.storage import changes, merged, walk, whiteouts

_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
"""Type bits of Go's os.FileMode, which the API's stat header uses."""
_REGULAR_KIND = ord("0")
_PSEUDO = frozenset(("proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"))
_WRONG_ENTRY = frozenset(
    (
        errno.EACCES,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EXDEV,
    )
)
"""What the kernel says to a name, a link or a kind of file that an archive should not have here."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class PathStat:
    """The content of ``X-Docker-Container-Path-Stat``; ``mode`` is a Go FileMode."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str


def go_mode(mode: int) -> int:
    """st_mode as Go's os.FileMode."""
    bits = (mode & 0o777) | _GO_TYPES.get(stat.S_IFMT(mode), 0)
    bits |= 1 << 23 if mode & stat.S_ISUID else 0
    bits |= 1 << 22 if mode & stat.S_ISGID else 0
    return bits | (1 << 20 if mode & stat.S_ISVTX else 0)


def stat_path(root: int, path: str) -> PathStat:
    """What ``path`` is; a symlink at its end is described, not followed, unless ``/`` ends it.

    Raises NotFound.
    """
    fd = _open(root, path, follow=False)
    try:
        status = os.fstat(fd)
        target = ""
        if stat.S_ISLNK(status.st_mode):
            target = _link_target(root, path, fd)
        return PathStat(
            base_name(path), status.st_size, go_mode(status.st_mode), status.st_mtime_ns, target
        )
    finally:
        os.close(fd)


def base_name(path: str) -> str:
    """The last component as Go's filepath.Base names it: ``/`` for the root, ``.`` for ``x/.``."""
    return path.rstrip("/").rpartition("/")[2] or "/"


def read_archive(
    root: int, path: str, out: BinaryIO, *, shift: IdShift, skip: Collection[str] = ()
) -> PathStat:
    """Write ``path`` as a tar to ``out``: a directory with all below it, else the one file.

    Entries are named after ``path``'s last component. A symlink at its end is
    archived as a symlink; with a trailing ``/`` or ``/.`` what it leads to.
    ``skip`` are absolute paths left out (see :func:`pseudo_mounts_of`).
    """
    found = stat_path(root, path)
    fd = _open(root, path, follow=False)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            exclude = _excluder(root, fd, found.name, skip)
            directory = openat2(fd, ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                # Docker's clients rename entries by this first component, also "/" and ".".
                name = os.fsencode(found.name)
                create(directory, out, arcname=name, shift=shift, exclude=exclude)
            finally:
                os.close(directory)
            return found
    finally:
        os.close(fd)
    parent_path, _, base = path.rpartition("/")
    parent = openat2(root, parent_path or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        create(parent, out, name=os.fsencode(base), shift=shift)
    finally:
        os.close(parent)
    return found


def _excluder(root: int, fd: int, name: str, skip: Collection[str]) -> Callable[[bytes], bool]:
    """Tells by its path in the archive whether an entry is one of ``skip``."""
    here = os.fsencode(_inside(root, fd)).rstrip(b"/")
    prefix = len(os.fsencode(name).rstrip(b"/"))
    skipped = frozenset(os.fsencode(point) for point in skip)
    return lambda path: here + path[prefix:] in skipped


def write_archive(
    root: int,
    path: str,
    source: BinaryIO,
    *,
    shift: IdShift,
    no_overwrite_dir_non_dir: bool = False,
    owner: tuple[int, int] | None = None,
) -> Extracted:
    """Unpack the tar ``source`` into directory ``path``, following symlinks inside ``root``.

    ``no_overwrite_dir_non_dir`` refuses to replace a directory by something
    else and the reverse. ``owner`` (the container's ids) replaces the archive's
    owners, for the API's ``copyUIDGID``. Raises NotFound, InvalidInput when
    ``path`` is no directory or read-only.
    """
    fd = _open(root, path, follow=True)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidInput(f"extraction point is not a directory: {path}")
        directory = openat2(fd, ".", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(fd)
    try:
        _check_writable(root, directory)
        return extract(
            source,
            directory,
            shift=shift,
            existing="keep-type" if no_overwrite_dir_non_dir else "replace",
            follow_parents=True,
            owner=owner,
        )
    except SyscallError as error:
        if error.errno == errno.EROFS:  # a mount below it
            raise InvalidInput("mounted volume is marked read-only") from None
        if error.errno in _WRONG_ENTRY:
            raise InvalidInput(f"the archive cannot be unpacked here: {error.message}") from None
        raise
    finally:
        os.close(directory)


def _check_writable(root: int, directory: int) -> None:
    """Refuse a read-only place before anything is read, in Docker's words."""
    if not os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        return
    ours = os.fstat(directory).st_dev == os.fstat(root).st_dev
    what = "container rootfs" if ours else "mounted volume"
    raise InvalidInput(
        f"{what} is marked read-only",
        hint="copy to a volume or tmpfs that is mounted read-write",
    )


def export(
    root: int, out: BinaryIO, *, shift: IdShift, mount_points: Collection[str] = ()
) -> Created:
    """The whole file system as a tar, without what is mounted at ``mount_points``.

    Paths are absolute in the container (see :func:`mount_points_of`).
    """
    skipped = frozenset(os.fsencode(path).strip(b"/") for path in mount_points)
    directory = openat2(root, ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return create(directory, out, shift=shift, exclude=skipped.__contains__)
    finally:
        os.close(directory)


def mount_points_of(pid: int) -> list[str]:
    """Where something is mounted in the container of process ``pid``, its root left out."""
    return sorted({point for point, _ in _mounts(pid) if point != "/"})


def pseudo_mounts_of(pid: int) -> list[str]:
    """Mounts of that container which hold no files to copy: proc, sysfs and what is in /dev."""
    return sorted(
        {
            point
            for point, fstype in _mounts(pid)
            if fstype in _PSEUDO or point == "/dev" or point.startswith("/dev/")
        }
    )


def _mounts(pid: int) -> list[tuple[str, str]]:
    """Mount points and file system types (proc_pid_mountinfo(5))."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise SyscallError("open", f"/proc/{pid}/mountinfo", error.errno or 0) from None
    found = []
    for line in lines:
        head, _, tail = line.partition(" - ")
        found.append((_ESCAPE.sub(_unescape, head.split(" ")[4]), tail.split(" ")[0]))
    return found


def _unescape(match: re.Match[str]) -> str:
    """Space, tab, newline and backslash are octal in mountinfo."""
    return chr(int(match[1], 8))


def write_diff(
    mount: RootfsMount, out: BinaryIO, *, ignore: Collection[str] = (), shift: IdShift
) -> Created:
    """What the container changed as a layer (OCI image spec, layer.md), for commit.

    ``ignore`` are absolute paths of mount points the engine made in it. Upper
    directories hold the image's ids + 1 whatever the container's range, so
    ``shift`` is the layers'.
    """
    walk.raise_open_limit()
    form = whiteouts.of_driver(mount.driver)
    skipped = frozenset(os.fsencode(path).strip(b"/") for path in ignore)
    if form.complete:
        return _write_changes(mount, out, skipped, shift)
    upper = os.open(mount.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def exclude(path: bytes) -> bool:
        # A file that is really called .wh.x would remove x from the image made of this.
        return path in skipped or path.rpartition(b"/")[2].startswith(PREFIX)

    try:
        return create(upper, out, shift=shift, whiteouts=form, exclude=exclude)
    finally:
        os.close(upper)


def _write_changes(
    mount: RootfsMount, out: BinaryIO, skipped: frozenset[bytes], shift: IdShift
) -> Created:
    """The same for a driver that keeps complete trees: only what differs from the image."""
    form = whiteouts.of_driver(mount.driver)
    ignore = [b"/" + path for path in skipped]
    with (
        merged.open_union([mount.upper], form) as upper,
        merged.open_union(mount.lowers) as lower,
    ):
        found = changes.changes(upper, lower, ignore)
        kept = {change.path[1:] for change in found if change.kind != "D"}
        removed = [change.path[1:] for change in found if change.kind == "D"]
        written = create(
            upper[0].fd,
            out,
            shift=shift,
            exclude=lambda path: path not in kept or path.rpartition(b"/")[2].startswith(PREFIX),
            finish=False,
        )
    tar = TarWriter(out)
    for path in removed:
        head, slash, base = path.rpartition(b"/")
        tar.add(entry(head + slash + PREFIX + base, _REGULAR_KIND))
    tar.finish()
    return Created(written.bytes, written.entries + tar.entries)


def _open(root: int, path: str, *, follow: bool) -> int:
    """An O_PATH descriptor; a symlink in the last component is opened itself unless ``follow``."""
    flags = os.O_PATH
    if not follow and not path.endswith(("/", "/.", "/..")):
        flags |= os.O_NOFOLLOW
    try:
        return openat2(root, path or "/", flags)
    except SyscallError as error:
        raise _explain(error, path) from None


def _explain(error: SyscallError, path: str) -> RootlessError:
    if error.errno == errno.ENOENT:
        return NotFound(f"Could not find the file {path} in the container")
    if error.errno == errno.ENOTDIR:
        return InvalidInput(f"not a directory: {path}")
    if error.errno == errno.ELOOP:
        return InvalidInput(f"too many symbolic links: {path}")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidInput(f"path is too long: {path[:64]}…")
    return error


def _link_target(root: int, path: str, link: int) -> str:
    """Where the symlink leads inside the container, or what it says when it leads nowhere."""
    said = os.readlink("", dir_fd=link)
    try:
        fd = openat2(root, path, os.O_PATH)
    except SyscallError:
        here = posixpath.dirname(posixpath.join("/", path))
        return posixpath.normpath(posixpath.join(here, said))
    try:
        return _inside(root, fd)
    finally:
        os.close(fd)


def _inside(root: int, fd: int) -> str:
    """The absolute path in the container of what ``fd`` was opened as."""
    top = path_of(root).rstrip("/")
    inside = path_of(fd).removeprefix(top)
    return inside if inside.startswith("/") else "/" + inside
