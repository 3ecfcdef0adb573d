"""The ``local`` log driver: blocks of raw bytes (``model.logblocks``), the fastest there is.

Only shims import it that write such a file: for the driver ``local``, and as
the readable copy of drivers that send their records away.
"""

from __future__ import annotations

import os
import time

from rootless.model import logblocks
from rootless.runtime.shim_lines import LineLog, Piece
from rootless.runtime.shim_logfile import LogFile


def mend(fd: int, size: int) -> int:
    """Cut off what a shim that was killed has left of a block; the size without it."""
    if _ends_well(fd, size):
        return size
    offset = 0
    while (head := logblocks.unpack_head(os.pread(fd, logblocks.HEAD_SIZE, offset))) is not None:
        end = offset + logblocks.OVERHEAD + head[2]
        if end > size or not _ends_well(fd, end):
            break
        offset = end
    os.ftruncate(fd, offset)
    return offset


def _ends_well(fd: int, size: int) -> bool:
    if size < logblocks.OVERHEAD:
        return False
    length = logblocks.unpack_foot(os.pread(fd, logblocks.FOOT_SIZE, size - logblocks.FOOT_SIZE))
    start = size - logblocks.OVERHEAD - length
    if start < 0:
        return False
    head = logblocks.unpack_head(os.pread(fd, logblocks.HEAD_SIZE, start))
    return head is not None and head[2] == length


class LocalLog(LineLog):
    """Writes blocks to a rotated file. ``attrs`` is an object in JSON, b'' for none."""

    def __init__(self, file: LogFile, attrs: bytes = b"") -> None:
        self._lines = None
        self._file = file
        self._attrs = attrs
        self._begun = 0
        """Size of a file in which nothing is logged yet."""
        file.on_open = mend
        file.on_rotate = self._begin
        if file.open() and (attrs or file.size):
            self._write(logblocks.ATTRS, time.time_ns(), attrs or b"{}")

    def _begin(self) -> None:
        if self._attrs:
            self._write(logblocks.ATTRS, time.time_ns(), self._attrs)
        self._begun = self._file.size

    def _write(self, kind: int, time_ns: int, payload: bytes) -> None:
        self._file.write(logblocks.pack(kind, time_ns, payload), b"")

    def put(self, stream: int, piece: Piece) -> bool:
        """Log one piece, in as many blocks as files need. Never full."""
        time_ns, text = piece
        file = self._file
        start, size = 0, len(text)
        while file.max_size and size - start > (room := file.room() - logblocks.OVERHEAD):
            end = text.rfind(b"\n", start, max(start, start + room)) + 1
            if not end and file.size > self._begun:
                file.rotate()
                continue
            end = end or text.find(b"\n", start) + 1 or size  # longer than a file may be
            self._write(stream, time_ns, text[start:end])
            start = end
        if start < size:
            self._write(stream, time_ns, text[start:] if start else text)
        return False

    def close(self) -> None:
        """Write unfinished lines and close the file."""
        self.finish()
        self._file.close()
