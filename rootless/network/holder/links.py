"""Links, addresses and routes, by messages of pyroute2's (``templates``) on sockets of our own.

A socket belongs to the network namespace it was made in, whatever its process
does later.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Mapping

from rootless.errors import SyscallError
from rootless.network.holder.templates import Template, Value

_ERROR = 2
_RECEIVE = 1 << 16
_SECONDS = 10


class Netlink:
    """A route socket of the network namespace that the calling thread is in."""

    def __init__(self, templates: Mapping[str, Template]) -> None:
        self._templates = templates
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(_SECONDS)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ask(self, kind: str, what: str, **values: Value) -> None:
        """Send a message and wait for the answer; SyscallError about ``what``."""
        self._sequence += 1
        message = self._templates[kind].fill(values)
        struct.pack_into("=I", message, 8, self._sequence)
        self._socket.send(message)
        while True:
            answer = self._socket.recv(_RECEIVE)
            _, found, _, sequence, _ = struct.unpack_from("=IHHII", answer)
            if found == _ERROR and sequence == self._sequence:
                break
        code = -struct.unpack_from("=i", answer, 16)[0]
        if code:
            raise SyscallError("netlink", what, code)

    # -- in the engine's namespace ---------------------------------------------------

    def add_bridge(self, name: str, *, mac: str, mtu: int) -> None:
        """A bridge that is up. It forwards no multicast routers' business and learns nothing."""
        self._ask("bridge", f"bridge {name}", name=name, mac=mac, mtu=mtu)

    def add_pair(
        self, name: str, *, bridge: str, mtu: int, peer: str, peer_mac: str, netns_fd: int
    ) -> None:
        """A veth pair: ``name`` on the bridge and up, ``peer`` in another namespace and down."""
        index = socket.if_nametoindex(bridge)
        ends: dict[str, Value] = {"name": name, "bridge": index, "peer": peer, "mac": peer_mac}
        self._ask("pair", f"veth pair {name}", **ends, mtu=mtu, netns=netns_fd)

    def bind_port(self, name: str, mac: str, *, isolated: bool) -> None:
        """Frames for ``mac`` leave through this port, no others whose target is unknown.

        An ``isolated`` port reaches only what is not (the bridge itself).
        """
        index = socket.if_nametoindex(name)
        self._ask("port", f"bridge port {name}", index=index, isolated=int(isolated))
        self._ask("forward", f"{mac} on {name}", index=index, mac=mac)

    # -- in either -----------------------------------------------------------------

    def set_up(self, name: str) -> None:
        """Bring a link up."""
        self._ask("up", f"link {name}", index=socket.if_nametoindex(name))

    def remove(self, name: str) -> None:
        """Remove a link, of a veth pair both; one that is gone is fine."""
        with contextlib.suppress(OSError):  # if_nametoindex: no such device
            self._ask("remove", f"link {name}", index=socket.if_nametoindex(name))

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give a link an address, usable at once."""
        found = ipaddress.ip_interface(f"{address}/{prefix}")
        version = f"ipv{found.version}"
        values: dict[str, Value] = {"index": socket.if_nametoindex(name), "prefix": prefix}
        broadcast = str(found.network.broadcast_address)
        what = f"{address}/{prefix} on {name}"
        self._ask(f"address {version}", what, **values, address=address, broadcast=broadcast)

    def add_default(self, name: str, gateway: str) -> None:
        """The route for everything else; it takes the place of one that is there."""
        version = f"ipv{ipaddress.ip_address(gateway).version}"
        index = socket.if_nametoindex(name)
        self._ask(f"default {version}", f"default route by {gateway}", index=index, gateway=gateway)

    def answer_for(self, name: str, address: str) -> None:
        """Answer on a link for an IPv6 address that is not this namespace's."""
        index = socket.if_nametoindex(name)
        self._ask("proxy", f"proxy for {address} on {name}", index=index, address=address)

    def answer_no_more(self, name: str, address: str) -> None:
        """Take that back; fine when it, or the link, is gone."""
        with contextlib.suppress(OSError):
            index = socket.if_nametoindex(name)
            self._ask("no proxy", f"proxy for {address} on {name}", index=index, address=address)


def set_sysctl(path: str, value: str) -> None:
    """Write a net.… setting (``ipv4/ip_forward``) of the namespace the caller is in."""
    with open(os.path.join("/proc/sys/net", path), "w", encoding="ascii") as file:
        file.write(value)


@contextlib.contextmanager
def netlink(templates: Mapping[str, Template]) -> Iterator[Netlink]:
    """A socket for a few messages."""
    made = Netlink(templates)
    try:
        yield made
    finally:
        made.close()
