"""Questions passed on to the world's resolvers, and their answers passed back.

Each goes out on a socket of its own: the kernel gives it a random port, it gets
a random id, and only what comes from the asked server under that id with that
question counts (RFC 5452).
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rootless.network.dns import message
from rootless.network.dns.message import Question

PORT = 53
SECONDS = 4.0
"""For one server to answer."""
MOST, MOST_EACH = 512, 64
"""Questions under way of all clients, and of one: a flood of one must not starve the others."""
_MAX_DATAGRAM = 65535

Reply = Callable[[bytes], None]


@dataclass(slots=True, eq=False)
class _Pending:
    """One question under way."""

    client: str
    data: bytes
    question: Question
    servers: tuple[str, ...]
    stream: bool
    reply: Reply
    deadline: float = 0.0
    number: int = 0
    sock: socket.socket | None = None
    waiting: bytes = b""
    """Of a stream: what is still to be sent, then what has come."""


class Forwarder:
    """All that is under way."""

    def __init__(self, selector: selectors.BaseSelector, *, port: int = PORT) -> None:
        self._selector = selector
        self._port = port
        self._pending: set[_Pending] = set()

    def ask(
        self,
        client: str,
        data: bytes,
        question: Question,
        servers: tuple[str, ...],
        reply: Reply,
        *,
        stream: bool,
    ) -> None:
        """Ask ``servers`` one after the other; ``reply`` is called once, also with a failure."""
        mine = sum(one.client == client for one in self._pending)
        if mine >= MOST_EACH or len(self._pending) >= MOST:
            reply(message.compose(question, message.REFUSED))
            return
        one = _Pending(client, data, question, servers, stream, reply)
        self._pending.add(one)
        self._try_next(one)

    def drop(self, client: str) -> None:
        """Nobody waits for a client's answers any more."""
        for one in tuple(self._pending):
            if one.client == client:
                self._end(one)

    def timeout(self, now: float) -> float | None:
        """Seconds until :meth:`expire` has something to do; None when nothing is under way."""
        if not self._pending:
            return None
        return max(0.0, min(one.deadline for one in self._pending) - now)

    def expire(self, now: float) -> None:
        """Give servers up that do not answer."""
        for one in tuple(self._pending):
            if one.deadline <= now:
                self._try_next(one)

    def _try_next(self, one: _Pending) -> None:
        self._close(one)
        while one.servers:
            server, one.servers = one.servers[0], one.servers[1:]
            try:
                self._start(one, server)
            except OSError:
                self._close(one)
                continue
            return
        self._end(one)
        one.reply(message.compose(one.question, message.FAILURE))

    def _start(self, one: _Pending, server: str) -> None:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        kind = socket.SOCK_STREAM if one.stream else socket.SOCK_DGRAM
        one.number = secrets.randbelow(1 << 16)
        one.deadline = time.monotonic() + SECONDS
        one.sock = sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        asked = message.with_id(one.data, one.number)
        if not one.stream:
            sock.connect((server, self._port))
            sock.send(asked)
            self._selector.register(sock, selectors.EVENT_READ, partial(self._heard, one))
            return
        with contextlib.suppress(BlockingIOError):
            sock.connect((server, self._port))
        one.waiting = len(asked).to_bytes(2) + asked
        self._selector.register(sock, selectors.EVENT_WRITE, partial(self._send, one))

    def _heard(self, one: _Pending, _mask: int) -> None:
        assert one.sock is not None
        try:
            data = one.sock.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            self._try_next(one)
            return
        if message.answers(data, one.question, one.number):
            self._done(one, data)

    def _send(self, one: _Pending, _mask: int) -> None:
        assert one.sock is not None
        try:
            one.waiting = one.waiting[one.sock.send(one.waiting) :]
        except BlockingIOError:
            return
        except OSError:
            self._try_next(one)
            return
        if not one.waiting:
            self._selector.modify(one.sock, selectors.EVENT_READ, partial(self._read, one))

    def _read(self, one: _Pending, _mask: int) -> None:
        assert one.sock is not None
        try:
            data = one.sock.recv(_MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        one.waiting += data
        length = int.from_bytes(one.waiting[:2])
        if not data:
            self._try_next(one)
        elif len(one.waiting) >= length + 2 > 2:
            whole = one.waiting[2 : length + 2]
            if message.answers(whole, one.question, one.number):
                self._done(one, whole)
            else:
                self._try_next(one)

    def _done(self, one: _Pending, data: bytes) -> None:
        self._end(one)
        one.reply(message.with_id(data, one.question.id))

    def _end(self, one: _Pending) -> None:
        self._close(one)
        self._pending.discard(one)

    def _close(self, one: _Pending) -> None:
        if one.sock is not None:
            with contextlib.suppress(KeyError):  # it failed before it was registered
                self._selector.unregister(one.sock)
            one.sock.close()
            one.sock = None
        one.waiting = b""
