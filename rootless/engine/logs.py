"""Reading the log of a container: the past of it, and what is added (``logfiles``)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from rootless.engine.logdrivers import LogFiles
from rootless.engine.logfiles import LogFile, open_files
from rootless.engine.logquery import LogQuery
from rootless.engine.watch import FileWatcher
from rootless.model.records import LogEntry

_SLACK_NS = 10**9
"""A file's time of change is read from a coarser clock than its records' times."""


async def read_log(files: LogFiles, query: LogQuery) -> AsyncIterator[Sequence[LogEntry]]:
    """What the log holds now."""
    reader = _LogReader(files, query)
    try:
        async for entries in reader.past():
            yield entries
    finally:
        reader.close()


def history(files: LogFiles, query: LogQuery, until_ns: int) -> AsyncIterator[Sequence[LogEntry]]:
    """What the log holds up to a time (Unix, in nanoseconds; 0 for now)."""
    return read_log(files, replace(query, until_ns=until_ns))


async def follow_log(
    files: LogFiles, query: LogQuery, watcher: FileWatcher, ended: asyncio.Event
) -> AsyncIterator[Sequence[LogEntry]]:
    """What the log holds, then what is added until ``ended`` is set and all was read."""
    reader = _LogReader(files, query)
    # Watched before the first read, so that nothing falls between reading and watching.
    with watcher.watch(files.path.parent, files.path.name) as changed:
        try:
            async for entries in reader.past():
                yield entries
            while True:
                over = ended.is_set() or _past(query)
                changed.clear()
                async for entries in reader.more():
                    yield entries
                if over:
                    return
                await _either(changed, ended, query.until_ns)
        finally:
            reader.close()


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

    def __init__(self, files: LogFiles, query: LogQuery) -> None:
        self._path, self._form = files.path, files.format
        self._query = query
        self._waiting: list[LogFile] = []
        self._file: LogFile | None = None
        """What is read, or was read last."""

    def close(self) -> None:
        """Close all files."""
        for file in self._waiting:
            file.close()
        if self._file is not None:
            self._file.close()

    async def past(self) -> AsyncIterator[Sequence[LogEntry]]:
        """What there is from the first record that is wanted."""
        self._waiting = open_files(self._path, self._form)
        await self._seek()
        async for entries in self._read():
            yield entries

    async def more(self) -> AsyncIterator[Sequence[LogEntry]]:
        """What was added since."""
        async for entries in self._read():
            yield entries
        while self._open_following():
            async for entries in self._read():
                yield entries

    async def _seek(self) -> None:
        """Leave away what was not asked for: older records, and those before the last ones."""
        query, waiting = self._query, self._waiting
        while len(waiting) > 1 and waiting[0].identity()[1] < query.since_ns - _SLACK_NS:
            waiting.pop(0).close()
        everything = query.tail is None or query.tail < 0
        if everything and not query.since_ns:
            return
        left = sys.maxsize if everything else query.tail or 0
        first, over = len(waiting), False
        while first and not over and (left or first == len(waiting)):
            first -= 1
            found, over = await waiting[first].seek_last(left, query)
            left -= found
        for file in waiting[:first]:
            file.close()
        del waiting[:first]

    async def _read(self) -> AsyncIterator[Sequence[LogEntry]]:
        """The rest of the current file, and those that wait behind it."""
        while True:
            while self._file is not None and (entries := self._file.more()) is not None:
                wanted = self._file.skipped([each for each in entries if self._query.wants(each)])
                if wanted:
                    yield wanted
                # A long log must not keep the daemon from its other clients.
                await asyncio.sleep(0)
            if not self._waiting:
                return
            if self._file is not None:
                self._file.close()
            self._file = self._waiting.pop(0)

    def _open_following(self) -> bool:
        """Open what was written after the file that was read to its end, if it was rotated away."""
        self._waiting = open_files(self._path, self._form, after=self._file)
        return bool(self._waiting)
