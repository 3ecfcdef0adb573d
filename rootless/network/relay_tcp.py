"""Connections between clients on the host and a container, byte by byte, each end when it ends."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

CHUNK = 1 << 15
"""Bytes that wait in one direction of a connection, at most; the rest waits at its sender."""

ROUNDS = 8
"""Chunks passed on in one direction before others get their turn."""

_RESET = struct.pack("ii", 1, 0)
"""struct linger: close(2) sends RST (socket(7))."""


@dataclass(slots=True, eq=False)
class _Flow:
    """One direction. ``ended``: the source sent its last byte and the target was told."""

    source: socket.socket
    target: socket.socket
    pending: memoryview = field(default_factory=lambda: memoryview(b""))
    ended: bool = False

    def move(self) -> None:
        """Pass on what there is; OSError when one of the ends was reset."""
        for _ in range(ROUNDS):
            if self.ended:
                return
            if not self.pending:
                try:
                    data = self.source.recv(CHUNK)
                except BlockingIOError:
                    return
                if not data:
                    self.ended = True
                    self.target.shutdown(socket.SHUT_WR)
                    return
                self.pending = memoryview(data)
            try:
                sent = self.target.send(self.pending)
            except BlockingIOError:
                return
            self.pending = self.pending[sent:]


@dataclass(slots=True, eq=False)
class _Pair:
    """A client's connection and the one inside that answers it, tried at ``target`` now."""

    outside: socket.socket
    port: int
    target: int = -1
    inside: socket.socket | None = None
    flows: tuple[_Flow, _Flow] | None = None
    watched: dict[socket.socket, int] = field(default_factory=dict)


class Streams:
    """The TCP ports of one container."""

    def __init__(
        self, selector: selectors.BaseSelector, targets: Sequence[str], *, connections: int
    ) -> None:
        """Further clients than ``connections`` wait in the kernel's queue."""
        self._selector = selector
        self._targets = targets
        self._most = connections
        self._listeners: list[tuple[socket.socket, int]] = []
        self._pairs: set[_Pair] = set()

    def add(self, listener: socket.socket, port: int) -> None:
        """Serve a listening socket."""
        self._listeners.append((listener, port))
        if len(self._pairs) < self._most:  # else it waits with the others
            self._listen(listener, port)

    def retarget(self, targets: Sequence[str]) -> None:
        """Lead further clients to other addresses; who is connected stays."""
        self._targets = targets
        for pair in self._pairs:
            if pair.flows is None:
                pair.target = -1  # begun anew when its attempt fails

    def close(self) -> None:
        """Serve nobody any more: clients are cut off, listening sockets closed."""
        for pair in tuple(self._pairs):
            self._end(pair, reset=True)
        for listener, _ in self._listeners:
            self._selector.unregister(listener)
            listener.close()
        self._listeners.clear()

    def _listen(self, listener: socket.socket, port: int) -> None:
        self._selector.register(
            listener, selectors.EVENT_READ, partial(self._accept, listener, port)
        )

    def _accept(self, listener: socket.socket, port: int, _mask: int) -> None:
        if len(self._pairs) >= self._most:
            return  # another listener of the same round took the last place
        try:
            outside, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            time.sleep(0.05)  # the host has no descriptor or memory left: do not spin meanwhile
            return
        outside.setblocking(False)
        pair = _Pair(outside, port)
        self._pairs.add(pair)
        if len(self._pairs) >= self._most:
            for full, _ in self._listeners:
                self._selector.unregister(full)
        _tune(outside)
        self._connect(pair)

    def _connect(self, pair: _Pair) -> None:
        """Begin a connection to the container's next address; the last refusal ends the client."""
        while pair.target + 1 < len(self._targets):
            pair.target += 1
            target = self._targets[pair.target]
            family = socket.AF_INET6 if ":" in target else socket.AF_INET
            try:
                inside = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError:
                continue
            code = inside.connect_ex((target, pair.port))
            if code == errno.EINPROGRESS:
                pair.inside = inside
                self._watch(pair, inside, selectors.EVENT_WRITE)
                return
            if code == 0:
                pair.inside = inside
                self._start(pair)
                return
            inside.close()
        self._end(pair, reset=True)

    def _start(self, pair: _Pair) -> None:
        inside = pair.inside
        assert inside is not None
        _tune(inside)
        pair.flows = (_Flow(pair.outside, inside), _Flow(inside, pair.outside))
        self._ready(pair, 0)

    def _ready(self, pair: _Pair, _mask: int) -> None:
        if pair not in self._pairs:
            return  # ended since select(2) returned
        if pair.flows is None:
            self._connected(pair)
            return
        try:
            for flow in pair.flows:
                flow.move()
        except OSError:
            self._end(pair, reset=True)
            return
        inward, outward = pair.flows
        if inward.ended and outward.ended:
            self._end(pair, reset=False)
            return
        for flow, back in ((inward, outward), (outward, inward)):
            wanted = 0 if flow.pending or flow.ended else selectors.EVENT_READ
            self._watch(pair, flow.source, wanted | (selectors.EVENT_WRITE if back.pending else 0))

    def _connected(self, pair: _Pair) -> None:
        inside = pair.inside
        assert inside is not None
        if inside.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._start(pair)
            return
        self._watch(pair, inside, 0)
        inside.close()
        pair.inside = None
        self._connect(pair)

    def _watch(self, pair: _Pair, sock: socket.socket, wanted: int) -> None:
        before = pair.watched.get(sock, 0)
        if wanted == before:
            return
        pair.watched[sock] = wanted
        if not wanted:
            self._selector.unregister(sock)
        elif before:
            self._selector.modify(sock, wanted, partial(self._ready, pair))
        else:
            self._selector.register(sock, wanted, partial(self._ready, pair))

    def _end(self, pair: _Pair, *, reset: bool) -> None:
        """Close both ends; with ``reset`` the other one learns that bytes were lost."""
        if len(self._pairs) == self._most:
            for listener, port in self._listeners:
                self._listen(listener, port)
        self._pairs.discard(pair)
        for sock in (pair.outside, pair.inside):
            if sock is None:
                continue
            self._watch(pair, sock, 0)
            if reset:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()


def _tune(sock: socket.socket) -> None:
    """Small writes are passed on at once, and dead peers are noticed in the end."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
