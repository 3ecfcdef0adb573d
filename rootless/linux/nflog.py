"""Packets that rules with ``log group`` name: nfnetlink_log of a network namespace.

linux/netfilter/nfnetlink_log.h. Needs CAP_NET_ADMIN over the namespace when it
is opened, and nothing afterwards.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rootless.errors import HostUnsupported

_NETLINK_NETFILTER = 12
_ULOG, _PACKET, _CONFIG = 4, 0, 1
_REQUEST, _ACK, _ERROR = 0x1, 0x4, 2
_CFG_CMD, _CFG_MODE, _CFG_THRESHOLD = 1, 2, 5
_BIND = 1
_COPY_PACKET = 2
_PAYLOAD, _PREFIX = 9, 10
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_COPIED = 128
"""Bytes of each packet: its headers."""
_RECEIVE = 1 << 16


@dataclass(frozen=True, slots=True)
class Logged:
    """A packet, from its network header on, and the rule's prefix."""

    prefix: str
    packet: bytes


class NfLog:
    """The packets of one group in the network namespace that the calling thread is in."""

    def __init__(self, group: int) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._set(group, _CFG_CMD, struct.pack("=B", _BIND))
            self._set(group, _CFG_MODE, struct.pack("!IBx", _COPIED, _COPY_PACKET))
            self._set(group, _CFG_THRESHOLD, struct.pack("!I", 1))  # each at once
        except OSError as error:
            self._socket.close()
            raise HostUnsupported(
                f"the kernel does not log packets (nfnetlink_log): {error.strerror}",
                hint="sudo modprobe nfnetlink_log",
            ) from None
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The descriptor, readable when there are packets."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hear of no more."""
        self._socket.close()

    def read(self) -> Iterator[Logged]:
        """What there is now. Packets that found no room are missing."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue
                raise
            yield from parse(data)

    def _set(self, group: int, attribute: int, value: bytes) -> None:
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, group) + _attribute(attribute, value)
        kind = _ULOG << 8 | _CONFIG
        self._socket.send(_HEADER.pack(16 + len(body), kind, _REQUEST | _ACK, 0, 0) + body)
        answer = self._socket.recv(_RECEIVE)
        code = -int(struct.unpack_from("=i", answer, 16)[0])
        if code:
            raise OSError(code, errno.errorcode.get(code, str(code)))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def parse(data: bytes) -> Iterator[Logged]:
    """The packets in one datagram of the kernel's."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        if kind == (_ULOG << 8 | _PACKET):
            found = dict(_attributes(data[at + _HEADER.size + 4 : at + size]))
            prefix = found.get(_PREFIX, b"").rstrip(b"\0").decode("ascii", "replace")
            yield Logged(prefix, found.get(_PAYLOAD, b""))
        at += size + -size % 4


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += size + -size % 4
