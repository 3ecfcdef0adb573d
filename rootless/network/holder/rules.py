"""The rules of the engine's network namespace, as text for nft(8). Pure.

Two tables. ``bridge rootless`` binds each port of a bridge to the one hardware
address and the addresses of the container behind it: nothing else comes in
there, so that a container can neither speak for another nor draw its traffic.
``inet rootless`` decides what is forwarded: out through slirp4netns for
networks that are not internal and containers that ``way4`` and ``way6`` lead
there (past their egress lists: ``egress_rules``), never from one bridge to
another, so many connections of a container that the table of them has room for
the others', and nothing to the namespace's own addresses but echo requests to a
bridge's own gateway. Where containers are kept apart those that are linked
reach one another by way of the bridge's address, from which they are not led
away by redirects (``linked``); each packet is looked at, so that a connection
ends with its link.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from rootless.model.network import ICC, Endpoint, NetworkRecord
from rootless.network.holder import egress_rules
from rootless.network.holder.egress_rules import OUT, TABLE
from rootless.network.predefined import BRIDGE_ID

FLOWS = 4096
"""Connections and streams of datagrams that one address may have under way to the outside."""

BASE = f"""
table inet rootless {{
  set flows4 {{ type ipv4_addr; size 65535; flags dynamic; }}
  set flows6 {{ type ipv6_addr; size 65535; flags dynamic; }}
  set outward {{ type ifname; }}
  set same {{ type ifname . ifname; }}
  set apart {{ type ifname . ifname; }}
  set links4 {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval; }}
  set links6 {{ type ipv6_addr . ipv6_addr . inet_proto . inet_service; flags interval; }}
  set own4 {{ type ifname . ipv4_addr; }}
  set own6 {{ type ifname . ipv6_addr; }}
  map way4 {{ type ifname . ipv4_addr : verdict; }}
  map way6 {{ type ifname . ipv6_addr : verdict; }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iif "lo" accept
    ct state established,related accept
    iifname . ip daddr @own4 icmp type echo-request limit rate 200/second accept
    iifname . ip6 daddr @own6 icmpv6 type echo-request limit rate 200/second accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    iifname "{OUT}" icmpv6 type nd-router-advert accept
  }}
  chain forwarded {{
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    iifname . oifname @apart goto linked
    ct state established,related accept
    add @flows4 {{ ip saddr ct count over {FLOWS} }} counter drop
    add @flows6 {{ ip6 saddr ct count over {FLOWS} }} counter drop
    iifname . oifname @same accept
    oifname != "{OUT}" drop
    iifname != @outward drop
    iifname . ip saddr vmap @way4
    iifname . ip6 saddr vmap @way6
  }}
  chain linked {{
    meta l4proto {{ icmp, ipv6-icmp }} ct state related accept
    ct direction reply ip daddr . ip saddr . meta l4proto . th sport @links4 accept
    ct direction reply ip6 daddr . ip6 saddr . meta l4proto . th sport @links6 accept
    ct state new add @flows4 {{ ip saddr ct count over {FLOWS} }} counter drop
    ct state new add @flows6 {{ ip6 saddr ct count over {FLOWS} }} counter drop
    ct direction original ip saddr . ip daddr . meta l4proto . th dport @links4 accept
    ct direction original ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 accept
    meta l4proto tcp limit rate 200/second burst 1000 packets reject with tcp reset
    limit rate 200/second burst 1000 packets reject with icmpx admin-prohibited
  }}
  chain output {{
    type filter hook output priority filter;
    icmp type redirect drop
    icmpv6 type nd-redirect drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname "{OUT}" masquerade
  }}
}}
table bridge rootless {{
  set hw {{ type ifname . ether_addr; }}
  set a4 {{ type ifname . ipv4_addr; }}
  set a6 {{ type ifname . ipv6_addr; }}
  set arps {{ type ifname . ether_addr . ipv4_addr; }}
  set adverts {{ typeof iifname . @th,64,128; }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy drop;
    iifname . ether saddr != @hw drop
    ether type {{ 8021q, 8021ad }} drop
    iifname . ip saddr @a4 accept
    iifname . arp saddr ether . arp saddr ip @arps accept
    icmpv6 type {{ nd-router-advert, nd-redirect }} drop
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @adverts drop
    iifname . ip6 saddr @a6 accept
    ip6 saddr :: icmpv6 type {{ nd-neighbor-solicit, mld2-listener-report }} accept
  }}
}}
"""
"""Bytes 8 to 24 of a neighbour advertisement are whose it is (RFC 4861, 4.4)."""


def bridge_name(network_id: str) -> str:
    """The bridge of a network, as Docker calls it."""
    return f"br-{network_id[:12]}"


def port_name(endpoint_id: str) -> str:
    """The end of a container's veth pair that is a port of the bridge."""
    return f"ve{endpoint_id[:12]}"


def chain_name(endpoint_id: str) -> str:
    """The chain with a container's egress lists; its denials are logged under this name."""
    return f"e{endpoint_id[:12]}"


def mac_of(seed: str) -> str:
    """A locally administered hardware address made from hex digits (IEEE 802)."""
    return ":".join(["02", *(seed[i : i + 2] for i in range(0, 10, 2))])


def link_local(mac: str) -> str:
    """The address that the kernel gives an interface with ``mac`` (RFC 4862, EUI-64)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    eui64 = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.IPv6Address(0xFE80 << 112 | int.from_bytes(eui64)))


def of_network(network: NetworkRecord, *, add: bool) -> str:
    """What a network's bridge may do."""
    bridge = f'"{bridge_name(network.id)}"'
    found = []
    if not network.internal:
        found.append(("inet", "outward", bridge))
    if network.flag(ICC, default=True):
        found.append(("inet", "same", f"{bridge} . {bridge}"))
    elif network.id == BRIDGE_ID:  # nowhere else links are more than names, as in Docker
        found.append(("inet", "apart", f"{bridge} . {bridge}"))
    for subnet in network.subnets:
        if subnet.gateway:
            name = "own6" if ":" in subnet.gateway else "own4"
            found.append(("inet", name, f"{bridge} . {subnet.gateway}"))
    return _elements(found, add=add)


def of_endpoint(endpoint: Endpoint, *, add: bool) -> str:
    """Whose a port is, and where what comes from there may go."""
    port, mac = f'"{port_name(endpoint.id)}"', endpoint.mac_address
    found = [("bridge", "hw", f"{port} . {mac}")]
    chain = chain_name(endpoint.id)
    verdict = f"goto {chain}" if endpoint.egress else "accept"
    bridge = f'"{bridge_name(endpoint.network_id)}"'
    for name, address in (("way4", endpoint.ipv4_address), ("way6", endpoint.ipv6_address)):
        if address:
            found.append(("inet", name, f"{bridge} . {address} : {verdict}"))
    if endpoint.ipv4_address:
        found.append(("bridge", "a4", f"{port} . {endpoint.ipv4_address}"))
        found.append(("bridge", "arps", f"{port} . {mac} . {endpoint.ipv4_address}"))
    if endpoint.ipv6_address:
        for address in (endpoint.ipv6_address, link_local(mac)):
            found.append(("bridge", "a6", f"{port} . {address}"))
            number = int(ipaddress.IPv6Address(address))
            found.append(("bridge", "adverts", f"{port} . {number:#034x}"))
    elements = _elements(found, add=add)
    if not endpoint.egress:
        return elements
    lists = egress_rules.lists_of(chain, endpoint.egress)
    if add:
        return egress_rules.chains(TABLE, chain, lists) + elements
    return elements + egress_rules.without_chains(TABLE, chain, lists)


def of_links(pairs: Iterable[tuple[Endpoint, Endpoint]]) -> frozenset[tuple[str, str]]:
    """Set and element for every port that a pair's first one may connect to the second one's."""
    found = set()
    for one, other in pairs:
        for name, source, target in (
            ("links4", one.ipv4_address, other.ipv4_address),
            ("links6", one.ipv6_address, other.ipv6_address),
        ):
            if source and target:
                for protocol, first, last in other.exposed:
                    ports = f"{protocol} . {first}-{last}"
                    found.add((name, f"{source} . {target} . {ports}"))
    return frozenset(found)


def changed_links(before: frozenset[tuple[str, str]], after: frozenset[tuple[str, str]]) -> str:
    """What brings the sets from one state to another."""
    gone = [("inet", *element) for element in sorted(before - after)]
    more = [("inet", *element) for element in sorted(after - before)]
    return _elements(gone, add=False) + _elements(more, add=True)


ELEMENTS = (
    *(
        ("inet", "set", name)
        for name in ("outward", "same", "apart", "own4", "own6", "links4", "links6")
    ),
    *(("inet", "map", name) for name in ("way4", "way6")),
    *(("bridge", "set", name) for name in ("hw", "a4", "a6", "arps", "adverts")),
)
"""(family, set or map, name) of every one."""


def _elements(found: Iterable[tuple[str, str, str]], *, add: bool) -> str:
    verb = "add" if add else "delete"
    return "".join(
        f"{verb} element {family} rootless {name} {{ {element} }}\n"
        for family, name, element in found
    )
