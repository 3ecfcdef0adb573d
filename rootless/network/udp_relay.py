"""Datagrams between clients on the host's loopback and a container.

slirp4netns shows such clients to the container as 10.0.2.2 and then refuses
the replies, because ``--disable-host-loopback`` closes that address. So UDP
ports that are published on loopback are served by this small process instead:
it is given sockets bound on the host, enters the container's namespaces, gives
up every privilege, and passes datagrams on, one socket inside for each client.

Inside, clients appear with the container's own address. The process ends with
the container's shim.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from rootless.network.addresses import CONTAINER_IPV4

IDLE_SECONDS = 240.0
"""A client that was silent that long is forgotten; slirp4netns takes the same time."""

MAX_CLIENTS = 512
"""Clients of one container at a time; beyond, the one that was silent longest is forgotten."""

BATCH = 64
"""Datagrams taken from one socket before the others get their turn."""

DATAGRAM = 65536


@dataclass(frozen=True, slots=True)
class RelayPort:
    """A bound socket of the host's and the port inside it leads to."""

    fd: int
    container_port: int


def arguments(
    ports: Sequence[RelayPort], *, netns_fd: int, userns_fd: int, exit_fd: int, ready_fd: int
) -> list[str]:
    """The relay's command line; :func:`main` reads it.

    The package's directory is given, because the isolated interpreter (-I)
    sees only what is installed.
    """
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from rootless.network.udp_relay import main; main(sys.argv[2:])"
    )
    return [
        sys.executable,
        *("-I", "-B", "-c", code, package_parent),
        *map(str, (netns_fd, userns_fd, exit_fd, ready_fd)),
        *(f"{port.fd}:{port.container_port}" for port in ports),
    ]


def main(argv: Sequence[str]) -> None:
    """Enter the container, report ready, relay until the exit pipe closes."""
    netns_fd, userns_fd, exit_fd, ready_fd = map(int, argv[:4])
    ports = [RelayPort(*map(int, text.split(":"))) for text in argv[4:]]
    relay = Relay(ports, exit_fd)
    _enter(netns_fd, userns_fd)
    os.write(ready_fd, b"1")
    os.close(ready_fd)
    relay.serve()


def _enter(netns_fd: int, userns_fd: int) -> None:
    """Become the container's root in its namespaces, without a single capability."""
    from rootless.linux import process

    process.setns(userns_fd, process.CLONE_NEWUSER, "the container's user namespace")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    process.setns(netns_fd, process.CLONE_NEWNET, "the container's network namespace")
    os.close(netns_fd)
    os.close(userns_fd)
    process.drop_bounding(0, process.last_capability())
    process.set_capabilities(0, 0, 0)
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")
    # The change of ids has made it undumpable, so nobody but root can trace it (prctl(2)).
    process.set_name("rootless-udp")


@dataclass(slots=True)
class _Client:
    """One client of one port; ``used`` is a monotonic time in seconds."""

    outside: socket.socket
    address: tuple[str, int]
    inside: socket.socket
    used: float


class Relay:
    """The sockets of one container."""

    def __init__(self, ports: Sequence[RelayPort], exit_fd: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._exit_fd = exit_fd
        self._clients: OrderedDict[tuple[int, tuple[str, int]], _Client] = OrderedDict()
        # Only the hang-up counts; nobody writes into the pipe.
        self._selector.register(exit_fd, selectors.EVENT_READ)
        for port in ports:
            outside = socket.socket(fileno=port.fd)
            outside.setblocking(False)
            self._selector.register(outside, selectors.EVENT_READ, port.container_port)

    def serve(self) -> None:
        """Relay until the exit pipe's write end is closed."""
        while True:
            events = self._selector.select(IDLE_SECONDS if self._clients else None)
            now = time.monotonic()
            for key, _ in events:
                if key.fd == self._exit_fd:
                    return
                if isinstance(key.data, _Client):
                    self._outward(key.data, now)
                elif isinstance(key.fileobj, socket.socket):
                    self._inward(key.fileobj, key.data, now)
            self._forget_idle(now)

    def _inward(self, outside: socket.socket, port: int, now: float) -> None:
        for _ in range(BATCH):
            try:
                data, address = outside.recvfrom(DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier reply (udp(7)); the client is gone
            client = self._client(outside, address, port, now)
            with contextlib.suppress(OSError):  # nobody listens inside, or its queue is full
                client.inside.send(data)

    def _outward(self, client: _Client, now: float) -> None:
        client.used = now
        for _ in range(BATCH):
            try:
                data = client.inside.recv(DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # port unreachable: nobody listens inside
            with contextlib.suppress(OSError):  # the client is gone, or its queue is full
                client.outside.sendto(data, client.address)

    def _client(
        self, outside: socket.socket, address: tuple[str, int], port: int, now: float
    ) -> _Client:
        key = (outside.fileno(), address)
        client = self._clients.get(key)
        if client is None:
            if len(self._clients) >= MAX_CLIENTS:
                self._forget(next(iter(self._clients)))
            inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            inside.connect((CONTAINER_IPV4, port))
            client = self._clients[key] = _Client(outside, address, inside, now)
            self._selector.register(inside, selectors.EVENT_READ, client)
        client.used = now
        self._clients.move_to_end(key)
        return client

    def _forget(self, key: tuple[int, tuple[str, int]]) -> None:
        client = self._clients.pop(key)
        self._selector.unregister(client.inside)
        client.inside.close()

    def _forget_idle(self, now: float) -> None:
        while self._clients:
            key, client = next(iter(self._clients.items()))
            if now - client.used < IDLE_SECONDS:
                return
            self._forget(key)
