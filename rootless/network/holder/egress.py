"""Ways out with egress lists: what names open for a while, and what was denied."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rootless.errors import RootlessError
from rootless.linux.nflog import NfLog
from rootless.linux.nftables import Rules
from rootless.model.egress import Address, is_public
from rootless.model.network import EgressLists
from rootless.network.dns.answers import LONGEST_TTL
from rootless.network.holder import egress_rules
from rootless.network.holder.denied import (
    DESTINATION,
    NAME,
    OTHERS,
    PRIVATE,
    Attempt,
    Denied,
    target_of,
)
from rootless.network.holder.egress_rules import MOST_OPEN, ListRules
from rootless.network.holder.links import set_sysctl

SHORTEST = 60
"""Seconds that an address is open at least: programs look a name up and connect later."""
GRACE = 30
"""Seconds longer than whoever was told the address may believe it."""
OWN_NETWORK = "slirp4netns"
"""The network of a way of a container's own."""
MOST_ADDRESSES = 64
"""Of one answer."""
_OF_WAYS = re.compile(r"\t(chain|set|counter) e[0-9a-f]{12}")


@dataclass(slots=True, eq=False)
class Way:
    """A container's way out: on one network, or a slirp4netns of its own."""

    container: str
    network: str
    table: str
    chain: str
    lists: tuple[ListRules, ...]
    rules: Rules
    """Of the network namespace with its chain."""
    open: dict[tuple[str, str], float] = field(default_factory=dict)
    """(set, address) → until when, in seconds of the monotonic clock."""
    logged: int = 0
    """Denials heard of one by one, or told as others."""

    def patterns(self) -> list[list[str]]:
        """The names on each of its lists, as the resolver compares them."""
        return [[p for names in one.names for p in names.patterns] for one in self.lists]


class Egress:
    """All ways with lists."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        rules: Rules,
        tell: Callable[[], None],
        answer: Callable[[dict[str, Any]], None],
    ) -> None:
        """``rules`` are those of the engine's namespace, ``tell`` says that there are denials.

        ``answer`` says something to the resolver.
        """
        self._selector, self._rules = selector, rules
        self._tell, self._answer = tell, answer
        self._ways: dict[tuple[str, str], Way] = {}
        """By container and chain."""
        self._home_log: NfLog | None = None
        self._own_logs: dict[str, NfLog] = {}
        """Of containers with rules in their own namespaces."""
        self._barred: frozenset[str] = frozenset()
        self._denied = Denied()

    # -- ways ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Hear of what is denied on bridges, before the first way is added there."""
        if self._home_log is None:
            self._home_log = NfLog(egress_rules.GROUP)
            _answer_all()
            self._hear(self._home_log, self._home_denied)

    def bar(self, addresses: Iterable[str]) -> None:
        """The host's own addresses as they are now: no name opens them.

        Containers without lists bring none, and change nothing for those with lists.
        """
        self._barred = frozenset(addresses) or self._barred

    def add(self, container_id: str, network: str, chain: str, lists: EgressLists) -> None:
        """A way by a bridge; its rules are there."""
        made = egress_rules.lists_of(chain, lists)
        way = Way(container_id, network, egress_rules.TABLE, chain, made, self._rules)
        self._ways[container_id, chain] = way

    def add_own(self, container_id: str, lists: EgressLists) -> None:
        """A way of the container's own: make its rules. The caller is in its namespace."""
        made = egress_rules.lists_of(egress_rules.PRIVATE_CHAIN, lists)
        chain = egress_rules.PRIVATE_CHAIN
        rules = Rules()
        try:
            log = NfLog(egress_rules.GROUP)
        except BaseException:
            rules.close()
            raise
        way = Way(container_id, OWN_NETWORK, egress_rules.TABLE, chain, made, rules)
        self._ways[container_id, chain] = way
        self._own_logs[container_id] = log
        self._hear(log, lambda: self._own_denied(container_id))
        _answer_all()
        rules.run(egress_rules.of_private(made))

    def drop(self, container_id: str, chain: str) -> None:
        """One way less; an unknown one is fine."""
        way = self._ways.get((container_id, chain))
        if way is not None:
            self._note_lost(way)
            self._hear_all()
            del self._ways[container_id, chain]

    def drop_own(self, container_id: str) -> None:
        """The container ends. Its rules stay with its namespace."""
        if container_id in self._own_logs:
            rules = self._ways[container_id, egress_rules.PRIVATE_CHAIN].rules
            self.drop(container_id, egress_rules.PRIVATE_CHAIN)
            log = self._own_logs.pop(container_id)
            self._selector.unregister(log)
            log.close()
            rules.close()

    def _hear(self, log: NfLog, denied: Callable[[], None]) -> None:
        self._selector.register(log, selectors.EVENT_READ, denied)

    def patterns(self, container_id: str, chain: str) -> list[list[str]]:
        """See :meth:`Way.patterns`."""
        return self._ways[container_id, chain].patterns()

    def leftovers(self) -> list[str]:
        """Rules that are there, as text."""
        lines = self._rules.run(f"list table {egress_rules.TABLE}").splitlines()
        return [line.strip(" {\t") for line in lines if _OF_WAYS.match(line)]

    # -- names -----------------------------------------------------------------------------

    def obey(self, said: dict[str, Any]) -> bool:
        """One message of the resolver's (``dns.permits``); False when it is nonsense."""
        try:
            if "open" in said:
                found = [(str(address), int(ttl)) for address, ttl in said["addresses"]]
                done = self.open(str(said["client"]), str(said["name"]), found)
                self._answer({"opened": int(said["open"]), "done": done})
            else:
                client, name = str(said["denied"]), str(said["name"])
                self.name_denied(client, name, int(said["count"]))
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def open(self, container_id: str, name: str, found: Sequence[tuple[str, int]]) -> bool:
        """Let a container connect to what ``name`` led to: addresses with seconds to live.

        False when there is no room for them.
        """
        addresses = [(ipaddress.ip_address(text), ttl) for text, ttl in found[:MOST_ADDRESSES]]
        now = time.monotonic()
        for way in self._of(container_id):
            leads = [one.leads(name) for one in way.lists]
            if not all(leads):
                continue
            sets = [names.sets for some in leads for names in some]
            wanted = []
            for address, ttl in addresses:
                if self._may_open(way, name, address):
                    seconds = min(max(ttl, SHORTEST), LONGEST_TTL) + GRACE
                    wanted += [(pair[address.version == 6], str(address), seconds) for pair in sets]
            if not self._open(way, wanted, now):
                return False
        return True

    def _may_open(self, way: Way, name: str, address: Address) -> bool:
        if is_public(address) and str(address) not in self._barred:
            return True
        if not any(address in item.network for one in way.lists for item in one.ranges
                   if item.network is not None):  # fmt: skip
            told = f"{_printable(name)} ({address})"
            self._add(Attempt(way.container, way.network, PRIVATE, "dns", told))
        return False

    @staticmethod
    def _open(way: Way, wanted: Sequence[tuple[str, str, int]], now: float) -> bool:
        due = [(s, a, t) for s, a, t in wanted if way.open.get((s, a), 0.0) < now + t - GRACE / 2]
        if not due:
            return True
        if len(way.open) + len(due) > MOST_OPEN:
            way.open = {key: until for key, until in way.open.items() if until > now}
        if len(way.open) + len(due) > MOST_OPEN:
            return False
        script = "".join(egress_rules.opening(way.table, s, a, t) for s, a, t in due)
        try:
            way.rules.run(script)
        except RootlessError:
            return False
        way.open.update(((s, a), now + t) for s, a, t in due)
        return True

    def name_denied(self, container_id: str, name: str, count: int) -> None:
        """The resolver refused a name that is on no list."""
        ways = self._of(container_id)
        if ways:
            network = ways[0].network
            self._add(Attempt(container_id, network, NAME, "dns", _printable(name)), count)

    def _of(self, container_id: str) -> list[Way]:
        return [way for (owner, _), way in self._ways.items() if owner == container_id]

    # -- denials ---------------------------------------------------------------------------

    def take(self) -> list[dict[str, Any]]:
        """What was denied since the last time."""
        for way in tuple(self._ways.values()):
            self._note_lost(way)
        self._hear_all()
        return self._denied.take()

    def _add(self, attempt: Attempt, count: int = 1) -> None:
        first = not self._denied
        self._denied.add(attempt, count)
        if first:
            self._tell()

    def _hear_all(self) -> None:
        if self._home_log is not None:
            self._home_denied()
        for container_id in self._own_logs:
            self._own_denied(container_id)

    def _home_denied(self) -> None:
        assert self._home_log is not None
        by_chain = {chain: way for (_, chain), way in self._ways.items()}
        for one in self._home_log.read():
            self._heard(by_chain.get(one.prefix), one.packet)

    def _own_denied(self, container_id: str) -> None:
        way = self._ways.get((container_id, egress_rules.PRIVATE_CHAIN))
        for one in self._own_logs[container_id].read():
            self._heard(way, one.packet)

    def _heard(self, way: Way | None, packet: bytes) -> None:
        target = target_of(packet)
        if way is not None and target is not None:
            way.logged += 1
            self._add(Attempt(way.container, way.network, DESTINATION, *target))

    def _note_lost(self, way: Way) -> None:
        """Those that the kernel counted and did not log: there were too many at once."""
        # Counted before what is logged is heard: so none is told twice.
        try:
            text = way.rules.run(f"list counter {way.table} {way.chain}")
        except RootlessError:
            return  # the namespace is going
        found = re.search(r"packets (\d+)", text)
        counted = int(found[1]) if found else 0
        self._hear_all()
        lost = counted - way.logged
        if lost > 0:
            way.logged += lost
            self._add(Attempt(way.container, way.network, DESTINATION, "", OTHERS), lost)


def _answer_all() -> None:
    """Whoever is denied is told so: the kernel would be silent after six in a row (icmp(7)).

    The rules have limits of their own.
    """
    set_sysctl("ipv4/icmp_ratemask", "0")
    with contextlib.suppress(FileNotFoundError):  # no IPv6
        set_sysctl("ipv6/icmp/ratelimit", "0")


def _printable(name: str) -> str:
    """A name as it may stand in a log: the resolver, and who it hears, send anything."""
    return re.sub(r"[^a-z0-9_.*\\-]", "?", name)[:255]
