"""The queue before a slow log: bounded, ordered, and honest about what it lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rootless.runtime.shim_lines import Piece
from rootless.runtime.shim_queue import QueuedLog


class Sink:
    """Takes pieces when it is let, and fails when it is told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.texts: list[bytes] = []
        self.fails = False
        self.closed = False

    def put(self, stream: int, piece: Piece) -> None:
        self.gate.wait()
        if self.fails:
            raise OSError(111, "Connection refused")
        self.texts.append(piece[1])

    def close(self) -> None:
        self.closed = True


def _queue(sink: Sink, limit: int, *, drop: bool) -> tuple[QueuedLog, list[str], threading.Event]:
    said: list[str] = []
    woken = threading.Event()
    log = QueuedLog("the log", sink, limit, drop=drop, tell=said.append, wake=woken.set)
    return log, said, woken


def _await(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_blocking_makes_the_writer_wait_and_wakes_it() -> None:
    sink = Sink()
    log, said, woken = _queue(sink, 100, drop=False)
    assert log.write(1, b"x" * 60 + b"\n") is False
    assert log.write(1, b"y" * 60 + b"\n") is True
    assert log.full()
    sink.gate.set()
    assert woken.wait(60)
    assert not log.full()
    log.close()
    assert b"".join(sink.texts) == b"x" * 60 + b"\n" + b"y" * 60 + b"\n"
    assert sink.closed
    assert said == []


def test_non_blocking_loses_whole_lines_and_counts_them() -> None:
    sink = Sink()
    log, said, _ = _queue(sink, 100, drop=True)
    log.write(1, b"first\n")
    for number in range(50):
        assert log.write(1, b"line %03d\nsecond\n" % number) is False
    sink.gate.set()
    log.close()
    kept = b"".join(sink.texts)
    assert kept.startswith(b"first\nline 000\nsecond\n")
    assert all(line in (b"first", b"second", b"") or len(line) == 8 for line in kept.split(b"\n"))
    lost = 6 + 50 * 16 - len(kept)
    assert said[0].startswith("the log is slower than the output")
    assert said[1:] == [f"the log ends without {lost} bytes"]


def test_a_line_larger_than_the_queue_goes_alone() -> None:
    sink = Sink()
    log, said, _ = _queue(sink, 10, drop=True)
    log.write(1, b"z" * 500 + b"\n")
    sink.gate.set()
    log.close()
    assert sink.texts == [b"z" * 500 + b"\n"]
    assert said == []


def test_a_sink_that_fails_makes_nobody_wait_and_is_tried_again() -> None:
    sink = Sink()
    sink.fails = True
    sink.gate.set()
    log, said, _ = _queue(sink, 100, drop=False)
    log.write(1, b"waits\n")
    _await(lambda: bool(said))
    assert said == ["cannot write the log: Connection refused; it is tried again"]
    assert log.write(1, b"y" * 200 + b"\n") is False
    sink.fails = False
    _await(lambda: len(said) == 2)
    assert said[1] == "the log is written again; 201 bytes were lost"
    log.close()
    assert sink.texts == [b"waits\n"]


def test_a_sink_that_hangs_does_not_hold_up_the_end(monkeypatch: object) -> None:
    sink = Sink()
    log, said, _ = _queue(sink, 100, drop=True)
    log.write(1, b"never\n")
    log.write(1, b"unfinished")
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 30
    assert said == ["the log ends without 16 bytes"]
    sink.gate.set()


def test_tiny_pieces_are_bounded_by_their_number() -> None:
    """A tuple of two bytes takes a hundred times as many."""
    sink = Sink()
    log, _, _ = _queue(sink, 64 << 10, drop=False)
    count = 1
    while not log.write(1, b"\n"):
        count += 1
    assert count < 4000
    sink.gate.set()
    log.close()
    assert b"".join(sink.texts) == b"\n" * count
