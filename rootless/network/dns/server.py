"""The resolver's clients: containers, each known by the sockets it asks on, never by an address."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from rootless.network.dns import message
from rootless.network.dns.forward import Forwarder, Reply
from rootless.network.dns.message import Malformed, Question
from rootless.network.dns.permits import Lists, Permits, Send, allowed
from rootless.network.dns.zone import Zone

MAX_QUESTION = 4096
"""Bytes; longer ones are no questions."""
BATCH = 32
"""Questions taken from one client before others get their turn."""
STREAMS = 16
"""Connections of one client."""
STREAM_SECONDS = 10.0
"""After which a connection that asks nothing is closed."""


@dataclass(frozen=True, slots=True)
class Sees:
    """What a container is answered.

    ``linked`` are networks whose names ``links`` lead to. No ``servers``: only names
    of its ``networks`` are answered. ``ways`` out that have egress
    lists, or some of them: only names on all lists of one are asked for; None when none has.
    """

    networks: tuple[str, ...]
    linked: tuple[str, ...]
    servers: tuple[str, ...]
    links: dict[str, str]
    """What only this one calls others, and a name they have."""
    ways: Sequence[Lists] | None = None


@dataclass(slots=True, eq=False)
class Client:
    """A container."""

    id: str
    sees: Sees
    datagrams: socket.socket
    connections: socket.socket
    streams: dict[socket.socket, _Stream] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Stream:
    sock: socket.socket
    deadline: float
    data: bytes = b""


class Server:
    """All clients, and the names."""

    def __init__(self, selector: selectors.BaseSelector, tell_holder: Send) -> None:
        self._selector = selector
        self.zone = Zone()
        self.permits = Permits(tell_holder)
        self._forwarder = Forwarder(selector)
        self._clients: dict[str, Client] = {}

    def put(self, client_id: str, sees: Sees, fds: list[int]) -> None:
        """Serve a container on two sockets, or serve it differently."""
        known = self._clients.get(client_id)
        made = [socket.socket(fileno=fd) for fd in fds]
        if known is not None:
            for one in made:
                one.close()
            known.sees = sees
            return
        datagrams, connections = made
        client = Client(client_id, sees, datagrams, connections)
        self._clients[client_id] = client
        read = selectors.EVENT_READ
        self._selector.register(datagrams, read, partial(self._datagrams, client))
        self._selector.register(connections, read, partial(self._accept, client))

    def drop(self, client_id: str) -> None:
        """Serve a container no more."""
        client = self._clients.pop(client_id, None)
        if client is None:
            return
        self._forwarder.drop(client_id)
        self.permits.drop(client_id)
        for sock in tuple(client.streams):
            self._close(client, sock)
        for sock in (client.datagrams, client.connections):
            self._selector.unregister(sock)
            sock.close()

    def timeout(self) -> float | None:
        """Seconds until :meth:`expire` is due; None for never."""
        now = time.monotonic()
        streams = [s.deadline for c in self._clients.values() for s in c.streams.values()]
        found = [max(0.0, deadline - now) for deadline in streams]
        others = (self._forwarder.timeout(now), self.permits.timeout(now))
        found += [seconds for seconds in others if seconds is not None]
        return min(found, default=None)

    def expire(self) -> None:
        """Give up what took too long."""
        now = time.monotonic()
        self._forwarder.expire(now)
        self.permits.expire(now)
        for client in self._clients.values():
            for sock, stream in tuple(client.streams.items()):
                if stream.deadline <= now:
                    self._close(client, sock)

    # -- questions -----------------------------------------------------------------------

    def _datagrams(self, client: Client, _mask: int) -> None:
        for _ in range(BATCH):
            try:
                data, address = client.datagrams.recvfrom(MAX_QUESTION)
            except OSError:
                return
            self._question(client, data, partial(_send, client.datagrams, address), stream=False)

    def _question(self, client: Client, data: bytes, reply: Reply, *, stream: bool) -> None:
        try:
            question = message.parse(data)
        except Malformed:
            told = message.failure(data, message.FORMAT_ERROR)
            if told:
                reply(told)
            return
        if message.opcode(question) != 0:
            reply(message.compose(question, message.NOT_IMPLEMENTED))
            return
        limit = 65535 if stream else message.udp_limit(data, question)
        answer = self._own(client, question, limit)
        if answer is not None:
            reply(answer)
        elif client.sees.servers and client.sees.ways is not None:
            if not allowed(client.sees.ways, question.name):
                self.permits.refuse(client.id, question, reply)
                return
            pass_on = partial(self.permits.pass_on, client.id, question, reply)
            servers = client.sees.servers
            self._forwarder.ask(client.id, data, question, servers, pass_on, stream=stream)
        elif client.sees.servers:
            servers = client.sees.servers
            self._forwarder.ask(client.id, data, question, servers, reply, stream=stream)
        else:
            reply(message.compose(question, message.NO_NAME))

    def _own(self, client: Client, question: Question, limit: int) -> bytes | None:
        """The answer when the question is about a name of the client's networks."""
        if question.klass not in (message.IN, message.ANY_CLASS):
            return None
        sees = client.sees
        if question.type == message.PTR:
            name = self.zone.pointer(sees.networks, question.name)
            records = None if name is None else [message.pointer_record(name)]
        else:
            link = sees.links.get(question.name)
            networks = sees.networks if link is None else sees.linked
            found = self.zone.addresses(networks, link or question.name)
            if found is None:
                return None
            version = {message.A: 4, message.AAAA: 16}.get(question.type)
            made = [message.address_record(address) for address in found]
            # The data of an address record, the last thing in it, is 4 or 16 bytes long.
            records = [record for record in made if record[11] == version]
        return None if records is None else message.compose(question, 0, records, limit=limit)

    # -- over TCP ------------------------------------------------------------------------

    def _accept(self, client: Client, _mask: int) -> None:
        try:
            sock, _ = client.connections.accept()
        except OSError:
            return
        if len(client.streams) >= STREAMS:
            sock.close()
            return
        sock.setblocking(False)
        client.streams[sock] = _Stream(sock, time.monotonic() + STREAM_SECONDS)
        self._selector.register(sock, selectors.EVENT_READ, partial(self._read, client, sock))

    def _read(self, client: Client, sock: socket.socket, _mask: int) -> None:
        stream = client.streams[sock]
        try:
            data = sock.recv(MAX_QUESTION)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        stream.data += data
        if not data or len(stream.data) > 2 * MAX_QUESTION:
            self._close(client, sock)
            return
        while len(stream.data) > 2:
            length = int.from_bytes(stream.data[:2])
            if len(stream.data) < length + 2:
                return
            question, stream.data = stream.data[2 : length + 2], stream.data[length + 2 :]
            stream.deadline = time.monotonic() + STREAM_SECONDS
            self._question(client, question, partial(self._told, client, sock), stream=True)

    def _told(self, client: Client, sock: socket.socket, data: bytes) -> None:
        if sock not in client.streams:
            return  # closed meanwhile
        try:
            whole = len(data).to_bytes(2) + data
            if sock.send(whole) != len(whole):
                self._close(client, sock)  # nobody reads
        except OSError:
            self._close(client, sock)

    def _close(self, client: Client, sock: socket.socket) -> None:
        if client.streams.pop(sock, None) is not None:
            self._selector.unregister(sock)
            sock.close()


def _send(sock: socket.socket, address: tuple[str, int], data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendto(data, address)
