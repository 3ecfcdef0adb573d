"""The rules of egress lists, as text for nft(8). Pure.

A way out that has lists is a chain: it jumps to one chain for each list, which
returns for what the list allows and else goes to where a denial is counted,
logged and answered (ICMP: administratively prohibited). What names lead to is
in sets of addresses, one for each kind of ports and family, filled by the
resolver's answers and emptied by time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rootless.model.egress import ANY, EgressItem, name_matches, parse_item
from rootless.model.network import EgressLists

TABLE = "inet rootless"
OUT = "tap0"
"""The device of slirp4netns."""
GROUP = 5
"""The nflog group of denials."""
MOST_OPEN = 1024
"""Addresses that names of a list may have open at once, each family."""
_LOGGED = "limit rate 20/second burst 100 packets"
"""Denials of one container that are looked at one by one; all are counted."""
_OVER_IPV6 = "meta nfproto ipv6 meta l4proto tcp"
"""An ICMPv6 error that comes while connect(2) still holds its socket, as it does from a bridge,
is kept until the next try a second later (``tcp_v6_err``); a reset waits in its backlog."""
_ANSWERED = "limit rate 200/second burst 1000 packets"
"""Those that whoever is denied hears of at once."""


@dataclass(frozen=True, slots=True)
class Names:
    """Name patterns of a list with the same ports, and the sets of what they lead to."""

    patterns: tuple[str, ...]
    item: EgressItem
    """Protocol and ports; its destination is one of the patterns."""
    sets: tuple[str, str]
    """For IPv4 and IPv6."""


@dataclass(frozen=True, slots=True)
class ListRules:
    """One list: its chain, its ranges, and its names by ports."""

    chain: str
    ranges: tuple[EgressItem, ...]
    names: tuple[Names, ...]

    def leads(self, name: str) -> list[Names]:
        """Those of its names that ``name`` is one of."""
        return [n for n in self.names if any(name_matches(name, p) for p in n.patterns)]


def lists_of(chain: str, lists: EgressLists) -> tuple[ListRules, ...]:
    """What the lists of the way with this chain are made of."""
    return tuple(_list(f"{chain}l{number}", items) for number, items in enumerate(lists))


def _list(chain: str, items: Sequence[str]) -> ListRules:
    ranges: list[EgressItem] = []
    ports: dict[tuple[str, int, int], list[EgressItem]] = {}
    for item in map(parse_item, items):
        if item.network is not None:
            ranges.append(item)
        else:
            ports.setdefault((item.protocol, item.first, item.last), []).append(item)
    names = tuple(
        Names(
            tuple(item.destination for item in found),
            found[0],
            (f"{chain}n{number}v4", f"{chain}n{number}v6"),
        )
        for number, found in enumerate(ports.values())
    )
    return ListRules(chain, tuple(ranges), names)


def chains(table: str, chain: str, lists: Iterable[ListRules]) -> str:
    """The chain of a way out, which accepts what all lists allow."""
    lines = [
        f"add counter {table} {chain}",
        f"add chain {table} {chain}x",
        f"add rule {table} {chain}x counter name {chain}",
        f'add rule {table} {chain}x {_LOGGED} log prefix "{chain}" group {GROUP}',
        f"add rule {table} {chain}x {_OVER_IPV6} {_ANSWERED} reject with tcp reset",
        f"add rule {table} {chain}x {_ANSWERED} reject with icmpx admin-prohibited",
        f"add rule {table} {chain}x drop",
    ]
    main = [f"add chain {table} {chain}"]
    for one in lists:
        lines.append(f"add chain {table} {one.chain}")
        for item in one.ranges:
            assert item.network is not None
            family = "ip" if item.network.version == 4 else "ip6"
            to = f"{family} daddr {item.network} {_ports(item, family)}"
            lines.append(f"add rule {table} {one.chain} {to} return")
        for names in one.names:
            for name, family in zip(names.sets, ("ip", "ip6"), strict=True):
                kind = "ipv4_addr" if family == "ip" else "ipv6_addr"
                lines.append(
                    f"add set {table} {name} {{ type {kind}; flags timeout; size {MOST_OPEN}; }}"
                )
                to = f"{family} daddr @{name} {_ports(names.item, family)}"
                lines.append(f"add rule {table} {one.chain} {to} return")
        lines.append(f"add rule {table} {one.chain} goto {chain}x")
        main.append(f"add rule {table} {chain} jump {one.chain}")
    main.append(f"add rule {table} {chain} accept")
    return "".join(f"{line}\n" for line in (*lines, *main))


def _ports(item: EgressItem, family: str) -> str:
    if item.protocol == ANY:
        return ""
    if item.protocol == "icmp":
        return f"meta l4proto {'icmp' if family == 'ip' else 'ipv6-icmp'}"
    if item.has_ports:
        return f"{item.protocol} dport {item.first}-{item.last}"
    return f"meta l4proto {item.protocol}"


def without_chains(table: str, chain: str, lists: Iterable[ListRules]) -> str:
    """Take back what :func:`chains` made; nothing may lead to it any more."""
    found = tuple(lists)
    lines = [f"delete chain {table} {name}" for name in (chain, *(one.chain for one in found))]
    lines.append(f"delete chain {table} {chain}x")
    sets = [name for one in found for names in one.names for name in names.sets]
    lines += [f"delete set {table} {name}" for name in sets]
    lines.append(f"delete counter {table} {chain}")
    return "".join(f"{line}\n" for line in lines)


def opening(table: str, name: str, address: str, seconds: int) -> str:
    """Let a set have an address for so long from now on, also when it has it already.

    An element's time cannot be changed, but it can be made anew in one transaction.
    """
    verb = f"element {table} {name} {{ {address}"
    return f"add {verb} }}\ndelete {verb} }}\nadd {verb} timeout {seconds}s }}\n"


PRIVATE_CHAIN = "own"


def of_private(lists: Iterable[ListRules]) -> str:
    """In the namespace of a container with a slirp4netns of its own: its lists.

    Whatever it forwards for others counts as its own. Neighbours are asked for and
    groups are joined as always (RFC 4890, 4.4.1). In one transaction with the end
    of what was there before.
    """
    table, out = TABLE, f'oifname "{OUT}"'
    lines = [f"add table {table}", f"delete table {table}", f"add table {table}"]
    text = "".join(f"{line}\n" for line in lines) + chains(table, PRIVATE_CHAIN, lists)
    for hook in ("output", "forward"):
        chain = f"{table} {hook}"
        text += f"add chain {chain} {{ type filter hook {hook} priority filter; policy drop; }}\n"
        for rule in (
            f'oifname != "{OUT}" accept',
            "ct state established,related accept",
            f"{out} icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert,"
            " mld-listener-report, mld2-listener-report, mld-listener-done } accept",
            f"{out} goto {PRIVATE_CHAIN}",
        ):
            text += f"add rule {chain} {rule}\n"
    return text
