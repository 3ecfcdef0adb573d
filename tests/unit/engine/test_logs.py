"""Reading json-file logs: queries, tails, rotation, damage, following."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rootless.engine.logdrivers import LogFiles
from rootless.engine.logformats import parse_line, parse_time
from rootless.engine.logquery import LogQuery
from rootless.engine.logs import follow_log, read_log
from rootless.engine.watch import FileWatcher

SECOND = 10**9
BASE = parse_time("2026-01-02T03:04:05Z")


def _line(number: int, stream: str = "stdout") -> str:
    entry = {
        "log": f"line {number}\n",
        "stream": stream,
        "time": f"2026-01-02T03:04:{number:02d}.000000005Z",
    }
    return json.dumps(entry) + "\n"


def _write(path: Path, numbers: range) -> None:
    with path.open("a") as file:
        for number in numbers:
            file.write(_line(number, "stderr" if number % 2 else "stdout"))


async def _numbers(path: Path, query: LogQuery) -> list[int]:
    files = LogFiles(path, "json")
    return [int(e.data.split()[1]) async for entries in read_log(files, query) for e in entries]


def test_times_keep_nanoseconds() -> None:
    assert parse_time("1970-01-01T00:00:01.5Z") == SECOND + SECOND // 2
    assert parse_time("1970-01-01T00:00:00.000000001Z") == 1


def test_bytes_that_are_not_utf8_survive() -> None:
    raw = b"\xff\xfe\n".decode("utf-8", "surrogateescape")
    line = json.dumps({"log": raw, "stream": "stdout", "time": "2026-01-02T03:04:05Z"}).encode()
    entry = parse_line(line)
    assert entry is not None
    assert entry.data == b"\xff\xfe\n"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (LogQuery(), list(range(20))),
        (LogQuery(stderr=False), list(range(0, 20, 2))),
        (LogQuery(tail=3), [17, 18, 19]),
        (LogQuery(tail=0), []),
        (LogQuery(tail=-1), list(range(20))),
        (LogQuery(tail=2, stdout=False), [17, 19]),
        (LogQuery(tail=12), list(range(8, 20))),
        (LogQuery(tail=10), list(range(10, 20))),
        (LogQuery(tail=100), list(range(20))),
        (LogQuery(since_ns=BASE + 13 * SECOND), [18, 19]),
        (LogQuery(until_ns=BASE - 3 * SECOND), [0, 1]),
    ],
)
async def test_queries_over_rotated_files(
    tmp_path: Path, query: LogQuery, expected: list[int]
) -> None:
    log = tmp_path / "container.log"
    _write(tmp_path / "container.log.2", range(5))
    _write(tmp_path / "container.log.1", range(5, 10))
    _write(log, range(10, 20))
    assert await _numbers(log, query) == expected


async def test_tail_of_a_log_longer_than_a_block(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    with log.open("w") as file:
        for number in range(5000):
            file.write(_line(number % 60).replace(f"line {number % 60}\\n", f"line {number}\\n"))
    assert await _numbers(log, LogQuery(tail=3000)) == list(range(2000, 5000))
    assert await _numbers(log, LogQuery(tail=1)) == [4999]


async def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    log.write_text(_line(1) + '{"log": "half' + "\n" + _line(2) + '{"log":"unfinished')
    assert await _numbers(log, LogQuery()) == [1, 2]
    assert await _numbers(log, LogQuery(tail=1)) == [2]


async def test_no_log_yet(tmp_path: Path) -> None:
    assert await _numbers(tmp_path / "container.log", LogQuery(tail=5)) == []


async def test_follow_sees_lines_across_a_rotation_and_ends(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    _write(log, range(2))
    watcher = FileWatcher()
    ended = asyncio.Event()
    stream = follow_log(LogFiles(log, "json"), LogQuery(tail=1), watcher, ended)
    try:
        assert [e.data for e in await anext(stream)] == [b"line 1\n"]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        _write(log, range(2, 3))
        assert [e.data for e in await waiting] == [b"line 2\n"]
        _write(log, range(3, 4))
        log.rename(tmp_path / "container.log.1")
        _write(log, range(4, 6))
        ended.set()
        assert [e.data async for entries in stream for e in entries] == [
            b"line 3\n",
            b"line 4\n",
            b"line 5\n",
        ]
    finally:
        watcher.close()


async def test_follow_waits_for_a_log_that_does_not_exist(tmp_path: Path) -> None:
    log = tmp_path / "container.log"
    watcher = FileWatcher()
    ended = asyncio.Event()
    stream = follow_log(LogFiles(log, "json"), LogQuery(), watcher, ended)
    try:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        _write(log, range(1))
        assert [e.data for e in await waiting] == [b"line 0\n"]
        await stream.aclose()  # type: ignore[attr-defined]  # a generator
    finally:
        watcher.close()
