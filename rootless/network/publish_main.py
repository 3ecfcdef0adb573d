"""The publisher's process: published ports of all containers on bridges.

The holder starts it in the engine's network namespace, where the bridges are,
and gives it the sockets that the daemon has bound on the host. Containers see
its clients with the address of their bridge, as they see those of Docker's
userland proxy. It has no privilege and a subordinate id for a uid, and ends
with the holder. How bytes are passed on is the relay's (``relay_tcp``, ``relay_udp``).
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

from rootless.network import confine
from rootless.network.relay_tcp import Streams
from rootless.network.relay_udp import MAX_CLIENTS, Datagrams

PUBLISHER = "rootless-ports"
"""What the process is called (``/proc/PID/comm``)."""

MAX_MESSAGE = 128 << 10
MAX_FDS = 128
"""Ports of one message."""
_DESCRIPTORS = 65536
"""Descriptors it may have, if the host lets it."""
_SHARE = 16
"""No container's clients get more than this part of them."""


def main(arguments: Sequence[str], calls: bytes) -> int:
    """Serve the socket whose descriptor is the first argument; the second is a user namespace.

    ``calls`` is the filter of its system calls.
    """
    holder_fd, userns_fd = map(int, arguments)
    holder = socket.socket(fileno=holder_fd)
    limit = confine.settle(userns_fd, PUBLISHER, calls, descriptors=_DESCRIPTORS)
    publisher = Publisher(descriptors=limit)
    return publisher.serve(holder)


class Publisher:
    """The ports of all containers."""

    def __init__(self, *, descriptors: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._each = descriptors // _SHARE
        self._served: dict[str, tuple[Streams, Datagrams]] = {}

    def serve(self, holder: socket.socket) -> int:
        """Until nobody says anything any more; the exit status."""
        self._selector.register(holder, selectors.EVENT_READ, None)
        while True:
            for key, mask in self._selector.select(self._timeout()):
                if key.data is None:
                    data, fds, _, _ = socket.recv_fds(holder, MAX_MESSAGE, MAX_FDS)
                    if not data:
                        return 0
                    message = json.loads(data)
                    answer = self._obey(message, fds)
                    if message.get("ask"):
                        holder.send(json.dumps(answer).encode())
                elif self._selector.get_map().get(key.fd) == key:  # none of this round closed it
                    key.data(mask)
            now = time.monotonic()
            for _, datagrams in self._served.values():
                datagrams.forget_idle(now)

    def _timeout(self) -> float | None:
        found = (datagrams.timeout() for _, datagrams in self._served.values())
        return min((seconds for seconds in found if seconds is not None), default=None)

    def _obey(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """One message of the holder's (see ``holder.service``); how many ports were received."""
        made = [socket.socket(fileno=fd) for fd in fds]
        container = message["container"]
        if message.get("drop"):
            for one in self._served.pop(container, ()):
                one.close()
            return {"ports": 0}
        streams, datagrams = self._of(container, message["targets"])
        # Beside each other: a list that was cut is answered with its length, and dropped.
        for (protocol, port), outside in zip(message["ports"], made, strict=False):
            outside.setblocking(False)
            (datagrams if protocol == "udp" else streams).add(outside, port)
        return {"ports": len(made)}

    def _of(self, container: str, targets: list[str]) -> tuple[Streams, Datagrams]:
        found = self._served.get(container)
        if found is None:
            clients = min(self._each // 4, MAX_CLIENTS)
            found = (
                Streams(self._selector, targets, connections=(self._each - clients) // 2),
                Datagrams(self._selector, targets, clients=clients),
            )
            self._served[container] = found
        else:
            for one in found:
                one.retarget(targets)
        return found
