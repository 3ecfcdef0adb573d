"""The resolver's process: 127.0.0.11 of every container on a bridge.

The holder starts it and gives it, for each container, two sockets that are in
the container's network namespace; where it asks the world it is in the
engine's. It has no privilege and a subordinate id for a uid, in a user
namespace of its own, and ends with the holder.
"""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from rootless.network import confine
from rootless.network.dns.forward import PORT
from rootless.network.dns.server import Sees, Server
from rootless.network.dns.zone import Entry

RESOLVER = "rootless-dns"
"""What the process is called (``/proc/PID/comm``)."""

MAX_MESSAGE = 128 << 10
MAX_FDS = 2
_DESCRIPTORS = 16384
"""Descriptors it may have: two for each container, and the questions under way."""


def main(arguments: Sequence[str], calls: bytes) -> int:
    """Serve the socket whose descriptor is the first argument; the second is a user namespace.

    ``calls`` is the filter of its system calls.
    """
    holder_fd, userns_fd = map(int, arguments)
    holder = socket.socket(fileno=holder_fd)
    confine.settle(userns_fd, RESOLVER, calls, descriptors=_DESCRIPTORS, tcp_ports=[PORT])
    selector = selectors.DefaultSelector()
    server = Server(selector, partial(_tell, holder))
    selector.register(holder, selectors.EVENT_READ, None)
    while True:
        for key, mask in selector.select(server.timeout()):
            if key.data is None:
                data, fds, _, _ = socket.recv_fds(holder, MAX_MESSAGE, MAX_FDS)
                if not data:
                    return 0
                obey(server, json.loads(data), fds)
            elif selector.get_map().get(key.fd) == key:  # none of this round closed it
                key.data(mask)
        server.expire()


def _tell(holder: socket.socket, message: dict[str, Any]) -> bool:
    """Say something to the holder. Never wait for it: it may be waiting for this process."""
    try:
        holder.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def obey(server: Server, message: dict[str, Any], fds: list[int]) -> None:
    """One message of the holder's (see ``holder.service``)."""
    if "client" in message:
        sees = Sees(
            tuple(message["networks"]),
            tuple(message["linked"]),
            tuple(message["servers"]),
            message["links"],
            message["ways"],
        )
        server.put(message["client"], sees, fds)
    elif "opened" in message:
        server.permits.opened(message["opened"], done=message["done"])
    elif "drop" in message:
        server.drop(message["drop"])
    elif "endpoint" in message:
        entry = Entry(
            message["network"],
            message["domain"],
            tuple(message["names"]),
            tuple(message["addresses"]),
        )
        server.zone.put(message["endpoint"], entry)
    else:
        server.zone.drop(message["gone"])
