"""What shims write, read back: Docker's json-file lines, and the blocks of ``model.logblocks``.

A decoder takes a file's bytes as they come and gives the records that are
whole. What a crash or a full disk left half written is passed over, never an
error: the log must stay readable.
"""

from __future__ import annotations

import calendar
import json
import os
import time
from collections.abc import Iterator
from typing import BinaryIO, Literal, Protocol

import msgspec

from rootless.model import logblocks
from rootless.model.records import LogEntry

_LONGEST = 64 << 20
"""Bytes of a line, attributes and all, above which it is taken for damage."""
_DAMAGED = b"\0"
_CHUNK = 64 << 10
Stream = Literal["stdout", "stderr"]
_STREAMS: dict[int, Stream] = {logblocks.STDOUT: "stdout", logblocks.STDERR: "stderr"}


class _Line(msgspec.Struct):
    log: str = ""
    stream: Stream = "stdout"
    time: str = ""
    attrs: dict[str, str] = {}


_decode = msgspec.json.Decoder(_Line).decode
_seconds: dict[str, int] = {}


def parse_time(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time in UTC with up to nine digits of a second."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = _seconds.get(whole)
    if seconds is None:
        seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
        if len(_seconds) > 64:
            _seconds.clear()
        _seconds[whole] = seconds
    return seconds * 10**9 + int(rest.ljust(9, "0")[:9] or 0)


def parse_line(line: bytes) -> LogEntry | None:
    """One line of a json-file log; ``None`` when it is damaged."""
    try:
        found = _decode(line)
    except msgspec.DecodeError:
        # Lone surrogates, which other writers store bytes that are no UTF-8 as, only the
        # standard library's parser takes.
        try:
            found = msgspec.convert(json.loads(line), _Line)
        except (msgspec.ValidationError, ValueError, RecursionError):
            return None
    try:
        data = found.log.encode("utf-8", "surrogateescape")
        return LogEntry(found.stream, parse_time(found.time), data, found.attrs)
    except ValueError:
        return None


class Decoder(Protocol):
    """Records out of the bytes of one file."""

    pending: int
    """Bytes taken that are no whole record yet."""

    def feed(self, data: bytes) -> list[LogEntry]:
        """The records that are whole now that ``data`` came."""


class LineDecoder:
    """json-file."""

    def __init__(self) -> None:
        self._rest = b""
        self.pending = 0

    def feed(self, data: bytes) -> list[LogEntry]:
        """See :class:`Decoder`."""
        if b"\n" not in data:
            self._rest = self._rest + data if self.pending < _LONGEST else _DAMAGED
            self.pending += len(data)
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.pending = len(self._rest)
        return [entry for line in lines if line and (entry := parse_line(line)) is not None]


class BlockDecoder:
    """``local``."""

    def __init__(self) -> None:
        self._rest = b""
        self._attrs: dict[str, str] = {}
        self.pending = 0

    def feed(self, data: bytes) -> list[LogEntry]:
        """See :class:`Decoder`."""
        data = self._rest + data if self._rest else data
        found: list[LogEntry] = []
        start = 0
        while len(data) - start >= logblocks.HEAD_SIZE:
            head = logblocks.unpack_head(data, start)
            if head is None:
                start = _next_magic(data, start + 1)
                continue
            kind, time_ns, length, check = head
            end = start + logblocks.OVERHEAD + length
            if end > len(data):
                break
            payload = data[start + logblocks.HEAD_SIZE : end - logblocks.FOOT_SIZE]
            if not logblocks.is_whole(payload, check):
                start = _next_magic(data, start + 1)
                continue
            start = end
            if kind == logblocks.ATTRS:
                self._attrs = parse_attrs(payload)
            elif kind in _STREAMS:
                found += entries_of(kind, time_ns, payload, self._attrs)
        self._rest = data[start:]
        self.pending = len(self._rest)
        return found


def _next_magic(data: bytes, start: int) -> int:
    """Where the next block may begin; at the end that may be in the middle of its first bytes."""
    found = data.find(logblocks.MAGIC, start)
    return found if found >= 0 else max(start, len(data) - len(logblocks.MAGIC) + 1)


def parse_attrs(payload: bytes) -> dict[str, str]:
    """The attributes of a block; none when they are damaged."""
    try:
        return msgspec.json.decode(payload, type=dict[str, str])
    except msgspec.MsgspecError:
        return {}


def entries_of(kind: int, time_ns: int, payload: bytes, attrs: dict[str, str]) -> list[LogEntry]:
    """The records of a block."""
    stream = _STREAMS[kind]
    *lines, part = payload.split(b"\n")
    found = [LogEntry(stream, time_ns, line + b"\n", attrs) for line in lines]
    if part:
        found.append(LogEntry(stream, time_ns, part, attrs))
    return found


def lines_backwards(file: BinaryIO) -> Iterator[tuple[int, list[LogEntry]]]:
    """Records of a json-file log from the last one on, with where each begins."""
    position = file.seek(0, os.SEEK_END)
    rest: list[bytes] = []
    while position > 0:
        step = min(_CHUNK, position)
        position = file.seek(position - step)
        block = file.read(step)
        first = block.find(b"\n")
        if first < 0 and position:
            rest.append(block)  # in the middle of a long line
            continue
        block += b"".join(reversed(rest))
        lines = block.split(b"\n")
        # The first piece may continue in the block before.
        rest = [lines[0]] if position else []
        offset = position + len(block)
        for line in reversed(lines[1:] if position else lines):
            offset -= len(line) + 1
            if line and (entry := parse_line(line)) is not None:
                yield max(offset + 1, 0), [entry]


def blocks_backwards(file: BinaryIO) -> Iterator[tuple[int, list[LogEntry]]]:
    """Records of blocks from the last one on; raises ValueError at damage."""
    position = file.seek(0, os.SEEK_END)
    fd = file.fileno()
    while position > 0:
        foot = os.pread(fd, logblocks.FOOT_SIZE, position - logblocks.FOOT_SIZE)
        length = logblocks.unpack_foot(foot)
        position -= logblocks.OVERHEAD + length
        if position < 0 or length > logblocks.MAX_PAYLOAD:
            raise ValueError("damaged")
        block = os.pread(fd, logblocks.HEAD_SIZE + length, position)
        head = logblocks.unpack_head(block)
        if head is None or head[2] != length:
            raise ValueError("damaged")
        payload = block[logblocks.HEAD_SIZE :]
        if not logblocks.is_whole(payload, head[3]):
            raise ValueError("damaged")
        if head[0] in _STREAMS and payload:
            yield position, entries_of(head[0], head[1], payload, {})


def attrs_before(file: BinaryIO, position: int) -> bytes:
    """The block of attributes that holds for what follows ``position``; b'' for none."""
    fd = file.fileno()
    while position > 0:
        foot = os.pread(fd, logblocks.FOOT_SIZE, position - logblocks.FOOT_SIZE)
        length = logblocks.unpack_foot(foot)
        position -= logblocks.OVERHEAD + length
        if position < 0:
            break
        head = logblocks.unpack_head(os.pread(fd, logblocks.HEAD_SIZE, position))
        if head is None or head[2] != length:
            break
        if head[0] == logblocks.ATTRS:
            return os.pread(fd, logblocks.OVERHEAD + length, position)
    return b""
