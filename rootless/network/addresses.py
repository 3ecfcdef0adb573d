"""The addresses of slirp4netns' little network, the same in every container.

slirp4netns(1) gives the IPv4 ones; the IPv6 prefix fd00::/64 is fixed in
libslirp. A host whose own network uses fd00::/64 cannot be reached over IPv6.
"""

from __future__ import annotations

import hashlib
import ipaddress

CONTAINER_IPV4 = "10.0.2.100"
GATEWAY_IPV4 = "10.0.2.2"
FORWARDER_IPV4 = "10.0.2.3"
PREFIX_LENGTH_IPV4 = 24
PREFIX_IPV6 = "fd00::"
GATEWAY_IPV6 = "fd00::2"
FORWARDER_IPV6 = "fd00::3"
PREFIX_LENGTH_IPV6 = 64
RESOLVER = "127.0.0.11"
"""Where containers on bridge networks find their resolver, as in Docker."""


def mac_for(container_id: str) -> str:
    """A locally administered unicast MAC address derived from the container's id.

    It begins with 02 (IEEE 802: the second bit marks addresses nobody sold).
    """
    digest = hashlib.sha256(b"mac:" + container_id.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def ipv6_for(mac: str) -> str:
    """The address that autoconfiguration gives an interface with ``mac`` (RFC 4862, EUI-64)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    eui64 = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    prefix = int(ipaddress.IPv6Address(PREFIX_IPV6))
    return str(ipaddress.IPv6Address(prefix | int.from_bytes(eui64)))
