"""What egress lists denied since the daemon last asked: counted by container and destination."""

from __future__ import annotations

import ipaddress
import time
from typing import Any, NamedTuple

DESTINATION, NAME, PRIVATE = "destination", "name", "private"
"""Reasons: no list has the destination; no list has the name; a name on the lists led
to an address that is not anybody's on the Internet, and was not opened."""
OTHERS = ""
"""The destination of those that there were too many of to tell apart."""
MOST, MOST_EACH = 2048, 256
"""Rows of all containers, and of one."""
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}
_WITH_PORTS = (6, 17)


class Attempt(NamedTuple):
    """Who wanted where. ``port`` is 0 where there is none."""

    container: str
    network: str
    reason: str
    protocol: str
    destination: str
    port: int = 0


class Denied:
    """Rows that nobody asked for yet."""

    def __init__(self) -> None:
        self._rows: dict[Attempt, list[int]] = {}
        """Count, first and last time in nanoseconds since 1970."""

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, attempt: Attempt, count: int = 1) -> None:
        """One more, or several."""
        now = time.time_ns()
        found = self._rows.get(attempt)
        if found is None:
            if attempt.destination != OTHERS and self._full(attempt.container):
                self.add(attempt._replace(destination=OTHERS, port=0), count)
                return
            self._rows[attempt] = [count, now, now]
            return
        found[0] += count
        found[2] = now

    def _full(self, container: str) -> bool:
        mine = sum(one.container == container for one in self._rows)
        return mine >= MOST_EACH or len(self._rows) >= MOST

    def take(self) -> list[dict[str, Any]]:
        """All rows, which are not here any more."""
        rows, self._rows = self._rows, {}
        return [
            {**attempt._asdict(), "count": count, "first": first, "last": last}
            for attempt, (count, first, last) in rows.items()
        ]


def target_of(packet: bytes) -> tuple[str, str, int] | None:
    """Protocol, address and port that a packet is for; None when it is no IP packet."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        start, number, address = (packet[0] & 15) * 4, packet[9], packet[16:20]
    elif version == 6 and len(packet) >= 40:
        start, number, address = 40, packet[6], packet[24:40]
    else:
        return None
    port = 0
    if number in _WITH_PORTS and len(packet) >= start + 4:
        port = int.from_bytes(packet[start + 2 : start + 4])
    protocol = _PROTOCOLS.get(number, str(number))
    return protocol, str(ipaddress.ip_address(address)), port
