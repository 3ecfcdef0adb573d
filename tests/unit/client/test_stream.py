"""Streams: framing under any split, detach keys, and both directions at once."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.client.http import BrokenReply, Connection
from rootless.client.stream import Demux, DetachFilter, OutputClosed, Pump, Raw, parse_detach_keys


def frame(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def drained(read: int) -> bytes:
    out = b""
    while piece := os.read(read, 1 << 20):
        out += piece
    return out


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12),
    st.lists(st.integers(1, 19), min_size=1, max_size=10),
)
def test_any_split_gives_the_same_streams(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    sink = Demux(out_write, err_write)
    rest = b"".join(frame(kind, data) for kind, data in frames)
    index = 0
    while rest:
        size = cuts[index % len(cuts)]
        sink.feed(rest[:size])
        rest, index = rest[size:], index + 1
    os.close(out_write)
    os.close(err_write)
    assert sink.complete
    assert drained(out_read) == b"".join(data for kind, data in frames if kind == 1)
    assert drained(err_read) == b"".join(data for kind, data in frames if kind == 2)
    os.close(out_read)
    os.close(err_read)


def test_thousands_of_frames_in_one_piece() -> None:
    read, write = os.pipe()
    Demux(write, write).feed(b"".join(frame(1, b"x") for _ in range(5000)))
    os.close(write)
    assert drained(read) == b"x" * 5000
    os.close(read)


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(BrokenReply, match="malformed"):
        Demux(1, 2).feed(b"HTTP/1.1 200")


def test_a_reader_that_left() -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(OutputClosed):
        Raw(write).feed(b"x")
    os.close(write)


@pytest.mark.parametrize(
    ("pieces", "forwarded", "detached"),
    [
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"a\x11\x10b"], b"a\x11\x10b", False),
    ],
)
def test_detach_keys(pieces: list[bytes], forwarded: bytes, detached: bool) -> None:
    keys = DetachFilter(parse_detach_keys("ctrl-p,ctrl-q"))
    out, done = b"", False
    for piece in pieces:
        text, done = keys.feed(piece)
        out += text
    assert (out, done) == (forwarded, detached)


def test_the_key_with_a_name_of_its_own() -> None:
    assert parse_detach_keys("DEL,ctrl-[") == b"\x7f\x1b"


def test_held_keys_are_given_back_at_the_end() -> None:
    keys = DetachFilter(b"ab")
    assert keys.feed(b"xa") == (b"x", False)
    assert keys.flush() == b"a"


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-1", "ab", "ctrl-p,", "shift-x"])
def test_wrong_detach_keys(text: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        parse_detach_keys(text)


def _connection(near: socket.socket) -> Connection:
    connection = Connection.__new__(Connection)
    connection.path = "pair"
    connection.sock = near
    connection._buffer = b""
    return connection


def test_64_mib_in_both_directions_at_once() -> None:
    """The peer echoes; our input is half-closed at its end; nothing is lost or reordered."""
    near, far = socket.socketpair()
    size = 64 << 20
    block = os.urandom(1 << 20)
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    sums: dict[str, str] = {}

    def feed() -> None:
        digest = hashlib.sha256()
        for _ in range(size >> 20):
            digest.update(block)
            view = memoryview(block)
            while view:
                view = view[os.write(in_write, view) :]
        os.close(in_write)
        sums["in"] = digest.hexdigest()

    def echo() -> None:
        while piece := far.recv(100_000):
            far.sendall(frame(1, piece))
        far.close()

    def collect() -> None:
        digest = hashlib.sha256()
        while piece := os.read(out_read, 1 << 20):
            digest.update(piece)
        sums["out"] = digest.hexdigest()

    threads = [threading.Thread(target=work) for work in (feed, echo, collect)]
    for thread in threads:
        thread.start()
    connection = _connection(near)
    Pump(connection, Demux(out_write, 2), stdin=in_read).run()
    os.close(out_write)
    for thread in threads:
        thread.join()
    connection.close()
    os.close(in_read)
    os.close(out_read)
    assert sums["in"] == sums["out"]


def test_a_stream_cut_inside_a_frame_is_an_error() -> None:
    near, far = socket.socketpair()
    far.sendall(frame(1, b"abcdef")[:-2])
    far.close()
    read, write = os.pipe()
    connection = _connection(near)
    with pytest.raises(BrokenReply, match="cut short"):
        Pump(connection, Demux(write, 2)).run()
    connection.close()
    os.close(write)
    assert drained(read) == b"abcd"
    os.close(read)


def test_bytes_that_came_with_the_head_are_first() -> None:
    near, far = socket.socketpair()
    far.sendall(b"second")
    far.close()
    read, write = os.pipe()
    connection = _connection(near)
    connection._buffer = b"first "
    Pump(connection, Raw(write)).run()
    connection.close()
    os.close(write)
    assert drained(read) == b"first second"
    os.close(read)


def _asleep(thread: int) -> bool:
    """True when a thread of ours sleeps in the kernel for a socket (not for the interpreter)."""
    where = Path(f"/proc/self/task/{thread}/wchan").read_text()
    return where != "0" and "futex" not in where


def test_a_signal_that_another_thread_took_is_handled_at_once() -> None:
    """Its handler runs in the main thread, which must not sleep until there is output."""
    server, client = socket.socketpair()
    main = threading.get_native_id()
    handled: list[str] = []
    ended = threading.Event()

    def elsewhere() -> None:
        while not _asleep(main):
            os.sched_yield()
        # To this very thread: nothing interrupts what the main thread sleeps in.
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        if not ended.wait(10):
            handled.append("given up")
            server.close()

    def handler(_number: int, _frame: object) -> None:
        handled.append("signal")
        server.close()

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=elsewhere)
    connection = _connection(client)
    try:
        thread.start()
        Pump(connection, Raw(1)).run()
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        connection.close()
    assert handled[0] == "signal"
