"""The relay: the process that serves a container's published ports where slirp4netns cannot.

slirp4netns listens on IPv4 addresses only. And it shows clients on the host's
loopback to the container as 10.0.2.2 and then refuses the replies to their
datagrams, because ``--disable-host-loopback`` closes that address. So ports on
IPv6 addresses, and UDP ports on loopback, are served by this small process: it
binds them on the host, enters the container's namespaces, gives up every
privilege, and passes on what comes.

Inside, clients appear with the container's own address. The process ends with
the container's shim.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rootless.linux import isolated
from rootless.network.ports import open_port
from rootless.network.relay_tcp import Streams
from rootless.network.relay_udp import MAX_CLIENTS, Datagrams

RELAY = "rootless-relay"
"""What the process is called (``/proc/PID/comm``)."""

MAX_DESCRIPTORS = 4096
"""Descriptors the relay may have, so that many clients cannot take the host's."""

_OTHERS = 64
"""Descriptors that are neither a client's nor a port's."""


READY = b"1"
"""Written to the ready pipe; otherwise which port could not be bound, as JSON, or nothing."""


@dataclass(frozen=True, slots=True)
class RelayPort:
    """A port of the host's and the one inside it leads to.

    ``published`` is the address it is published on, of which the relay may
    serve only a part (``address``): then another socket has the rest.
    """

    protocol: str
    address: str
    port: int
    container_port: int
    published: str


def write_ports(fd: int, ports: Sequence[RelayPort]) -> None:
    """Write the list that :func:`main` reads, for the descriptor ``ports_fd``."""
    text = memoryview(json.dumps([asdict(port) for port in ports]).encode())
    while text:
        text = text[os.write(fd, text) :]


def arguments(
    *,
    ports_fd: int,
    targets: Sequence[str],
    netns_fd: int,
    userns_fd: int,
    exit_fd: int,
    ready_fd: int,
    directory: str,
) -> list[str]:
    """The relay's command line; :func:`main` reads it.

    ``targets`` are the container's addresses, the first one tried first;
    ``directory`` is there to tell whose relay it is.
    """
    numbers = map(str, (netns_fd, userns_fd, exit_fd, ready_fd, ports_fd))
    return isolated.command(__name__, [*numbers, directory, ",".join(targets)])


def main(argv: Sequence[str]) -> int:
    """Enter the container, report ready, relay until the exit pipe closes."""
    netns_fd, userns_fd, exit_fd, ready_fd, ports_fd = map(int, argv[:5])
    size = os.fstat(ports_fd).st_size
    ports = [RelayPort(**port) for port in json.loads(os.pread(ports_fd, size, 0))]
    os.close(ports_fd)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, MAX_DESCRIPTORS + len(ports))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    relay = Relay(argv[6].split(","), exit_fd, descriptors=limit - len(ports))
    for port in ports:
        try:
            relay.add(port)
        except OSError as error:
            told = {"protocol": port.protocol, "address": port.address, "port": port.port}
            os.write(ready_fd, json.dumps({**told, "errno": error.errno}).encode())
            return 1
    _enter(netns_fd, userns_fd)
    os.write(ready_fd, READY)
    os.close(ready_fd)
    relay.serve()
    return 0


def _enter(netns_fd: int, userns_fd: int) -> None:
    """Become the container's root in its namespaces, without a single capability."""
    from rootless.linux import process
    from rootless.network import confine

    confine.enter(userns_fd)
    process.setns(netns_fd, process.CLONE_NEWNET, "the container's network namespace")
    os.close(netns_fd)
    confine.give_up_privileges(RELAY)


class Relay:
    """The sockets of one container."""

    def __init__(self, targets: Sequence[str], exit_fd: int, *, descriptors: int) -> None:
        """``descriptors`` bounds those of clients; the sockets of ports come on top."""
        self._selector = selectors.DefaultSelector()
        self._exit_fd = exit_fd
        # Only the hang-up counts; nobody writes into the pipe.
        self._selector.register(exit_fd, selectors.EVENT_READ, None)
        clients = min(descriptors // 4, MAX_CLIENTS)
        self._datagrams = Datagrams(self._selector, targets, clients=clients)
        self._streams = Streams(
            self._selector, targets, connections=(descriptors - clients - _OTHERS) // 2
        )

    def add(self, port: RelayPort) -> None:
        """Bind a port and serve it; raises OSError."""
        # Beside slirp4netns' socket for every address, which has SO_REUSEADDR too:
        # the kernel gives a datagram to the more exactly bound socket.
        share = port.address != port.published
        outside = open_port(port.protocol, port.address, port.port, share=share)
        outside.setblocking(False)
        serve = self._datagrams if port.protocol == "udp" else self._streams
        serve.add(outside, port.container_port)

    def serve(self) -> None:
        """Relay until the exit pipe's write end is closed."""
        while True:
            for key, mask in self._selector.select(self._datagrams.timeout()):
                if key.fd == self._exit_fd:
                    return
                key.data(mask)
            self._datagrams.forget_idle(time.monotonic())
