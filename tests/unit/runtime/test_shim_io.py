"""The shim's pump between real pipes and sockets: frames cut anywhere, memory bounded."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.runtime import shim_spool
from rootless.runtime.shim_io import CLOSE_STDIN, READ, RESIZE, STDERR, STDIN, STDOUT, Pump

_HEADER = struct.Struct(">BxxxI")
_CEILING = 3 << 20
"""What may wait in the pump: the high-water mark and what one read adds."""


class World:
    """A pump whose process is the test itself."""

    def __init__(self, directory: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        self.path = str(directory / "s")
        listener.bind(self.path)
        listener.listen()
        self.out, out = self._pipe(0)
        self.err, err = self._pipe(0)
        self.stdin, stdin = self._pipe(1)
        self.pump = Pump(listener, stdin_once=True)
        self.pump.add_output(out, STDOUT)
        self.pump.add_output(err, STDERR)
        self.pump.set_stdin(stdin, terminal=False)
        self.sizes: list[tuple[int, int]] = []
        self.pump.resize = lambda rows, columns: self.sizes.append((rows, columns))
        self.clients: list[socket.socket] = []

    @staticmethod
    def _pipe(shim_end: int) -> tuple[int, int]:
        both = os.pipe()
        os.set_blocking(both[1 - shim_end], False)
        return both[1 - shim_end], both[shim_end]

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        sock.setblocking(False)
        self.clients.append(sock)
        return sock

    def attach(self, **streams: bool) -> socket.socket:
        sock = self.connect()
        sock.send(json.dumps({"op": "attach", **streams}).encode() + b"\n")
        while True:
            self.pump.step(0)
            try:
                answer = sock.recv(100)
            except BlockingIOError:
                continue
            assert json.loads(answer)["ok"]
            return sock

    def settle(self) -> None:
        """Let the pump do what it can without us."""
        for _ in range(20):
            self.pump.step(0)

    def close(self) -> None:
        for sock in self.clients:
            sock.close()
        for fd in (self.out, self.err, self.stdin):
            if fd >= 0:
                os.close(fd)
        self.pump.drain_outputs()
        self.pump.close_stdin()
        self.pump.finish(b"{}\n")
        self.pump.linger()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)  # as a shim is in its container's directory
    found = World(tmp_path)
    try:
        yield found
    finally:
        found.close()


def _some(read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except BlockingIOError:
        return None


def test_frames_of_input_may_be_cut_anywhere(world: World) -> None:
    rng = random.Random(7)
    sent = rng.randbytes(600_000)
    wire, position = b"", 0
    while position < len(sent):
        part = sent[position : position + rng.choice([0, 1, 5, 70_000, 200_000])]
        wire += _HEADER.pack(STDIN, len(part)) + part
        wire += _HEADER.pack(RESIZE, 4) + struct.pack(">HH", len(part) % 100, 80)
        position += len(part)
    wire += _HEADER.pack(CLOSE_STDIN, 0)
    client = world.attach(stdin=True)
    received, position = b"", 0
    while True:
        with contextlib.suppress(BlockingIOError):
            position += client.send(wire[position : position + rng.choice([1, 3, 7, 9, 100_000])])
        world.pump.step(0)
        piece = _some(os.read, world.stdin, 50_000)
        if piece == b"":
            break
        received += piece or b""
    assert received == sent
    assert len(world.sizes) == wire.count(_HEADER.pack(RESIZE, 4))


def test_input_nobody_reads_stays_with_the_client(world: World) -> None:
    client = world.attach(stdin=True)
    frame = _HEADER.pack(STDIN, 1 << 18) + bytes(1 << 18)
    sent, idle = 0, 0
    while idle < 20:
        try:
            sent += client.send(frame[sent % len(frame) :])
            idle = 0
        except BlockingIOError:
            idle += 1
        world.settle()
    assert world.pump.stdin_pending < _CEILING
    other = world.attach(stdout=True)
    os.write(world.out, b"alive")
    world.settle()
    assert other.recv(100) == _HEADER.pack(STDOUT, 5) + b"alive"


class Reader:
    """A client that takes frames apart."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.seen = {STDOUT: b"", STDERR: b""}
        self.ended = False
        self._left = b""

    def read(self) -> None:
        """What is there."""
        data = _some(self.sock.recv, 1 << 20)
        self.ended = self.ended or data == b""
        view = memoryview(self._left + (data or b""))
        start = 0
        while len(view) - start >= _HEADER.size:
            kind, length = _HEADER.unpack_from(view, start)
            end = start + _HEADER.size + length
            if end > len(view):
                break
            self.seen[kind] += view[start + _HEADER.size : end]
            start = end
        self._left = bytes(view[start:])


def _until_nobody_takes_more(world: World) -> int:
    written, idle = 0, 0
    while idle < 20:
        size = _some(os.write, world.out, b"o" * 65536)
        idle = 0 if size else idle + 1
        written += int(size or 0)
        world.settle()
    return written


_SAID = random.Random(8).randbytes(9 << 20)


def _say(world: World, reader: Reader, said: bytes = _SAID) -> None:
    """The process writes to both streams as fast as ``reader`` reads."""
    sent = 0
    while sent < len(said) or len(reader.seen[STDOUT]) + len(reader.seen[STDERR]) < sent:
        if sent < len(said):
            fd = world.err if sent % 3 == 1 else world.out
            sent += int(_some(os.write, fd, said[sent : sent + 50_001]) or 0)
        world.pump.step(0)
        reader.read()


def test_a_reader_that_is_stuck_stalls_nobody_and_loses_nothing(world: World) -> None:
    stuck, other = Reader(world.attach(stdout=True, stderr=True)), Reader(world.attach(stdout=True))
    reads = Reader(world.attach(stdout=True, stderr=True))
    _say(world, reads)
    assert len(reads.seen[STDOUT]) + len(reads.seen[STDERR]) == len(_SAID)
    assert all(client.pending < _CEILING for client in world.pump.clients)
    assert os.listdir() == ["s"]
    reads.sock.close()
    for late in (stuck, other):
        while len(late.seen[STDOUT]) < len(reads.seen[STDOUT]):
            world.pump.step(0)
            late.read()
        assert late.seen[STDOUT] == reads.seen[STDOUT]
    assert stuck.seen[STDERR] == reads.seen[STDERR]
    assert all(client.spool is None for client in world.pump.clients)
    os.write(world.out, b"more")
    world.settle()
    stuck.read()
    assert stuck.seen[STDOUT][-4:] == b"more"


@pytest.mark.parametrize("why", ["too much", "no room", "no directory"])
def test_a_reader_that_is_too_far_behind_is_told_so(
    world: World, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if why == "too much":
        monkeypatch.setattr(shim_spool, "LIMIT", 2 << 20)
        monkeypatch.setattr(shim_spool, "SEGMENT", 1 << 20)
        reason = b"(2 MiB wait for it): 2"
    elif why == "no room":
        monkeypatch.setattr(shim_spool, "SEGMENT", 1 << 60)  # what is to stay free
        reason = b"(No space left on device): 0 bytes"
    else:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        reason = b"(No such file or directory): 0 bytes"
    stuck = Reader(world.attach(stdin=True, stdout=True, stderr=True))
    reads = Reader(world.attach(stdout=True, stderr=True))
    _say(world, reads)
    assert len(reads.seen[STDOUT]) + len(reads.seen[STDERR]) == len(_SAID)
    assert _some(os.read, world.stdin, 1) is None
    while not stuck.ended:
        world.pump.step(0)
        stuck.read()
    assert len(stuck.seen[STDOUT]) > 100_000
    assert reads.seen[STDOUT].startswith(stuck.seen[STDOUT])
    told, said = stuck.seen[STDERR].partition(b"\r\nrootless: ")[::2]
    assert reads.seen[STDERR].startswith(told)
    assert reason in said
    assert said.endswith(b" that follow are left out\r\n")
    assert len(world.pump.clients) == 1
    assert _some(os.read, world.stdin, 1) == b""


def test_the_end_waits_for_no_reader(world: World) -> None:
    stuck = Reader(world.attach(stdout=True))
    written = _until_nobody_takes_more(world)
    waits = world.connect()
    waits.send(b'{"op": "wait"}\n')
    world.settle()
    world.pump.drain_outputs()
    world.pump.finish(b"{}\n")
    assert waits.recv(100) == b"{}\n"
    assert len(world.pump.clients) == 1
    while not stuck.ended:
        world.pump.step(0)
        stuck.read()
    assert len(stuck.seen[STDOUT]) == written
    world.pump.linger()


def test_the_end_does_not_wait_for_others_that_go_on_writing(world: World) -> None:
    os.set_blocking(world.out, True)
    reads = Reader(world.attach(stdout=True))
    with subprocess.Popen(["yes"], stdout=world.out, stderr=subprocess.DEVNULL) as other:
        try:
            while not reads.seen[STDOUT]:
                world.pump.step(1)
                reads.read()
            world.pump.drain_outputs()
            assert other.wait() < 0  # SIGPIPE
        finally:
            other.kill()


def test_a_client_that_does_not_read_stops_the_output(world: World) -> None:
    client = world.attach(stdout=True, stderr=True)
    world.attach(stdout=True)
    written = _until_nobody_takes_more(world)
    assert sum(c.pending for c in world.pump.clients) < 2 * _CEILING
    left, seen = b"", 0
    while seen < written:
        world.pump.step(0)
        left += _some(client.recv, 1 << 18) or b""
        while len(left) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(left)
            if len(left) < _HEADER.size + length:
                break
            assert kind == STDOUT
            assert left[_HEADER.size : _HEADER.size + length] == b"o" * length
            seen += length
            left = left[_HEADER.size + length :]
    assert seen == written
    assert not left


def test_a_client_that_stops_reading_and_leaves_frees_the_output(world: World) -> None:
    slow = world.attach(stdout=True)
    fast = world.attach(stdout=True)
    _until_nobody_takes_more(world)
    for each in (slow, fast):
        each.close()
    world.settle()
    assert os.write(world.out, b"on") == 2


@pytest.mark.parametrize(("kind", "length"), [(STDIN, (1 << 20) + 1), (RESIZE, 1 << 16)])
def test_a_frame_beyond_its_bound_ends_the_connection(world: World, kind: int, length: int) -> None:
    client = world.attach(stdin=True)
    client.send(_HEADER.pack(kind, length))
    world.settle()
    assert client.recv(10) == b""


def test_who_asked_before_the_output_gets_all_of_it(world: World) -> None:
    """Several may have; the answer comes before the output, whatever the pump saw first."""
    world.settle()
    asked = []
    for _ in range(3):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(world.path)
        sock.settimeout(5)
        world.clients.append(sock)
        sock.send(b'{"op": "attach", "stdout": true}\n')
        asked.append(sock)
    os.write(world.out, b"first")
    # Registered anew, the output is what epoll tells first.
    world.pump.forget(world.pump.listener.fileno())
    world.pump.watch(world.pump.listener.fileno(), READ, world.pump._accept)
    world.settle()
    for sock in asked:
        answer, _, output = sock.recv(100).partition(b"\n")
        assert json.loads(answer)["ok"]
        assert output == _HEADER.pack(STDOUT, 5) + b"first"
