"""What log drivers leave on disk, read back with the daemon's reader: nothing lost or spoilt."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.engine.logdrivers import LogFiles
from rootless.engine.logquery import LogQuery
from rootless.engine.logs import follow_log, read_log
from rootless.engine.watch import FileWatcher
from rootless.model.records import LogEntry
from rootless.runtime.shim_compress import CompressedLogFile
from rootless.runtime.shim_lines import Lines
from rootless.runtime.shim_local import LocalLog
from rootless.runtime.shim_log import JsonLog
from rootless.runtime.shim_logfile import LogFile

Log = JsonLog | LocalLog
Make = Callable[..., Log]
FORMATS: dict[str, tuple[type[JsonLog] | type[LocalLog], Literal["json", "blocks"]]] = {
    "json-file": (JsonLog, "json"),
    "local": (LocalLog, "blocks"),
}


class Kind:
    """One driver's log below a directory."""

    def __init__(self, driver: str, directory: Path) -> None:
        self.path = directory / "log"
        self._log, form = FORMATS[driver]
        self.files = LogFiles(self.path, form)
        self.said: list[str] = []

    def open(
        self, size: int = 0, files: int = 1, *, compress: bool = False, attrs: bytes = b""
    ) -> Log:
        kind = CompressedLogFile if compress else LogFile
        return self._log(kind(str(self.path), size, files, self.said.append), attrs)

    def read(self, **query: object) -> list[LogEntry]:
        async def collect() -> list[LogEntry]:
            wanted = LogQuery(**query)  # type: ignore[arg-type]  # keywords of any field
            return [each async for batch in read_log(self.files, wanted) for each in batch]

        return asyncio.run(collect())

    def texts(self, **query: object) -> list[bytes]:
        return [entry.data for entry in self.read(**query)]


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    return Kind(request.param, tmp_path)


def _await(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _settled(path: Path) -> bool:
    """Every rotated file is compressed."""
    plain = [p for p in path.parent.glob("log.*") if p.suffix != ".gz"]
    return not plain


def test_streams_times_and_the_unfinished_line(kind: Kind) -> None:
    log = kind.open()
    before = time.time_ns()
    log.write(1, b"one\ntw")
    log.write(2, b"err\n")
    log.write(1, b"o\nlast")
    assert kind.texts() == [b"one\n", b"err\n", b"two\n"]
    log.close()
    found = kind.read()
    assert [(e.stream, e.data) for e in found][-1] == ("stdout", b"last")
    assert all(before <= e.time_ns <= time.time_ns() for e in found)
    assert kind.texts(stdout=False) == [b"err\n"]


def test_parts_of_a_line_have_the_time_of_the_first(kind: Kind) -> None:
    log = kind.open()
    log.write(1, b"x" * 20000)
    time.sleep(0.002)
    log.write(1, b"x" * 20000 + b"\nnext\n")
    log.close()
    first, second, third, following = kind.read()
    assert (len(first.data), len(second.data), third.data[-1:]) == (16384, 16384, b"\n")
    assert first.time_ns == second.time_ns == third.time_ns < following.time_ns


def test_attributes_are_those_of_their_run(kind: Kind) -> None:
    for attrs in (b'{"run":"1"}', b"", b'{"run":"3"}'):
        log = kind.open(attrs=attrs)
        log.write(1, b"line\n")
        log.close()
    assert [dict(e.attrs) for e in kind.read()] == [{"run": "1"}, {}, {"run": "3"}]
    assert [dict(e.attrs) for e in kind.read(tail=2, details=True)] == [{}, {"run": "3"}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=60)), max_size=12))
def test_local_keeps_every_byte(tmp_path: Path, chunks: list[tuple[int, bytes]]) -> None:
    kind = Kind("local", tmp_path)
    for old in tmp_path.iterdir():
        old.unlink()
    log = kind.open(200, 1000)
    for stream, data in chunks:
        log.write(stream, data)
    log.close()
    for number, name in ((1, "stdout"), (2, "stderr")):
        found = b"".join(e.data for e in kind.read() if e.stream == name)
        assert found == b"".join(data for stream, data in chunks if stream == number)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("tail", [None, 0, 1, 7, 100, 10_000])
def test_rotated_files_are_read_in_order(kind: Kind, *, compress: bool, tail: int | None) -> None:
    log = kind.open(700, 5, compress=compress)
    for number in range(200):
        log.write(1, f"line {number}\n".encode())
    log.close()
    names = {path.name.removesuffix(".gz") for path in kind.path.parent.iterdir()}
    assert names - {"log.gz.tmp"} == {"log", "log.1", "log.2", "log.3", "log.4"}
    whole = kind.texts()
    assert whole == [f"line {n}\n".encode() for n in range(200 - len(whole), 200)]
    assert len(whole) > 20
    if tail is not None:
        assert kind.texts(tail=tail) == (whole[-tail:] if tail else [])


def test_compression_keeps_up_and_what_a_crash_left_is_finished(kind: Kind) -> None:
    log = kind.open(500, 4, compress=True)
    for number in range(100):
        log.write(1, f"line {number}\n".encode())
        time.sleep(0)
    _await(lambda: _settled(kind.path))
    log.close()
    whole = kind.texts()
    packed = kind.path.with_name("log.2.gz")
    with gzip.open(packed) as file:  # a plain gzip file for everybody else
        content = file.read()
    # As if the shim had been killed between the two steps: both are there.
    kind.path.with_name("log.2").write_bytes(content)
    assert kind.texts() == whole
    # And in the middle of packing.
    kind.path.with_name("log.gz.tmp").write_bytes(b"half")
    packed.unlink()
    assert kind.texts() == whole
    log = kind.open(500, 4, compress=True)
    _await(lambda: _settled(kind.path))
    log.close()
    assert packed.exists()
    assert kind.texts() == whole


def test_files_too_old_are_passed_over(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    log = kind.open(500, 9, compress=True)
    for number in range(60):
        log.write(1, f"line {number}\n".encode())
    _await(lambda: _settled(kind.path))
    log.close()
    found = kind.read()
    since = found[-3].time_ns
    assert kind.texts(since_ns=since)[-3:] == [e.data for e in found[-3:]]
    for path in kind.path.parent.glob("*.gz"):
        packed = bytearray(path.read_bytes())
        packed[24:32] = (since - 5 * 10**9).to_bytes(8, "little")  # written long ago, it says
        path.write_bytes(packed)
    current = len(kind.texts(tail=None, since_ns=since))
    assert 0 < current < len(found)


def test_a_log_cut_anywhere_goes_on(kind: Kind) -> None:
    """A shim killed in write(2) leaves half a record: it goes, the next ones are whole."""
    log = kind.open()
    for number in range(4):
        log.write(1, f"line {number}\n".encode())
    log.close()
    data = kind.path.read_bytes()
    for cut in range(len(data)):
        kind.path.write_bytes(data[:cut])
        before = kind.texts()
        log = kind.open()
        log.write(1, b"after\n")
        log.close()
        assert kind.texts() == [*before, b"after\n"], cut


def test_damage_costs_what_is_damaged(kind: Kind) -> None:
    log = kind.open()
    for number in range(50):
        log.write(1, f"line {number}\n".encode())
    log.close()
    data = bytearray(kind.path.read_bytes())
    generator = random.Random(5)
    middle = len(data) // 2
    for offset in range(middle, middle + 40):
        data[offset] = generator.randrange(256)
    kind.path.write_bytes(data)
    found = kind.texts()
    assert len(found) >= 45
    assert found[:20] == [f"line {n}\n".encode() for n in range(20)]
    assert found[-20:] == [f"line {n}\n".encode() for n in range(30, 50)]
    assert kind.texts(tail=3) == found[-3:]
    assert kind.texts(tail=40) == found[-40:]


@contextmanager
def _no_larger_than(size: int) -> Iterator[None]:
    """RLIMIT_FSIZE stands for the full disk (write(2), EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_said_once_and_over(kind: Kind) -> None:
    log = kind.open()
    log.write(1, b"kept\n")
    with _no_larger_than(1000):
        for _ in range(5):
            log.write(1, b"b" * 2000 + b"\n")
    assert kind.texts() == [b"kept\n"]
    assert len(kind.said) == 1
    assert "cannot write the log" in kind.said[0]
    assert "File too large" in kind.said[0]
    log.write(1, b"after\n")
    log.close()
    assert kind.texts() == [b"kept\n", b"after\n"]
    assert len(kind.said) == 2
    assert "is written again" in kind.said[1]


def test_a_log_that_cannot_be_opened_is_tried_again(kind: Kind) -> None:
    kind.path.mkdir()
    log = kind.open()
    log.write(1, b"lost\n")
    assert "Is a directory" in kind.said[0]
    kind.path.rmdir()
    log.write(1, b"kept\n")
    log.close()
    assert kind.texts() == [b"kept\n"]


@pytest.mark.parametrize("compress", [False, True])
async def test_a_follower_sees_every_line_across_rotations(kind: Kind, *, compress: bool) -> None:
    """As long as it is not slower than the files last."""
    log = kind.open(2000, 50, compress=compress)
    watcher, ended = FileWatcher(), asyncio.Event()
    seen: list[bytes] = []

    async def follow() -> None:
        stream = follow_log(kind.files, LogQuery(), watcher, ended)
        async for entries in stream:
            seen.extend(entry.data for entry in entries)

    task = asyncio.ensure_future(follow())
    try:
        for number in range(2000):
            log.write(1, f"line {number}\n".encode())
            if number % 20 == 0:
                await asyncio.sleep(0)
            while number - len(seen) > 500:  # half of what the files hold
                await asyncio.sleep(0.001)
        log.close()
        ended.set()
        await asyncio.wait_for(task, 60)
    finally:
        watcher.close()
    assert seen == [f"line {number}\n".encode() for number in range(2000)]


async def test_a_follower_goes_on_when_the_file_is_emptied(kind: Kind) -> None:
    """``truncate -s 0`` on a log is common."""
    log = kind.open()
    log.write(1, b"before\n" * 20)
    watcher, ended = FileWatcher(), asyncio.Event()
    stream = follow_log(kind.files, LogQuery(), watcher, ended)
    try:
        assert len(await anext(stream)) == 20
        os.truncate(kind.path, 0)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        log.write(1, b"after\n")
        assert [e.data for e in await asyncio.wait_for(waiting, 60)] == [b"after\n"]
    finally:
        await stream.aclose()  # type: ignore[attr-defined]  # a generator
        log.close()
        watcher.close()


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(0, 3))
def test_pieces_are_the_stream(chunks: list[bytes], long: int) -> None:
    lines = Lines()
    data = [chunk + b"y" * (16384 if index == long else 0) for index, chunk in enumerate(chunks)]
    pieces = itertools.chain.from_iterable(lines.feed(1, part, 5) for part in data)
    texts = [text for _, text in pieces]
    rest = [text for _, (_, text) in lines.finish(6)]
    assert b"".join(texts + rest) == b"".join(data)
    assert all(text for text in texts)
    assert all(len(line) <= 16384 for text in texts for line in text.split(b"\n"))


def test_as_many_files_as_somebody_wishes(kind: Kind) -> None:
    log = kind.open(200, 10**9)
    for number in range(50):
        log.write(1, f"line {number}\n".encode())
    log.close()
    assert kind.texts() == [f"line {number}\n".encode() for number in range(50)]


def test_a_gap_that_a_crash_left_is_filled(kind: Kind) -> None:
    """Killed after the old files were renamed, before the newest was."""
    log = kind.open(300, 5)
    for number in range(40):
        log.write(1, f"line {number}\n".encode())
    log.close()
    whole = kind.texts()
    for index in (3, 2, 1):
        kind.path.with_name(f"log.{index}").replace(kind.path.with_name(f"log.{index + 1}"))
    kept = kind.texts()
    assert whole[-len(kept) :] == kept
    log = kind.open(300, 5)
    for number in range(40, 80):
        log.write(1, f"line {number}\n".encode())
    log.close()
    found = kind.texts()
    assert found == [f"line {number}\n".encode() for number in range(80 - len(found), 80)]
    names = sorted(path.name for path in kind.path.parent.iterdir())
    assert names == ["log", "log.1", "log.2", "log.3", "log.4"]


@pytest.mark.parametrize("compress", [False, True])
def test_records_since_a_moment_are_found_from_the_end(kind: Kind, *, compress: bool) -> None:
    """Whatever lies before: what is older is not even decoded."""
    log = kind.open(1500, 50, compress=compress)
    base = time.time_ns() - 1000 * 10**9
    for number in range(300):
        log.put(1 + number % 2, (base + number * 10**9, f"line {number}\n".encode()))
    log.close()
    for first in (0, 1, 77, 150, 298, 299, 300):
        since = base + first * 10**9
        wanted = [f"line {number}\n".encode() for number in range(first, 300)]
        assert kind.texts(since_ns=since) == wanted, first
        assert kind.texts(since_ns=since, tail=50) == wanted[-50:], first
        assert kind.texts(since_ns=since, stderr=False) == [
            text for number, text in enumerate(wanted, first) if number % 2 == 0
        ]
