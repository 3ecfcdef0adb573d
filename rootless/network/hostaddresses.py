"""The addresses of this host, to which no name on an egress list may lead."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_TRIE = "/proc/net/fib_trie"
_INET6 = "/proc/net/if_inet6"


def host_addresses() -> list[str]:
    """All of them, loopback's too, as text."""
    found = set(ipv4_of(_lines(_TRIE))) | set(ipv6_of(_lines(_INET6)))
    return sorted(found)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()
    except FileNotFoundError:  # no IPv6
        return []


def ipv4_of(trie: Iterable[str]) -> Iterable[str]:
    """From ``fib_trie``: an address stands in the line before each ``/32 host LOCAL``."""
    before = ""
    for line in trie:
        if "/32 host LOCAL" in line:
            yield before.rsplit(maxsplit=1)[-1]
        before = line


def ipv6_of(interfaces: Iterable[str]) -> Iterable[str]:
    """From ``if_inet6``: each line begins with 32 hexadecimal digits."""
    for line in interfaces:
        yield str(ipaddress.IPv6Address(int(line.split()[0], 16)))
