"""The bridge of containers that name no network: from daemon.json, and what is free (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from rootless.engine import ipam
from rootless.engine.settings import EngineSettings
from rootless.errors import InvalidInput
from rootless.model.network import ICC, MASQUERADE, MTU, NetworkRecord, Subnet
from rootless.model.pools import DefaultBridge
from rootless.network.predefined import BRIDGE_ID

NAME = "bridge"
FIRST = ("172.17.0.0/16", 16)
"""Docker's range for it; the pools follow."""


def describe(
    settings: EngineSettings,
    before: NetworkRecord | None,
    others: Iterable[NetworkRecord],
    routes: Sequence[str],
    *,
    created_ns: int,
) -> NetworkRecord:
    """What it is to be; ``before`` keeps its ranges while nothing overlaps them.

    ``routes`` are networks of the host's. InvalidInput when no range is free.
    """
    wanted = settings.default_bridge
    taken = [subnet.subnet for network in others for subnet in network.subnets]
    taken += ipam.WAY_OUT
    subnets = []
    for version in (4, 6) if settings.ipv6 else (4,):
        found = asked(wanted, version) or (
            before and _kept(before, version, [*taken, *routes] if version == 4 else taken)
        )
        pools = ipam.pools(settings.address_pools, str(settings.data_root))
        if version == 4 and not settings.address_pools:
            pools.insert(0, FIRST)
        subnets.append(found or ipam.choose(pools, [*taken, *routes], version=version))
    ipam.check_overlap([subnet for subnet in subnets if subnet.asked], others)
    return NetworkRecord(
        id=BRIDGE_ID,
        name=NAME,
        created_ns=before.created_ns if before else created_ns,
        subnets=tuple(subnets),
        ipv6=settings.ipv6,
        options=(
            ("com.docker.network.bridge.default_bridge", "true"),
            (ICC, str(wanted.icc).lower()),
            (MASQUERADE, "true"),
            ("com.docker.network.bridge.host_binding_ipv4", settings.publish_address),
            (MTU, str(settings.mtu)),
        ),
    )


def asked(wanted: DefaultBridge, version: int) -> Subnet | None:
    """The range that daemon.json names; InvalidInput for one that cannot be.

    Without ``bip`` it is ``fixed-cidr`` itself, as in Docker.
    """
    own, cidr, gateway = wanted.of(version)
    key = "" if version == 4 else "6"
    if not (own or cidr):
        if gateway:
            raise InvalidInput(f"default-gateway needs bip{key}", hint=f"give bip{key} as well")
        return None
    interface = ipaddress.ip_interface(own or cidr)
    net = interface.network
    if own and interface.ip in (net.network_address, net.broadcast_address):
        raise InvalidInput(f"bip{key} {own} is no address of a host", hint=f"say {net[1]}/…")
    mine = str(interface.ip) if own else str(net[1])
    for name, text in (("fixed-cidr", cidr), ("default-gateway", gateway)):
        if text and not ipaddress.ip_interface(text).network.subnet_of(net):  # type: ignore[arg-type]  # of one family: daemon/checks.py
            raise InvalidInput(f"{name} {text} is not within bip{key} {own or cidr}")
    reserved = (("bip", mine),) if gateway and gateway != mine else ()
    return Subnet(str(net), gateway or mine, cidr if cidr != str(net) else "", reserved)


def _kept(before: NetworkRecord, version: int, taken: Sequence[str]) -> Subnet | None:
    found = ipam.subnet_of(before, version)
    if found is None or found.asked:
        return None
    net = ipaddress.ip_network(found.subnet)
    others = (n for n in map(ipaddress.ip_network, taken) if n.version == version)
    return None if any(net.overlaps(other) for other in others) else found
