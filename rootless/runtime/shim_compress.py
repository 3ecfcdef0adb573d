"""Log files that are compressed once they are full: ``path.1.gz`` and up.

A thread compresses while the container goes on, and keeps up with files that
are renamed meanwhile. It writes ``path.gz.tmp``, syncs and renames it, and only
then removes the original: a crash leaves one of them whole.

The gzip header (RFC 1952, an extra field with the identifier ``RL``) has the
original's inode and the time of its last record in nanoseconds, two 64-bit
numbers, little endian: a reader that follows the log finds its place by the
one, and passes over what is too old by the other.
"""

from __future__ import annotations

import _thread
import os
import struct
import time
import zlib

from rootless.runtime.shim_logfile import LogFile, Tell

_CHUNK = 256 << 10
_HEAD = struct.Struct("<2sBBIBBH2sHQQ")
_FOOT = struct.Struct("<II")
_FEXTRA, _UNIX = 4, 3


class CompressedLogFile(LogFile):
    """A :class:`LogFile` whose old files are compressed in the background."""

    def __init__(self, path: str, max_size: int, max_files: int, tell: Tell | None = None) -> None:
        super().__init__(path, max_size, max_files, tell)
        self._lock = _thread.allocate_lock()
        self._shifts = 0
        """How often files became one older."""
        self._busy = False
        self._ended = False
        self._compress()

    def shift(self) -> None:
        """Make each file one older, compressed or not; the oldest goes."""
        with self._lock:
            count = self._count()
            if count == self.max_files - 1:
                for name in self._names(count):
                    os.unlink(name)
                count -= 1
            for index in range(count, 0, -1):
                for name in self._names(index):
                    suffix = name.removeprefix(f"{self.path}.{index}")
                    os.replace(name, f"{self.path}.{index + 1}{suffix}")
            if os.path.exists(self.path):
                os.replace(self.path, f"{self.path}.1")
            self._shifts += 1
        self._compress()

    def _compress(self) -> None:
        with self._lock:
            if self._busy or self._ended or not self._due():
                return
            self._busy = True
        _thread.start_new_thread(self._run, ())

    def _names(self, index: int) -> list[str]:
        """What there is of a file: itself, packed, or after a crash both."""
        names = (f"{self.path}.{index}", f"{self.path}.{index}.gz")
        return [name for name in names if os.path.exists(name)]

    def _count(self) -> int:
        """How many old files there are."""
        count = 0
        while count < self.max_files - 1 and self._names(count + 1):
            count += 1
        return count

    def _due(self) -> int:
        """The number of the oldest file that is not compressed; 0 for none."""
        for index in range(self._count(), 0, -1):
            if os.path.exists(f"{self.path}.{index}"):
                return index
        return 0

    def _run(self) -> None:
        while True:
            with self._lock:
                index, shifts = self._due(), self._shifts
                if not index or self._ended:
                    self._busy = False
                    return
                source = self._source(index)
            if source < 0 or not self._compress_one(source, index, shifts):
                with self._lock:
                    self._busy = False
                return  # it is tried again with the next rotation

    def _source(self, index: int) -> int:
        """The file to compress, -1 for one that was compressed before a crash or is not there."""
        name = f"{self.path}.{index}"
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1

    def _compress_one(self, source: int, index: int, shifts: int) -> bool:
        temporary = f"{self.path}.gz.tmp"
        try:
            target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _gzip(source, target)
                os.fsync(target)
            finally:
                os.close(target)
            with self._lock:
                index += self._shifts - shifts
                if index < self.max_files:
                    os.replace(temporary, f"{self.path}.{index}.gz")
                    os.unlink(f"{self.path}.{index}")
                else:
                    os.unlink(temporary)  # it became too old meanwhile
        except OSError:
            try:
                os.unlink(temporary)
            except OSError:
                return False
            return False
        finally:
            os.close(source)
        return True

    def close(self) -> None:
        """Close the file; what is not compressed yet will be at the next start."""
        with self._lock:
            self._ended = True
        super().close()


def _gzip(source: int, target: int) -> None:
    """Write ``source`` to ``target`` in gzip's format."""
    found = os.fstat(source)
    head = _HEAD.pack(
        b"\x1f\x8b", 8, _FEXTRA, int(time.time()), 0, _UNIX, 20, b"RL", 16, found.st_ino,
        found.st_mtime_ns,
    )  # fmt: skip
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    check = size = 0
    _write(target, head)
    while data := os.read(source, _CHUNK):
        check = zlib.crc32(data, check)
        size += len(data)
        _write(target, packer.compress(data))
    _write(target, packer.flush() + _FOOT.pack(check, size & 0xFFFFFFFF))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
