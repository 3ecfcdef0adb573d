"""Writing a directory tree as a tar stream.

The tree may belong to a running container, which can swap anything at any
time: every object is opened by its last component in an open directory without
following symlinks, and described by what was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from rootless.archive import header as tar
from rootless.archive import whiteout, xattrs
from rootless.archive.header import Header
from rootless.archive.limits import LAYER_SHIFT, IdShift
from rootless.archive.names import show
from rootless.archive.whiteout import WhiteoutReader
from rootless.archive.writer import TarWriter, Writable
from rootless.errors import InvalidInput, SyscallError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a file swapped for a FIFO must not hang the engine.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20
_MAX_DEPTH = 512
_SPARSE_GAIN = 1 << 20

Exclude = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Created:
    """What was written; ``bytes`` is file content."""

    bytes: int
    entries: int


def create(
    root: int,
    out: Writable,
    *,
    name: bytes = b"",
    arcname: bytes = b"",
    shift: IdShift = LAYER_SHIFT,
    whiteouts: WhiteoutReader | None = None,
    exclude: Exclude | None = None,
    include_root: bool = False,
    finish: bool = True,
    sparse_above: int = 0,
) -> Created:
    """Write what lies below the directory descriptor ``root`` as a tar to ``out``.

    ``name`` selects one object of ``root`` (its last component, a file or a
    tree) instead of everything.  ``arcname`` is the path it gets in the archive;
    without one, names are relative to ``root``.  ``whiteouts`` turns the disk's
    whiteouts into ``.wh.`` entries.  ``exclude`` is asked with each path in the
    archive.  Entries are sorted by name, times cut to seconds (as Docker), ids
    shifted back to the image's; sockets are left out.  Files larger than
    ``sparse_above`` bytes keep their holes.
    """
    walker = _Walker(out, shift, whiteouts, exclude, sparse_above)
    if name:
        walker.one(root, name, arcname or name)
        walker.walk()
    else:
        if include_root or arcname:
            walker.directory_entry(root, arcname)
        walker.enter(os.dup(root), arcname)
        walker.walk()
    if finish:
        walker.tar.finish()
    return Created(walker.bytes, walker.tar.entries)


class _Walker:
    def __init__(
        self,
        out: Writable,
        shift: IdShift,
        whiteouts: WhiteoutReader | None,
        exclude: Exclude | None,
        sparse_above: int,
    ) -> None:
        self.tar = TarWriter(out)
        self._sparse_above = sparse_above
        self.bytes = 0
        self._shift = shift
        self._whiteouts = whiteouts
        self._exclude = exclude
        self._links: dict[tuple[int, int], bytes] = {}
        self._stack: list[tuple[int, bytes, list[bytes]]] = []

    # Walking ---------------------------------------------------------------

    def enter(self, fd: int, path: bytes) -> None:
        """Take over ``fd`` and put its entries on the stack."""
        if len(self._stack) >= _MAX_DEPTH:
            os.close(fd)
            raise InvalidInput(
                f"'{show(path)}' is nested deeper than {_MAX_DEPTH} directories",
                hint="remove or flatten it",
            )
        names = sorted((os.fsencode(n) for n in os.listdir(fd)), reverse=True)
        self._stack.append((fd, path, names))

    def walk(self) -> None:
        """Write everything on the stack; iterative, as depth is the container's choice."""
        try:
            while self._stack:
                fd, path, names = self._stack[-1]
                if not names:
                    self._stack.pop()
                    os.close(fd)
                    continue
                name = names.pop()
                full = _join(path, name)
                self.one(fd, name, full)
        finally:
            while self._stack:
                os.close(self._stack.pop()[0])

    def one(self, parent: int, name: bytes, path: bytes) -> None:
        """One object; a directory is also entered."""
        if self._exclude is not None and self._exclude(path):
            return
        try:
            self._one(parent, name, path)
        except FileNotFoundError:
            return  # removed while we were walking
        except OSError as error:
            raise SyscallError("archive", show(path), error.errno or 0) from error

    def _one(self, parent: int, name: bytes, path: bytes) -> None:
        status = os.lstat(name, dir_fd=parent)
        mode = status.st_mode
        marks = self._whiteouts
        if marks is not None and marks.is_removed(parent, name, status):
            self._whiteout(path)
        elif marks is not None and marks.is_mark(name):
            return
        elif stat.S_ISDIR(mode):
            self._directory(parent, name, path)
        elif stat.S_ISREG(mode):
            self._regular(parent, name, path)
        elif not stat.S_ISSOCK(mode) and not self._linked(status, path):
            header = self._header(path, status, self._kind(mode))
            if header.kind == tar.SYMLINK:
                header.link = os.readlink(name, dir_fd=parent)
            self.tar.begin(header)

    @staticmethod
    def _kind(mode: int) -> int:
        kinds = {
            stat.S_IFLNK: tar.SYMLINK,
            stat.S_IFIFO: tar.FIFO,
            stat.S_IFCHR: tar.CHAR,
            stat.S_IFBLK: tar.BLOCKDEV,
        }
        return kinds[stat.S_IFMT(mode)]

    # Entries ---------------------------------------------------------------

    def _header(self, path: bytes, status: os.stat_result, kind: int) -> Header:
        device = kind in (tar.CHAR, tar.BLOCKDEV)
        return Header(
            name=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=self._shift.to_image(status.st_uid),
            gid=self._shift.to_image(status.st_gid),
            size=0,
            mtime_ns=status.st_mtime_ns // 10**9 * 10**9,
            link=b"",
            devmajor=os.major(status.st_rdev) if device else 0,
            devminor=os.minor(status.st_rdev) if device else 0,
        )

    def _whiteout(self, path: bytes) -> None:
        head, slash, base = path.rpartition(b"/")
        name = head + slash + whiteout.PREFIX + base
        self.tar.begin(Header(name, tar.REGULAR_KIND, 0o600, 0, 0, 0, 0, b"", 0, 0))

    def directory_entry(self, fd: int, path: bytes) -> None:
        """The entry of an open directory, and its opaque mark."""
        name = _join(path, b"") if path else b"./"
        header = self._header(name, os.fstat(fd), tar.DIRECTORY)
        header.xattrs = _attributes(fd)
        self.tar.begin(header)
        if self._whiteouts is not None and self._whiteouts.is_opaque(fd):
            opaque = _join(path, whiteout.OPAQUE)
            self.tar.begin(Header(opaque, tar.REGULAR_KIND, 0o600, 0, 0, 0, 0, b"", 0, 0))

    def _directory(self, parent: int, name: bytes, path: bytes) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            self.directory_entry(fd, path)
        except BaseException:
            os.close(fd)
            raise
        self.enter(fd, path)

    def _linked(self, status: os.stat_result, path: bytes) -> bool:
        """Write a hard link if this inode was written before."""
        if status.st_nlink < 2:
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first is path:
            return False
        header = self._header(path, status, tar.LINK)
        header.link = first
        self.tar.begin(header)
        return True

    def _regular(self, parent: int, name: bytes, path: bytes) -> None:
        try:
            fd = os.open(name, _FILE, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return  # swapped for a symlink or a socket since the lstat
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or self._linked(status, path):
                return
            header = self._header(path, status, tar.REGULAR_KIND)
            header.xattrs = _attributes(fd)
            header.size = status.st_size
            least = max(status.st_blocks * 512 + _SPARSE_GAIN, self._sparse_above)
            if status.st_size > least:
                self._sparse(fd, header)
            else:
                self.tar.begin(header)
                self._copy(fd, 0, header.size)
                self.tar.pad(header.size)
        finally:
            os.close(fd)

    def _copy(self, fd: int, offset: int, size: int) -> None:
        """Exactly ``size`` bytes: a file that shrinks meanwhile is filled with zeros."""
        self.bytes += size
        while size:
            data = os.pread(fd, min(size, _CHUNK), offset)
            if not data:
                data = bytes(min(size, _CHUNK))
            self.tar.write(data)
            size -= len(data)
            offset += len(data)

    def _sparse(self, fd: int, header: Header) -> None:
        """GNU's PAX format 1.0, which GNU tar, Go's archive/tar and libarchive read."""
        real = header.size
        segments = _segments(fd, real)
        lines = [len(segments), *(value for segment in segments for value in segment)]
        table = b"".join(b"%d\n" % value for value in lines)
        table += bytes(-len(table) % tar.BLOCK)
        data = sum(length for _, length in segments)
        name = header.name
        head, slash, base = name.rpartition(b"/")
        header.name = head + slash + b"GNUSparseFile.0/" + base
        header.size = len(table) + data
        extra = (
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", name),
            (b"GNU.sparse.realsize", b"%d" % real),
        )
        self.tar.begin(header, extra)
        self.tar.write(table)
        for offset, length in segments:
            self._copy(fd, offset, length)
        self.tar.pad(header.size)


def _join(path: bytes, name: bytes) -> bytes:
    """``name`` in the archive's directory ``path``, which is ``/`` when a root is copied out."""
    return path.rstrip(b"/") + b"/" + name if path else name


def _segments(fd: int, size: int) -> list[tuple[int, int]]:
    """Data segments of a file by lseek(2) SEEK_DATA; at most as many as our reader takes."""
    segments: list[tuple[int, int]] = []
    at = 0
    while at < size and len(segments) < 32_768:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # only a hole is left
            raise
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if at <= start:
            break
        segments.append((start, at - start))
    else:
        if at < size:
            segments.append((at, size - at))
    return segments


def _attributes(fd: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return found
        raise
    for name in names:
        try:
            raw = os.getxattr(fd, name)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOVERFLOW, errno.EPERM, errno.ENOTSUP):
                continue  # gone meanwhile, or a capability of somebody else's namespace
            raise
        value = xattrs.to_archive(os.fsencode(name), raw)
        if value is not None:
            found[os.fsencode(name)] = value
    return found
