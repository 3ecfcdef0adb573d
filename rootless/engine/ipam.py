"""Address ranges of networks and addresses in them (pure).

Words of errors are moby's where clients match on them.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain

from rootless.errors import Denied, Exhausted, InvalidInput
from rootless.model.network import NetworkRecord, Subnet
from rootless.model.pools import AddressPool
from rootless.model.request import SubnetRequest

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    *((f"172.{second}.0.0/16", 16) for second in range(18, 32)),
    ("192.168.0.0/16", 20),
)
"""(range, prefix length of the networks cut from it); Docker's, without that of its docker0."""

WAY_OUT = ("10.0.2.0/24", "fd00::/64")
"""What slirp4netns uses (``network.addresses``)."""


def pools(given: Sequence[AddressPool], seed: str) -> list[tuple[str, int]]:
    """``default-address-pools``, and what is there for a family that they lack.

    ``seed`` is this engine's own, and so the local IPv6 prefix (RFC 4193, 3.2.1).
    """
    found = [(str(pool.base), pool.size) for pool in given]
    if not any(ipaddress.ip_network(base).version == 4 for base, _ in found):
        found += DEFAULT_POOLS
    if not any(ipaddress.ip_network(base).version == 6 for base, _ in found):
        digest = hashlib.sha256(seed.encode()).digest()
        prefix = ipaddress.IPv6Network((bytes([0xFD, *digest[:5]]) + bytes(10), 48))
        found.append((str(prefix), 64))
    return found


def check(wanted: Sequence[SubnetRequest], *, ipv6: bool) -> tuple[Subnet, ...]:
    """The ranges that were asked for, in their usual spelling; InvalidInput names every fault.

    One without a subnet is left out. IPv6 ranges of a network without IPv6 are, too.
    """
    faults: list[str] = []
    found = []
    for one in wanted:
        if not one.subnet and not (one.ip_range or one.gateway or one.reserved):
            continue
        try:
            net = ipaddress.ip_network(one.subnet, strict=False)
        except ValueError:
            faults.append(f"invalid subnet {one.subnet}: invalid CIDR block notation")
            continue
        if net.version == 6 and not ipv6:
            continue
        if "/" not in one.subnet:
            faults.append(f"invalid subnet {one.subnet}: invalid CIDR block notation")
        elif ipaddress.ip_interface(one.subnet).ip != net.network_address:
            faults.append(f"invalid subnet {one.subnet}: it should be {net}")
        faults += _check_range(one.ip_range, net)
        named = [("gateway", one.gateway, one.gateway)] if one.gateway else []
        named += [("auxiliary address", name, address) for name, address in one.reserved]
        for what, name, address in named:
            if fault := _check_address(address, net):
                faults.append(f"invalid {what} {name}: {fault}")
        found.append(Subnet(str(net), one.gateway, one.ip_range, one.reserved))
    for version in (4, 6):
        if sum(ipaddress.ip_network(s.subnet).version == version for s in found) > 1:
            faults.append(f"bridge driver doesn't support multiple subnets (IPv{version})")
    if faults:
        raise InvalidInput("invalid network config:\n" + "\n".join(faults))
    return tuple(map(_usual, found))


def _check_range(text: str, parent: Net) -> Iterator[str]:
    if not text:
        return
    begin = f"invalid ip-range {text}:"
    try:
        net = ipaddress.ip_network(text, strict=False)
    except ValueError:
        yield f"{begin} invalid CIDR block notation"
        return
    if net.version != parent.version:
        yield f"{begin} parent subnet is an IPv{parent.version} block"
    elif net.prefixlen < parent.prefixlen:
        yield f"{begin} CIDR block is bigger than its parent subnet {parent}"
    elif ipaddress.ip_interface(text).ip != net.network_address:
        yield f"{begin} it should be {net}"
    elif net.network_address not in parent:
        yield f"{begin} parent subnet {parent} doesn't contain ip-range"


def _check_address(text: str, parent: Net) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "invalid address"
    if address.version != parent.version:
        return f"parent subnet is an IPv{parent.version} block"
    if address not in parent:
        return f"parent subnet {parent} doesn't contain this address"
    return ""


def _usual(subnet: Subnet) -> Subnet:
    """With a gateway, and every address spelt as ipaddress spells it."""
    net = ipaddress.ip_network(subnet.subnet)
    if net.num_addresses < 4:
        raise InvalidInput(
            f"invalid network config:\ninvalid subnet {net}: it has no place for a gateway "
            "and a container",
            hint="take a larger one, at most /30 or /126",
        )
    gateway = subnet.gateway or _first_gateway(subnet)
    return Subnet(
        str(net),
        str(ipaddress.ip_address(gateway)),
        subnet.ip_range,
        tuple((name, str(ipaddress.ip_address(a))) for name, a in subnet.reserved),
        subnet.asked,
    )


def _first_gateway(subnet: Subnet) -> str:
    taken = {ipaddress.ip_address(address) for _, address in subnet.reserved}
    pool = ipaddress.ip_network(subnet.ip_range or subnet.subnet)
    return str(next(a for a in _usable(ipaddress.ip_network(subnet.subnet), pool)
                    if a not in taken))  # fmt: skip


def check_overlap(wanted: Sequence[Subnet], others: Iterable[NetworkRecord]) -> None:
    """Refuse a range that another network, or the way out, has a part of."""
    taken = [(s.subnet, f"network {n.name} has it") for n in others for s in n.subnets]
    taken += [(text, "the engine's own way out has it") for text in WAY_OUT]
    for subnet in wanted:
        net = ipaddress.ip_network(subnet.subnet)
        for text, owner in taken:
            other = ipaddress.ip_network(text)
            if net.version == other.version and net.overlaps(other):
                raise Denied(
                    "invalid pool request: Pool overlaps with other one on this address space",
                    hint=f"{subnet.subnet} overlaps {text}, {owner}",
                )


def choose(pools: Sequence[tuple[str, int]], taken: Iterable[str], *, version: int) -> Subnet:
    """A free range from ``pools``: one that nothing in ``taken`` (networks as text) overlaps."""
    used = [n for n in map(ipaddress.ip_network, taken) if n.version == version]
    for base, length in pools:
        pool = ipaddress.ip_network(base)
        if pool.version != version:
            continue
        for net in _cut(pool, length, used):
            return _usual(Subnet(str(net), asked=False))
    raise InvalidInput(
        "could not find an available, non-overlapping "
        f"IPv{version} address pool among the defaults to assign to the network",
        hint="remove a network (rootless network prune), name a --subnet, or add to "
        "default-address-pools in daemon.json",
    )


def _cut(pool: Net, length: int, used: Sequence[Net]) -> Iterator[Net]:
    """Free networks of that prefix length in a pool; from ever so large a pool, quickly."""
    step = 1 << (pool.max_prefixlen - length)
    at, end = int(pool.network_address), int(pool.broadcast_address)
    kind: Callable[[tuple[int, int]], Net] = (
        ipaddress.IPv4Network if pool.version == 4 else ipaddress.IPv6Network
    )
    while at <= end:
        net = kind((at, length))
        other = next((n for n in used if n.overlaps(net)), None)
        if other is None:
            yield net
            at += step
        else:
            after = int(other.broadcast_address) + 1
            at = max(at + step, -(-after // step) * step)


def _usable(net: Net, pool: Net, start: int = 0) -> Iterator[Address]:
    """Addresses that somebody can have, from ``start`` on, from the lowest."""
    kind: Callable[[int], Address] = (
        ipaddress.IPv4Address if net.version == 4 else ipaddress.IPv6Address
    )
    barred = {int(net.network_address)}
    if net.version == 4:
        barred.add(int(net.broadcast_address))
    first = max(start, int(pool.network_address))
    for number in range(first, int(pool.broadcast_address) + 1):
        if number not in barred:
            yield kind(number)


def pick(network: NetworkRecord, subnet: Subnet, taken: Collection[str], after: str = "") -> str:
    """A free address, behind ``after`` if there is one, so that reuse comes late."""
    net = ipaddress.ip_network(subnet.subnet)
    pool = ipaddress.ip_network(subnet.ip_range or subnet.subnet)
    barred = {subnet.gateway, *(address for _, address in subnet.reserved), *taken}
    start = int(ipaddress.ip_address(after)) + 1 if after else 0
    for address in chain(_usable(net, pool, start), _usable(net, pool)):
        if str(address) not in barred:
            return str(address)
    raise Exhausted(
        f"no available IPv{net.version} addresses on this network's address pools: "
        f"{network.name} ({network.id})",
        hint="remove a container that is on it, or make a network with a larger subnet",
    )


def check_static(network: NetworkRecord, text: str, version: int) -> str:
    """The address a container asks for, in its usual spelling; raises moby's InvalidInput."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version or address.is_unspecified:
        raise InvalidInput(f"invalid endpoint settings:\ninvalid IPv{version} address: {text}")
    subnets = [s for s in network.subnets if ipaddress.ip_network(s.subnet).version == version]
    asked = [s for s in subnets if s.asked]
    if not asked:
        raise InvalidInput(
            "invalid endpoint settings:\nuser specified IP address is supported only when "
            "connecting to networks with user configured subnets",
            hint=f"make the network {network.name} with --subnet",
        )
    if not any(address in ipaddress.ip_network(s.subnet) for s in asked):
        raise InvalidInput(
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP "
            f"address {address}"
        )
    return str(address)


def subnet_of(network: NetworkRecord, version: int) -> Subnet | None:
    """The network's range of an address family."""
    return next(
        (s for s in network.subnets if ipaddress.ip_network(s.subnet).version == version), None
    )


def host_routes(text: str) -> tuple[str, ...]:
    """Networks of the host's from /proc/net/route (proc(5)): not hidden from containers."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[7] != "00000000":
            address, mask = (int.from_bytes(bytes.fromhex(words[i])[::-1]) for i in (1, 7))
            found.append(f"{ipaddress.IPv4Address(address)}/{mask.bit_count()}")
    return tuple(found)
