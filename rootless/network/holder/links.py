"""Links, addresses and routes: netlink messages made by pyroute2, sent on sockets of our own.

A socket belongs to the network namespace it was made in, whatever its process
does later. pyroute2's own socket objects take 20 milliseconds to make and turn
every call into a coroutine; its messages take a fraction of one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from rootless.errors import SyscallError

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR = 16, 17, 20, 21
RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWNEIGH = 24, 25, 28
"""rtnetlink(7)."""
_REQUEST, _ACK, _EXCL, _CREATE, _REPLACE = 0x1, 0x4, 0x200, 0x400, 0x100
_ERROR = 2
_UP = 1
_PERMANENT, _NOARP = 0x80, 0x40
_NTF_MASTER = 0x4
_NODAD = 0x02
_RECEIVE = 1 << 16
_SECONDS = 10


class Netlink:
    """A route socket of the network namespace that the calling thread is in."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(_SECONDS)
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, message: Any, kind: int, what: str, *, flags: int = 0) -> None:
        """Send a message and wait for the answer; SyscallError about ``what``."""
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = _REQUEST | _ACK | flags
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(bytes(message.data))
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
        data = [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]
        message = _link(name, mac=mac, mtu=mtu, up=True)
        message["attrs"].append(_kind("bridge", data))
        self.ask(message, RTM_NEWLINK, f"bridge {name}", flags=_CREATE | _EXCL)

    def add_pair(
        self, name: str, *, bridge: str, mtu: int, peer: str, peer_mac: str, netns_fd: int
    ) -> None:
        """A veth pair: ``name`` on the bridge and up, ``peer`` in another namespace and down."""
        other: dict[str, Any] = {
            "attrs": [
                ("IFLA_IFNAME", peer),
                ("IFLA_ADDRESS", peer_mac),
                ("IFLA_MTU", mtu),
                ("IFLA_NET_NS_FD", netns_fd),
            ]
        }
        message = _link(name, mtu=mtu, up=True)
        message["attrs"].append(("IFLA_MASTER", socket.if_nametoindex(bridge)))
        message["attrs"].append(_kind("veth", [("VETH_INFO_PEER", other)]))
        self.ask(message, RTM_NEWLINK, f"veth pair {name}", flags=_CREATE | _EXCL)

    def bind_port(self, name: str, mac: str, *, isolated: bool) -> None:
        """Frames for ``mac`` leave through this port, no others whose target is unknown.

        An ``isolated`` port reaches only what is not (the bridge itself).
        """
        index = socket.if_nametoindex(name)
        message = ifinfmsg()
        message["index"] = index
        data = [
            ("IFLA_BRPORT_LEARNING", 0),
            ("IFLA_BRPORT_UNICAST_FLOOD", 0),
            ("IFLA_BRPORT_ISOLATED", int(isolated)),
        ]
        slave = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA",
                                                               {"attrs": data})]}  # fmt: skip
        message["attrs"] = [("IFLA_LINKINFO", slave)]
        self.ask(message, RTM_NEWLINK, f"bridge port {name}")
        entry = ndmsg()
        entry["family"] = socket.AF_BRIDGE
        entry["ifindex"] = index
        entry["state"] = _NOARP
        entry["flags"] = _NTF_MASTER
        entry["attrs"] = [("NDA_LLADDR", mac)]
        self.ask(entry, RTM_NEWNEIGH, f"{mac} on {name}", flags=_CREATE | _REPLACE)

    def add_neighbour(self, interface: str, address: str, mac: str) -> None:
        """What ``address`` answers to is known for good: nobody else is asked."""
        entry = ndmsg()
        entry["family"] = _family(address)
        entry["ifindex"] = socket.if_nametoindex(interface)
        entry["state"] = _PERMANENT
        entry["attrs"] = [("NDA_DST", address), ("NDA_LLADDR", mac)]
        self.ask(entry, RTM_NEWNEIGH, f"neighbour {address}", flags=_CREATE | _REPLACE)

    # -- in either -----------------------------------------------------------------

    def set_up(self, name: str) -> None:
        """Bring a link up."""
        message = ifinfmsg()
        message["index"] = socket.if_nametoindex(name)
        message["flags"] = message["change"] = _UP
        self.ask(message, RTM_NEWLINK, f"link {name}")

    def remove(self, name: str) -> None:
        """Remove a link, of a veth pair both; one that is gone is fine."""
        message = ifinfmsg()
        with contextlib.suppress(OSError):  # if_nametoindex: no such device
            message["index"] = socket.if_nametoindex(name)
            self.ask(message, RTM_DELLINK, f"link {name}")

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give a link an address, usable at once."""
        message = ifaddrmsg()
        message["family"] = _family(address)
        message["prefixlen"] = prefix
        message["index"] = socket.if_nametoindex(name)
        attributes: list[tuple[str, Any]] = [("IFA_ADDRESS", address), ("IFA_LOCAL", address)]
        if ":" in address:
            message["flags"] = _NODAD  # nobody else can have it: see the rules
        else:
            last = int.from_bytes(socket.inet_aton(address)) | ((1 << (32 - prefix)) - 1)
            attributes.append(("IFA_BROADCAST", socket.inet_ntoa(last.to_bytes(4))))
        message["attrs"] = attributes
        self.ask(message, RTM_NEWADDR, f"{address}/{prefix} on {name}", flags=_CREATE | _EXCL)

    def add_default(self, name: str, gateway: str) -> None:
        """The route for everything else; it takes the place of one that is there."""
        message = _default(gateway)
        message["attrs"] = [
            ("RTA_GATEWAY", gateway),
            ("RTA_OIF", socket.if_nametoindex(name)),
        ]
        what = f"default route by {gateway}"
        self.ask(message, RTM_NEWROUTE, what, flags=_CREATE | _REPLACE)


def _link(name: str, *, mtu: int, up: bool, mac: str = "") -> Any:
    message = ifinfmsg()
    message["flags"] = message["change"] = _UP if up else 0
    message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu)]
    if mac:
        message["attrs"].append(("IFLA_ADDRESS", mac))
    return message


def _kind(kind: str, data: list[tuple[str, Any]]) -> tuple[str, Any]:
    return (
        "IFLA_LINKINFO",
        {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]},
    )


def _default(gateway: str) -> Any:
    message = rtmsg()
    message["family"] = _family(gateway)
    message["table"] = 254
    message["proto"] = 4  # static
    message["type"] = 1  # unicast
    message["scope"] = 0
    return message


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@contextlib.contextmanager
def netlink() -> Iterator[Netlink]:
    """A socket for a few messages."""
    made = Netlink()
    try:
        yield made
    finally:
        made.close()


def set_sysctl(path: str, value: str) -> None:
    """Write a net.… setting (``ipv4/ip_forward``) of the namespace the caller is in."""
    with open(os.path.join("/proc/sys/net", path), "w", encoding="ascii") as file:
        file.write(value)
