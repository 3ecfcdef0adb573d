"""Egress lists: where a container may connect to outside its networks. Pure.

An item is ``DESTINATION[:PORTS][/PROTOCOL]``. The destination is an address, a
range of addresses, a domain name, ``*.DOMAIN`` for every name below a domain
(not the domain itself), or ``*`` for every name; IPv6 addresses stand in
brackets where ports follow. Ports are one, or a range ``FIRST-LAST``. With
ports and no protocol it is tcp; with neither everything is meant. A list
allows what one of its items allows, the empty one nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rootless.errors import InvalidInput

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NONE = "none"
"""Written alone it is the empty list."""
ANY = "any"
PROTOCOLS = ("tcp", "udp", "icmp", ANY)
"""``any`` is these three and every other one."""
MOST = 256
"""Items of a list."""
_LAST_PORT = 65535
_SEPARATOR = re.compile(r"[\s,;]+")
_ITEM = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\](?P<length>/[0-9]{1,3})?|(?P<plain>[^\[\]]+?))"
    r"(?::(?P<ports>[0-9]{1,5}(?:-[0-9]{1,5})?))?(?:/(?P<protocol>tcp|udp|icmp|any))?",
    re.ASCII,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_HINT = "write for example pypi.org:443, *.example.com:443, 203.0.113.0/24:5432/tcp or none"


@dataclass(frozen=True, slots=True)
class EgressItem:
    """One allowed kind of destination; ``destination`` is a range or a name, both canonical."""

    destination: str
    protocol: str = ANY
    first: int = 0
    last: int = _LAST_PORT

    @property
    def network(self) -> Network | None:
        """The range of addresses; None when the destination is a name."""
        return _network(self.destination)

    @property
    def has_ports(self) -> bool:
        """Whether only some ports are meant."""
        return (self.first, self.last) != (0, _LAST_PORT)

    def __str__(self) -> str:
        text = self.destination
        network = self.network
        if network is not None and network.prefixlen == network.max_prefixlen:
            text = str(network.network_address)
        if self.has_ports:
            if ":" in text:
                address, slash, length = text.partition("/")
                text = f"[{address}]{slash}{length}"
            text += f":{self.first}" if self.first == self.last else f":{self.first}-{self.last}"
        plain = "tcp" if self.has_ports else ANY
        return text if self.protocol == plain else f"{text}/{self.protocol}"


@lru_cache(maxsize=1024)
def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def parse_item(text: str) -> EgressItem:
    """One item; InvalidInput says what is wrong with it."""
    found = _ITEM.fullmatch(text)
    if found is None or len(text) > 300:
        raise _bad(text, "it is no DESTINATION[:PORTS][/PROTOCOL]")
    if found["six"]:
        destination = _range(text, found["six"] + (found["length"] or ""))
    elif found["plain"].count(":") + bool(found["ports"]) > 1:
        # An IPv6 address without brackets: what looked like its port is a part of it.
        whole, _, protocol = text.rpartition("/")
        whole = whole if protocol in PROTOCOLS else text
        destination = _range(text, whole)
        return EgressItem(destination, found["protocol"] or ANY)
    else:
        destination = _destination(text, found["plain"])
    return _with_ports(text, destination, found["ports"], found["protocol"])


def _with_ports(text: str, destination: str, ports: str | None, protocol: str | None) -> EgressItem:
    if ports is None:
        return EgressItem(destination, protocol or ANY)
    if protocol in ("icmp", ANY):
        raise _bad(text, f"ports belong to tcp and udp, not to {protocol}")
    one, _, other = ports.partition("-")
    first, last = int(one), int(other or one)
    if not 1 <= first <= last <= _LAST_PORT:
        raise _bad(text, f"{ports} are no ports")
    return EgressItem(destination, protocol or "tcp", first, last)


def _range(text: str, written: str) -> str:
    try:
        return str(ipaddress.ip_network(written))
    except ValueError as error:
        raise _bad(text, str(error)) from None


def _destination(text: str, written: str) -> str:
    last = written.rpartition(".")[2]
    if "/" in written or last.isdigit():
        return _range(text, written)
    name = written.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise _bad(text, "the name cannot be written in ASCII (IDNA)") from None
    if name == "*":
        return name
    if name == NONE:
        raise _bad(text, f"{NONE} stands alone, and a policy's list is empty instead")
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise _bad(text, f"{written!r} is neither an address nor a domain name")
    return name


def _bad(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"invalid egress item {text[:80]!r}: {why}", hint=_HINT)


def parse(text: str) -> tuple[str, ...]:
    """A whole list from one text, its items between commas, semicolons or spaces."""
    items = [item for item in _SEPARATOR.split(text.strip()) if item]
    if items == [NONE]:
        return ()
    if not items:
        raise InvalidInput("the egress list is empty", hint=f"{NONE} allows nothing; {_HINT}")
    return canonical(items)


def canonical(items: Iterable[str]) -> tuple[str, ...]:
    """The items as they are kept: each in one way of writing, once, without what others cover."""
    found = dict.fromkeys(map(parse_item, items))
    if len(found) > MOST:
        raise InvalidInput(f"an egress list has at most {MOST} items, not {len(found)}")
    return tuple(map(str, _reduced(found)))


def _reduced(items: Iterable[EgressItem]) -> list[EgressItem]:
    found = tuple(items)
    return [a for a in found if not any(b != a and covers(b, a) for b in found)]


def union(items: Iterable[str]) -> tuple[str, ...]:
    """Like :func:`canonical` for a list of any length, in an order of its own."""
    return tuple(sorted(map(str, _reduced(set(map(parse_item, items))))))


def show(items: Sequence[str]) -> str:
    """A list as :func:`parse` reads it."""
    return ";".join(items) or NONE


def name_matches(name: str, pattern: str) -> bool:
    """Whether a name in lower case, or a pattern, is one of those that ``pattern`` means."""
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and name != pattern[1:]
    return name == pattern


def is_within(narrow: Network, wide: Network) -> bool:
    """Whether every address of ``narrow`` is one of ``wide``; never of two families."""
    return narrow.version == wide.version and narrow.subnet_of(wide)  # type: ignore[arg-type]  # of one family: just asked


def _covers_destination(wide: EgressItem, narrow: EgressItem) -> bool:
    a, b = wide.network, narrow.network
    if a is None or b is None:
        return a is b and name_matches(narrow.destination, wide.destination)
    return is_within(b, a)


def covers(wide: EgressItem, narrow: EgressItem) -> bool:
    """Whether ``wide`` allows all that ``narrow`` does."""
    return (
        wide.protocol in (ANY, narrow.protocol)
        and wide.first <= narrow.first
        and narrow.last <= wide.last
        and _covers_destination(wide, narrow)
    )


def beyond(items: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Those items that no single one of ``allowed`` covers."""
    wide = tuple(map(parse_item, allowed))
    return tuple(item for item in items if not any(covers(one, parse_item(item)) for one in wide))


def _both(a: EgressItem, b: EgressItem) -> EgressItem | None:
    """What both allow: an item again, as destinations nest or are apart."""
    if _covers_destination(a, b):
        destination = b.destination
    elif _covers_destination(b, a):
        destination = a.destination
    else:
        return None
    if ANY not in (a.protocol, b.protocol) and a.protocol != b.protocol:
        return None
    protocol = b.protocol if a.protocol == ANY else a.protocol
    first, last = max(a.first, b.first), min(a.last, b.last)
    return EgressItem(destination, protocol, first, last) if first <= last else None


def intersect(a: Iterable[str], b: Iterable[str]) -> tuple[str, ...]:
    """The list that allows exactly what both do."""
    left, right = tuple(map(parse_item, a)), tuple(map(parse_item, b))
    made = {both for x in left for y in right if (both := _both(x, y)) is not None}
    return tuple(sorted(map(str, _reduced(made))))


def is_public(address: Address) -> bool:
    """Whether an address is anybody's on the Internet: what a name may open by itself.

    A name that leads to other ones (DNS rebinding) opens nothing. IPv4 addresses
    written as IPv6 ones are looked at as what they are (RFC 4291, 6052, 3056, 4380).
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
