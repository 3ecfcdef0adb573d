"""Netlink messages made once by pyroute2, to be filled in with names, numbers and addresses.

pyroute2 takes 16 MiB of memory and a tenth of a second to load, and a
millisecond to encode a message. So a child of the holder makes one of each
kind and is gone (``ahead``); what differs from message to message are bytes at fixed
places, found by encoding each with two values and looking where they differ.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 17, 20, 24
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
"""rtnetlink(7)."""
_REQUEST, _ACK, _EXCL, _CREATE, _REPLACE = 0x1, 0x4, 0x200, 0x400, 0x100
_UP = 1
_NOARP = 0x40
_NTF_MASTER, _NTF_PROXY = 0x4, 0x8
_NODAD = 0x02
_MAIN_TABLE, _STATIC, _UNICAST = 254, 4, 1

NAME_BYTES = 15
"""Bytes of an interface's name in a message; a shorter one is padded with zeros."""

Value = int | str
Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the bytes of a field are, and what they are: ``name``, ``mac``, ``u8``, ``u32``, …"""

    kind: str
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A message and its fields."""

    data: bytes
    slots: dict[str, Slot]

    def fill(self, values: Values) -> bytearray:
        """The message with every field's value; KeyError for a field that has none."""
        made = bytearray(self.data)
        for field, slot in self.slots.items():
            packed = pack(slot.kind, values[field])
            for offset in slot.offsets:
                made[offset : offset + len(packed)] = packed
        return made


def pack(kind: str, value: Value) -> bytes:
    """The bytes of a value in a message; ValueError for one that is no such thing."""
    if isinstance(value, int):
        return value.to_bytes(1 if kind == "u8" else 4, sys.byteorder)
    if kind == "mac":
        return bytes.fromhex(value.replace(":", ""))
    if kind == "name":
        name = value.encode()
        if len(name) > NAME_BYTES:
            raise ValueError(f"{value} is too long for an interface")
        return name.ljust(NAME_BYTES, b"\0")
    return ipaddress.ip_address(value).packed


_SAMPLES: dict[str, tuple[Value, Value]] = {
    "u8": (0x11, 0x22),
    "u32": (0x11111111, 0x22222222),
    "mac": ("11:11:11:11:11:11", "22:22:22:22:22:22"),
    "name": ("a" * NAME_BYTES, "b" * NAME_BYTES),
    "ipv4": ("17.17.17.17", "34.34.34.34"),
    "ipv6": (":".join(["1111"] * 8), ":".join(["2222"] * 8)),
}
"""Two values of each kind of which no byte is the same."""


def prepare(encode: Callable[[Values], bytes], fields: Mapping[str, str]) -> Template:
    """The template of a message; ``fields`` gives each field's kind.

    AssertionError when the bytes of a field are not where they should be.
    """
    base = {field: _SAMPLES[kind][0] for field, kind in fields.items()}
    data = encode(base)
    slots = {}
    for field, kind in fields.items():
        one, other = _SAMPLES[kind]
        changed = encode({**base, field: other})
        width = len(pack(kind, one))
        differ = [i for i, (a, b) in enumerate(zip(data, changed, strict=True)) if a != b]
        # Numbers that follow one another have the same distance to their position.
        runs = [[i for _, i in run] for _, run in groupby(enumerate(differ), lambda p: p[1] - p[0])]
        offsets = tuple(run[0] for run in runs)
        assert offsets, field
        assert all(data[i : i + width] == pack(kind, one) for i in offsets), field
        assert all(len(run) == width for run in runs), field
        slots[field] = Slot(kind, offsets)
    return Template(data, slots)


def make_all() -> dict[str, Template]:
    """Every message that the holder sends, by name. Imports pyroute2."""
    link: dict[str, str] = {"index": "u32"}
    pair = {"name": "name", "mtu": "u32", "bridge": "u32", "peer": "name", "mac": "mac"}
    made = {
        "bridge": prepare(_bridge, {"name": "name", "mac": "mac", "mtu": "u32"}),
        "pair": prepare(_pair, {**pair, "netns": "u32"}),
        "port": prepare(_port, {**link, "isolated": "u8"}),
        "forward": prepare(_forward, {**link, "mac": "mac"}),
        "up": prepare(_up, link),
        "remove": prepare(_remove, link),
        "proxy": prepare(_proxy, {**link, "address": "ipv6"}),
        "no proxy": prepare(_no_proxy, {**link, "address": "ipv6"}),
    }
    for version in ("ipv4", "ipv6"):
        broadcast = {"broadcast": version} if version == "ipv4" else {}
        fields = {**link, "address": version, "prefix": "u8", **broadcast}
        made[f"address {version}"] = prepare(_address, fields)
        made[f"default {version}"] = prepare(_default, {**link, "gateway": version})
    return made


def _encoded(message: Any, kind: int, flags: int = 0) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = _REQUEST | _ACK | flags
    message.encode()
    return bytes(message.data)


def _link(name: Value, mtu: Value, mac: Value = "") -> Any:
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = ifinfmsg()
    message["flags"] = message["change"] = _UP
    message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu)]
    if mac:
        message["attrs"].append(("IFLA_ADDRESS", mac))
    return message


def _kind(kind: str, data: list[tuple[str, Any]]) -> tuple[str, Any]:
    return (
        "IFLA_LINKINFO",
        {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]},
    )


def _bridge(values: Values) -> bytes:
    """A bridge that is up. It forwards no multicast routers' business and learns nothing."""
    data: list[tuple[str, Any]] = [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]
    message = _link(values["name"], values["mtu"], values["mac"])
    message["attrs"].append(_kind("bridge", data))
    return _encoded(message, RTM_NEWLINK, _CREATE | _EXCL)


def _pair(values: Values) -> bytes:
    """A veth pair: one on a bridge and up, the other in another namespace and down."""
    other: dict[str, Any] = {
        "attrs": [
            ("IFLA_IFNAME", values["peer"]),
            ("IFLA_ADDRESS", values["mac"]),
            ("IFLA_MTU", values["mtu"]),
            ("IFLA_NET_NS_FD", values["netns"]),
        ]
    }
    message = _link(values["name"], values["mtu"])
    message["attrs"].append(("IFLA_MASTER", values["bridge"]))
    message["attrs"].append(_kind("veth", [("VETH_INFO_PEER", other)]))
    return _encoded(message, RTM_NEWLINK, _CREATE | _EXCL)


def _port(values: Values) -> bytes:
    """A port of a bridge: it learns nothing, and gets no frames whose target is unknown."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = ifinfmsg()
    message["index"] = values["index"]
    data = [
        ("IFLA_BRPORT_LEARNING", 0),
        ("IFLA_BRPORT_UNICAST_FLOOD", 0),
        ("IFLA_BRPORT_ISOLATED", values["isolated"]),
    ]
    slave = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": data})]
    message["attrs"] = [("IFLA_LINKINFO", {"attrs": slave})]
    return _encoded(message, RTM_NEWLINK)


def _forward(values: Values) -> bytes:
    """Frames for a hardware address leave through this port."""
    from pyroute2.netlink.rtnl.ndmsg import ndmsg

    entry = ndmsg()
    entry["family"] = socket.AF_BRIDGE
    entry["ifindex"] = values["index"]
    entry["state"] = _NOARP
    entry["flags"] = _NTF_MASTER
    entry["attrs"] = [("NDA_LLADDR", values["mac"])]
    return _encoded(entry, RTM_NEWNEIGH, _CREATE | _REPLACE)


def _proxied(values: Values) -> Any:
    from pyroute2.netlink.rtnl.ndmsg import ndmsg

    entry = ndmsg()
    entry["family"] = socket.AF_INET6
    entry["ifindex"] = values["index"]
    entry["flags"] = _NTF_PROXY
    entry["attrs"] = [("NDA_DST", values["address"])]
    return entry


def _proxy(values: Values) -> bytes:
    """Who asks on a link for the address is answered with the link's own hardware address."""
    return _encoded(_proxied(values), RTM_NEWNEIGH, _CREATE | _REPLACE)


def _no_proxy(values: Values) -> bytes:
    return _encoded(_proxied(values), RTM_DELNEIGH)


def _up(values: Values) -> bytes:
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = ifinfmsg()
    message["index"] = values["index"]
    message["flags"] = message["change"] = _UP
    return _encoded(message, RTM_NEWLINK)


def _remove(values: Values) -> bytes:
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    message = ifinfmsg()
    message["index"] = values["index"]
    return _encoded(message, RTM_DELLINK)


def _address(values: Values) -> bytes:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

    address = str(values["address"])
    message = ifaddrmsg()
    message["family"] = _family(address)
    message["prefixlen"] = values["prefix"]
    message["index"] = values["index"]
    message["attrs"] = [("IFA_ADDRESS", address), ("IFA_LOCAL", address)]
    if ":" in address:
        message["flags"] = _NODAD  # nobody else can have it: see the rules
    else:
        message["attrs"].append(("IFA_BROADCAST", values["broadcast"]))
    return _encoded(message, RTM_NEWADDR, _CREATE | _EXCL)


def _default(values: Values) -> bytes:
    """The route for everything else; it takes the place of one that is there."""
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    gateway = str(values["gateway"])
    message = rtmsg()
    message["family"] = _family(gateway)
    message["table"] = _MAIN_TABLE
    message["proto"] = _STATIC
    message["type"] = _UNICAST
    message["attrs"] = [("RTA_GATEWAY", gateway), ("RTA_OIF", values["index"])]
    return _encoded(message, RTM_NEWROUTE, _CREATE | _REPLACE)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
