"""Output that waits on disk for a client that reads slower than the others.

Files in the working directory, the container's, that have no name: nothing is
left of them whatever happens. Each is let go when it was read.
"""

from __future__ import annotations

import errno
import os
from collections import deque

from rootless.runtime.shim_peer import HEADER

LIMIT = 1 << 30
"""Bytes that may wait for one client."""
SEGMENT = 16 << 20
"""Bytes of a file, above which the next is begun."""
_PIECE = 256 << 10
"""What is read at once; no frame is longer."""


class Spool:
    """Whole frames, first in, first out."""

    __slots__ = ("_files", "_read", "_written", "size")

    def __init__(self) -> None:
        self._files: deque[int] = deque()
        self._read = 0
        """Where the first file is read."""
        self._written = SEGMENT
        """Where the last one ends."""
        self.size = 0
        """Bytes that wait."""

    def append(self, header: bytes, data: bytes) -> None:
        """Add a frame. OSError: there is no room, and what is here is to be given up."""
        length = len(header) + len(data)
        if self._written >= SEGMENT:
            self._begin()
        if os.writev(self._files[-1], (header, data)) != length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += length
        self.size += length

    def _begin(self) -> None:
        if self.size >= LIMIT:
            raise OSError(errno.EFBIG, f"{LIMIT >> 20} MiB wait for it")
        name = f".spool-{os.getpid()}"
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.unlink(name)
        self._files.append(fd)
        self._written = 0
        # Others need the disk as well: at least as much stays free as is taken.
        found = os.fstatvfs(fd)
        if found.f_bavail * found.f_frsize < self.size + SEGMENT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def take(self) -> bytes:
        """Remove and return some frames; b'' when there are none."""
        if not self.size:
            return b""
        data = os.pread(self._files[0], _PIECE, self._read)
        if not data:
            os.close(self._files.popleft())
            self._read = 0
            return self.take()
        end = 0
        while end + HEADER.size <= len(data):
            following = end + HEADER.size + HEADER.unpack_from(data, end)[1]
            if following > len(data):
                break
            end = following
        if not end:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._read += end
        self.size -= end
        return data[:end]

    def close(self) -> None:
        """Drop all of it."""
        while self._files:
            os.close(self._files.popleft())
