"""The files of one log: found in order, opened, read forwards, and their end counted.

Rotated files are ``NAME.1`` (the youngest) and up, or ``NAME.1.gz`` when the
driver compresses. The shim that writes them renames and removes them at any
time and takes no lock, so they are opened from the youngest on: a file that
becomes older meanwhile is met again, under its next name, and known by its inode.
A compressed one has in its header (``shim_compress``) the original's inode and the
time of its last change; both, because the inode may belong to another file by then.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rootless.engine.logformats import (
    BlockDecoder,
    Decoder,
    LineDecoder,
    attrs_before,
    blocks_backwards,
    lines_backwards,
)
from rootless.engine.logquery import LogQuery
from rootless.errors import Exhausted
from rootless.model.records import LogEntry

CHUNK = 64 << 10
_TURN = 500
_GZIP_HEAD = struct.Struct("<10sH2sHQQ")


class LogFile:
    """One open file. ``form`` is ``json`` or ``blocks``."""

    def __init__(self, path: Path, form: str) -> None:
        self._file: BinaryIO = path.open("rb")
        self._form = form
        self._compressed = path.suffix == ".gz"
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._inode, self._changed_ns = 0, 0
        if self._compressed:
            self._inode, self._changed_ns = _read_header(self._file)
        self._skip = 0
        self._decoder = self._new_decoder()
        self.rewind()

    def identity(self) -> tuple[int, int]:
        """Inode of the file as it was written, and when that was last, in nanoseconds."""
        if self._compressed:
            return self._inode, self._changed_ns
        found = os.fstat(self._file.fileno())
        return found.st_ino, found.st_mtime_ns

    def is_same(self, other: LogFile) -> bool:
        """Whether ``other`` is this file, perhaps compressed meanwhile."""
        ours, theirs = self.identity(), other.identity()
        if not (self._compressed or other._compressed):
            return ours[0] == theirs[0]  # both are open: neither inode can be another's
        return ours == theirs

    def _new_decoder(self) -> Decoder:
        return LineDecoder() if self._form == "json" else BlockDecoder()

    def rewind(self) -> None:
        """Read from the beginning."""
        self._file.seek(0)
        self._decoder = self._new_decoder()
        if self._compressed:
            self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def more(self) -> list[LogEntry] | None:
        """The records of what is read next; None at the end, for now."""
        data = self._read()
        if not data:
            self._look_for_truncation()
            return None
        return self._decoder.feed(data)

    def _read(self) -> bytes:
        if not self._compressed:
            return self._file.read1(CHUNK)  # type: ignore[attr-defined,no-any-return]  # a buffered reader
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(CHUNK)
            try:
                data = self._inflate.decompress(packed, CHUNK)
            except zlib.error:
                return b""
            if data or not packed:
                return data
        return b""

    def _look_for_truncation(self) -> None:
        """Go on at the end of a file that became shorter.

        The shim takes half a record back when the disk is full; users empty the file.
        """
        if self._compressed:
            return
        size, position = os.fstat(self._file.fileno()).st_size, self._file.tell()
        if size < position:
            back = position - self._decoder.pending
            self._file.seek(back if size >= back else 0)
            self._decoder = self._new_decoder()

    # -- the end of a log ------------------------------------------------------

    async def seek_last(self, count: int, query: LogQuery) -> tuple[int, bool]:
        """Read on so that of what ``query`` wants at most the last ``count`` records remain.

        How many of them there are is returned (:meth:`skipped` passes over what is too
        much), and whether older files have none.
        """
        if not self._compressed:
            try:
                return await self._seek_backwards(count, query)
            except ValueError:
                self.rewind()  # damaged: what is whole is counted from the other end
        if count == sys.maxsize:
            return 0, False
        found = 0
        while (entries := self.more()) is not None:
            found += sum(map(query.wants, entries))
            await asyncio.sleep(0)
        self.rewind()
        self._skip = max(0, found - count)
        return min(found, count), False

    async def _seek_backwards(self, count: int, query: LogQuery) -> tuple[int, bool]:
        lines = self._form == "json"
        left = count
        backwards = lines_backwards if lines else blocks_backwards
        for turn, (offset, entries) in enumerate(backwards(self._file)):
            if turn % _TURN == _TURN - 1:
                await asyncio.sleep(0)  # others want the daemon as well
            left -= sum(map(query.wants, entries))
            over = query.is_too_old(entries[0])
            if left <= 0 or over:
                self._skip = max(0, -left)
                self._file.seek(offset)
                if query.details and not lines:
                    self._decoder.feed(attrs_before(self._file, offset))
                return count - max(0, left), over
        self.rewind()
        return count - left, False

    def skipped(self, entries: Sequence[LogEntry]) -> Sequence[LogEntry]:
        """What of ``entries`` (wanted ones) is left without those that are too many."""
        if not self._skip:
            return entries
        passed = min(self._skip, len(entries))
        self._skip -= passed
        return entries[passed:]


def _read_header(file: BinaryIO) -> tuple[int, int]:
    """Inode and time of the last record from a gzip header; zeros when it has none of ours."""
    data = file.read(_GZIP_HEAD.size)
    if len(data) == _GZIP_HEAD.size:
        head, size, name, _, inode, last_ns = _GZIP_HEAD.unpack(data)
        if head[3] & 4 and size >= 20 and name == b"RL":
            return int(inode), int(last_ns)
    return 0, 0


def _names(path: Path, number: int) -> Iterator[Path]:
    if not number:
        yield path
        return
    yield path.with_name(f"{path.name}.{number}")
    yield path.with_name(f"{path.name}.{number}.gz")


def open_files(path: Path, form: str, *, after: LogFile | None = None) -> list[LogFile]:
    """The files of the log, oldest first; those that follow ``after``, if it is among them."""
    found: list[LogFile] = []
    number = misses = 0
    while misses < 2:  # a file may be on its way to the next number
        file = _open(path, number, form)
        number += 1
        if file is None:
            misses += 1
            continue
        misses = 0
        if after is not None and file.is_same(after):
            file.close()
            break
        if any(file.is_same(other) for other in found):
            file.close()
        else:
            found.append(file)
    found.reverse()
    return found


def _open(path: Path, number: int, form: str) -> LogFile | None:
    for name in _names(path, number):
        try:
            return LogFile(name, form)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Exhausted(
                f"cannot open {name}: {error.strerror}",
                hint="a smaller max-file, or a larger limit on open files (ulimit -n)",
            ) from error
    return None
