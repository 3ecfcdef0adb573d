"""Reading what shims wrote to ``container.log``: Docker's json-file format.

One JSON object a line: ``{"log": "text\\n", "stream": "stdout", "time": "…Z"}``.
Rotated files are ``container.log.1`` (newest) and up. A line cut short by a
crash is skipped, never an error: the log must stay readable.
"""

from __future__ import annotations

import asyncio
import calendar
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from rootless.engine.watch import FileWatcher
from rootless.model.records import LogEntry

_CHUNK = 64 << 10


class _Line(msgspec.Struct):
    log: str = ""
    stream: Literal["stdout", "stderr"] = "stdout"
    time: str = ""


_decode = msgspec.json.Decoder(_Line).decode


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What of a log is wanted; ``tail`` ``None`` for everything."""

    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    tail: int | None = None

    def wants(self, entry: LogEntry) -> bool:
        """True when the entry's stream and time were asked for."""
        if not (self.stdout if entry.stream == "stdout" else self.stderr):
            return False
        if self.since_ns and entry.time_ns < self.since_ns:
            return False
        return not (self.until_ns and entry.time_ns > self.until_ns)


def parse_time(text: str) -> int:
    """Unix nanoseconds of an RFC 3339 time in UTC with up to nine digits of a second."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 10**9 + int(rest.ljust(9, "0")[:9] or 0)


def parse_line(line: bytes) -> LogEntry | None:
    """One line of the file; ``None`` when it is damaged."""
    try:
        found = _decode(line)
    except msgspec.DecodeError:
        # Bytes that are not UTF-8 are stored as lone surrogates, which only the
        # standard library's parser takes.
        try:
            found = msgspec.convert(json.loads(line), _Line)
        except (msgspec.ValidationError, ValueError):
            return None
    try:
        data = found.log.encode("utf-8", "surrogateescape")
        return LogEntry(found.stream, parse_time(found.time), data)
    except ValueError:
        return None


def log_files(path: Path) -> Sequence[Path]:
    """The log and its rotated predecessors that exist, oldest first."""
    files = []
    number = 1
    while (older := path.with_name(f"{path.name}.{number}")).exists():
        files.append(older)
        number += 1
    files.reverse()
    return [*files, path] if path.exists() else files


async def read_log(path: Path, query: LogQuery) -> AsyncIterator[LogEntry]:
    """What the log holds now."""
    async for entry in _LogReader(path, query).past():
        yield entry


async def follow_log(
    path: Path, query: LogQuery, watcher: FileWatcher, ended: asyncio.Event
) -> AsyncIterator[LogEntry]:
    """What the log holds, then what is added until ``ended`` is set and all was read."""
    reader = _LogReader(path, query)
    # Watched before the first read, so that nothing falls between reading and watching.
    with watcher.watch(path.parent, path.name) as changed:
        async for entry in reader.past():
            yield entry
        while True:
            over = ended.is_set() or _past(query)
            changed.clear()
            for entry in reader.more():
                yield entry
            if over:
                return
            await _either(changed, ended, query.until_ns)


def _past(query: LogQuery) -> bool:
    return bool(query.until_ns) and time.time_ns() > query.until_ns


async def _either(changed: asyncio.Event, ended: asyncio.Event, until_ns: int) -> None:
    waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(ended.wait())]
    timeout = max(until_ns - time.time_ns(), 0) / 1e9 if until_ns else None
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class _LogReader:
    """Reads files in order and stays at the end of the newest, across rotations."""

    def __init__(self, path: Path, query: LogQuery) -> None:
        self._path = path
        self._query = query
        self._file: BinaryIO | None = None
        self._rest = b""

    async def past(self) -> AsyncIterator[LogEntry]:
        files: list[BinaryIO] = []
        try:
            files = [path.open("rb") for path in log_files(self._path)]
            start = _tail_start(files, self._query)
            for file in files[start:]:
                self._rest = b""
                while chunk := file.read(_CHUNK):
                    for entry in self._entries(chunk):
                        yield entry
                    # A long log must not keep the daemon from its other clients.
                    await asyncio.sleep(0)
            if files:
                self._file = files.pop()
        finally:
            for file in files:
                file.close()

    def more(self) -> Iterator[LogEntry]:
        if self._file is None and self._path.exists():
            self._file = self._path.open("rb")
        while self._file is not None:
            while chunk := self._file.read(_CHUNK):
                yield from self._entries(chunk)
            following = self._next_file()
            if following is None:
                return
            self._file.close()
            self._file, self._rest = following, b""

    def _next_file(self) -> BinaryIO | None:
        """The file that took our file's place when it was rotated away."""
        assert self._file is not None
        ours = os.fstat(self._file.fileno())
        files = log_files(self._path)
        for index, path in enumerate(files):
            found = path.stat()
            if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
                return files[index + 1].open("rb") if index + 1 < len(files) else None
        return files[0].open("rb") if files else None

    def _entries(self, chunk: bytes) -> Iterator[LogEntry]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            entry = parse_line(line)
            if entry is not None and self._query.wants(entry):
                yield entry

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


def _tail_start(files: Sequence[BinaryIO], query: LogQuery) -> int:
    """Seek so that the last ``tail`` wanted entries remain; the index of the first file."""
    if query.tail is None or query.tail < 0:
        return 0
    left = query.tail
    for index in range(len(files) - 1, -1, -1):
        file = files[index]
        position = file.seek(0, os.SEEK_END)
        if left == 0:
            if index == len(files) - 1:
                return index
            files[index + 1].seek(0)
            return index + 1
        rest = b""
        while position > 0:
            step = min(_CHUNK, position)
            position = file.seek(position - step)
            block = file.read(step) + rest
            lines = block.split(b"\n")
            # The first piece may continue in the block before.
            rest = lines[0]
            offset = position + len(block)
            for line in reversed(lines[1:] if position else lines):
                offset -= len(line) + 1
                entry = parse_line(line) if line else None
                if entry is None or not query.wants(entry):
                    continue
                left -= 1
                if left == 0:
                    file.seek(max(offset + 1, 0))
                    return index
        file.seek(0)
    return 0
