"""Links on the default bridge while its containers are kept apart.

A port of that bridge reaches no other (``links.Netlink.bind_port``). Between two
containers with a link the bridge's own address stands in: asked for either's
address it answers with its own hardware address (IPv4: RFC 3069; IPv6: proxied
neighbours, RFC 4861, 7.2.8), and what comes to it is forwarded where the rules
have the pair and the port (``rules``). Without a link it does neither.
"""

from __future__ import annotations

import contextlib

from rootless.linux.nftables import Rules
from rootless.model.network import Endpoint
from rootless.network.holder import rules
from rootless.network.holder.links import Netlink, set_sysctl


class Linked:
    """Who is on the default bridge, and what their links open. The caller is in the namespace."""

    def __init__(self, bridge: str, kept: Rules, route: Netlink) -> None:
        """``kept`` are the namespace's rules."""
        self._bridge, self._rules, self._route = bridge, kept, route
        self._by_id: dict[str, Endpoint] = {}
        self._by_name: dict[str, Endpoint] = {}
        self._linking: dict[str, Endpoint] = {}
        """Those that have links, by their ids."""
        self._open: frozenset[tuple[str, str]] = frozenset()
        self._answered: frozenset[str] = frozenset()

    def put(self, endpoint: Endpoint) -> None:
        """One more; links to and from it hold from here on."""
        self._by_id[endpoint.id] = endpoint
        self._by_name.update((name, endpoint) for name in endpoint.names)
        if endpoint.links:
            self._linking[endpoint.id] = endpoint
        self._settle()

    def drop(self, endpoint_id: str) -> None:
        """One less, and with it its links; an unknown one is fine."""
        endpoint = self._by_id.pop(endpoint_id, None)
        if endpoint is None:
            return
        self._linking.pop(endpoint_id, None)
        for name in endpoint.names:
            if self._by_name.get(name) is endpoint:
                del self._by_name[name]
        self._settle()

    def _settle(self) -> None:
        """Bring rules and bridge to what the links want."""
        if not (self._linking or self._open):
            return
        pairs = [
            (one, other)
            for one in self._linking.values()
            for name in {target for _, target in one.links}
            if (other := self._by_name.get(name)) is not None and other is not one
        ]
        wanted = rules.of_links(pairs)
        if changed := rules.changed_links(self._open, wanted):
            self._rules.run(changed)
        if bool(wanted) != bool(self._open):
            self._stand_in(on=bool(wanted))
        self._open = wanted
        both = (e.ipv6_address for pair in pairs for e in pair) if wanted else ()
        answered = frozenset(address for address in both if address)
        for address in self._answered - answered:
            self._route.answer_no_more(self._bridge, address)
        for address in answered - self._answered:
            self._route.answer_for(self._bridge, address)
        self._answered = answered

    def _stand_in(self, *, on: bool) -> None:
        for kind, name in (("ipv4", "proxy_arp_pvlan"), ("ipv6", "proxy_ndp")):
            # No bridge: then it does nothing any more. No IPv6: nobody has an address of it.
            with contextlib.suppress(FileNotFoundError):
                # At once: by default the answer waits for up to 0.8 seconds (arp(7)).
                set_sysctl(f"{kind}/neigh/{self._bridge}/proxy_delay", "0")
                set_sysctl(f"{kind}/conf/{self._bridge}/{name}", str(int(on)))
