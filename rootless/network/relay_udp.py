"""Datagrams between clients on the host and a container: one socket inside for each client."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

IDLE_SECONDS = 240.0
"""A client that was silent that long is forgotten; slirp4netns takes the same time."""

MAX_CLIENTS = 512
"""Clients of one container at a time; beyond, the one that was silent longest is forgotten."""

BATCH = 64
"""Datagrams taken from one socket before the others get their turn."""

DATAGRAM = 65536

_PKTINFO = 20
"""Bytes of struct in6_pktinfo: an address and the number of an interface (ipv6(7))."""

_Answer = list[tuple[int, int, bytes]]
"""Ancillary data that makes an answer leave from the address the client wrote to."""


@dataclass(slots=True)
class _Client:
    """One client of one port; ``used`` is a monotonic time in seconds."""

    key: tuple[int, tuple[object, ...]]
    outside: socket.socket
    address: tuple[object, ...]
    port: int
    target: int
    used: float
    inside: socket.socket = field(init=False)
    answer: _Answer = field(default_factory=list)


class Datagrams:
    """The UDP ports of one container."""

    def __init__(
        self, selector: selectors.BaseSelector, targets: Sequence[str], *, clients: int
    ) -> None:
        self._selector = selector
        self._targets = targets
        self._most = clients
        self._clients: OrderedDict[tuple[int, tuple[object, ...]], _Client] = OrderedDict()
        self._sockets: list[socket.socket] = []

    def add(self, outside: socket.socket, port: int) -> None:
        """Serve a bound socket."""
        if outside.family == socket.AF_INET6:
            outside.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._sockets.append(outside)
        self._selector.register(outside, selectors.EVENT_READ, partial(self._inward, outside, port))

    def retarget(self, targets: Sequence[str]) -> None:
        """Lead datagrams to other addresses; every client's next one goes there."""
        self._targets = targets
        for key in tuple(self._clients):
            self._forget(key)

    def close(self) -> None:
        """Serve nobody any more."""
        self.retarget(())
        for outside in self._sockets:
            self._selector.unregister(outside)
            outside.close()
        self._sockets.clear()

    def timeout(self) -> float | None:
        """Seconds after which :meth:`forget_idle` may have something to do."""
        return IDLE_SECONDS if self._clients else None

    def _inward(self, outside: socket.socket, port: int, _mask: int) -> None:
        for _ in range(BATCH):
            try:
                data, ancillary, _, address = outside.recvmsg(DATAGRAM, socket.CMSG_SPACE(_PKTINFO))
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier reply (udp(7)); the client is gone
            if not self._targets:
                continue
            with contextlib.suppress(OSError):  # nobody listens inside, or its queue is full
                client = self._client(outside, address, port)
                client.answer = [
                    # Not the interface: the way back is the routing table's business.
                    (level, kind, payload[:16] + bytes(4))
                    for level, kind, payload in ancillary
                    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
                ]
                client.inside.send(data)

    def _outward(self, client: _Client, _mask: int) -> None:
        client.used = time.monotonic()
        for _ in range(BATCH):
            if self._clients.get(client.key) is not client:
                return  # forgotten since select(2) returned
            try:
                data = client.inside.recv(DATAGRAM)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._turn(client)  # nobody listens on this address; perhaps on the other
                return
            except OSError:
                continue
            with contextlib.suppress(OSError):  # the client is gone, or its queue is full
                client.outside.sendmsg([data], client.answer, 0, client.address)

    def _client(self, outside: socket.socket, address: tuple[object, ...], port: int) -> _Client:
        key = (outside.fileno(), address)
        client = self._clients.get(key)
        if client is None:
            if len(self._clients) >= self._most:
                self._forget(next(iter(self._clients)))
            client = _Client(key, outside, address, port, 0, 0.0)
            self._connect(client)
            self._clients[key] = client
        client.used = time.monotonic()
        self._clients.move_to_end(key)
        return client

    def _connect(self, client: _Client) -> None:
        target = self._targets[client.target]
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        inside = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            inside.connect((target, client.port))
        except OSError:
            inside.close()
            raise
        client.inside = inside
        self._selector.register(inside, selectors.EVENT_READ, partial(self._outward, client))

    def _turn(self, client: _Client) -> None:
        """Send the client's next datagram to the container's next address."""
        if len(self._targets) == 1:
            return
        self._selector.unregister(client.inside)
        client.inside.close()
        client.target = (client.target + 1) % len(self._targets)
        try:
            self._connect(client)
        except OSError:
            del self._clients[client.key]  # begun anew with its next datagram

    def _forget(self, key: tuple[int, tuple[object, ...]]) -> None:
        client = self._clients.pop(key)
        self._selector.unregister(client.inside)
        client.inside.close()

    def forget_idle(self, now: float) -> None:
        """Forget clients that were silent for IDLE_SECONDS."""
        while self._clients:
            key, client = next(iter(self._clients.items()))
            if now - client.used < IDLE_SECONDS:
                return
            self._forget(key)
