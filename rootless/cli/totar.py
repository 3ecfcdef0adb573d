"""A local file or tree as a tar stream, read through descriptors.

Each entry is opened below its directory's descriptor with ``O_NOFOLLOW``, so a
directory that is swapped for a link while we walk cannot make us send files
from elsewhere.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from rootless.errors import RootlessError

_CHUNK = 256 * 1024


def archive(path: str, name: str, *, follow: bool, owners: bool) -> Iterator[bytes]:
    """The archive of ``path`` with ``name`` as its top entry; ids 0:0 unless ``owners``."""
    parent, last = os.path.split(os.path.abspath(os.path.realpath(path) if follow else path))
    directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield from _Walk(owners=owners).entry(directory, last or ".", name)
        yield tarfile.NUL * (2 * tarfile.BLOCKSIZE)
    finally:
        os.close(directory)


class _Walk:
    def __init__(self, *, owners: bool) -> None:
        self.owners = owners
        self.links: dict[tuple[int, int], str] = {}

    def entry(self, directory: int, last: str, name: str) -> Iterator[bytes]:
        info = os.stat(last, dir_fd=directory, follow_symlinks=False)
        header = self._header(info, name)
        if stat.S_ISDIR(info.st_mode):
            yield from self._directory(directory, last, name, header)
        elif stat.S_ISREG(info.st_mode):
            yield from self._file(directory, last, header)
        elif stat.S_ISLNK(info.st_mode):
            header.type = tarfile.SYMTYPE
            header.linkname = os.readlink(last, dir_fd=directory)
            yield _encode(header)
        elif stat.S_ISFIFO(info.st_mode):
            header.type = tarfile.FIFOTYPE
            yield _encode(header)
        # Sockets and devices are left out: neither can be made on the other side.

    def _header(self, info: os.stat_result, name: str) -> tarfile.TarInfo:
        header = tarfile.TarInfo(name)
        header.mode = stat.S_IMODE(info.st_mode)
        header.mtime = int(info.st_mtime)
        if self.owners:
            header.uid, header.gid = info.st_uid, info.st_gid
        return header

    def _directory(
        self, parent: int, last: str, name: str, header: tarfile.TarInfo
    ) -> Iterator[bytes]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(last, flags, dir_fd=parent)
        try:
            header.type = tarfile.DIRTYPE
            yield _encode(header)
            for child in sorted(os.listdir(fd)):
                yield from self.entry(fd, child, f"{name}/{child}")
        finally:
            os.close(fd)

    def _file(self, parent: int, last: str, header: tarfile.TarInfo) -> Iterator[bytes]:
        # O_NONBLOCK: the name may have become a FIFO since it was looked at.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(last, flags, dir_fd=parent)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise RootlessError(f"{header.name} was replaced while it was copied")
            if info.st_nlink > 1:
                first = self.links.setdefault((info.st_dev, info.st_ino), header.name)
                if first != header.name:
                    header.type, header.linkname = tarfile.LNKTYPE, first
                    yield _encode(header)
                    return
            header.size = info.st_size
            yield _encode(header)
            yield from _content(fd, header)
        finally:
            os.close(fd)


def _content(fd: int, header: tarfile.TarInfo) -> Iterator[bytes]:
    left = header.size
    while left:
        piece = os.read(fd, min(_CHUNK, left))
        if not piece:
            raise RootlessError(f"{header.name} became shorter while it was copied")
        left -= len(piece)
        yield piece
    if rest := header.size % tarfile.BLOCKSIZE:
        yield tarfile.NUL * (tarfile.BLOCKSIZE - rest)


def _encode(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
