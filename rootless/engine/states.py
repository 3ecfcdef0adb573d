"""Parts of a container's record, from what its shim and its network report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rootless.model.network import BRIDGE, Endpoint
from rootless.model.records import NetworkState
from rootless.model.request import PortBinding

if TYPE_CHECKING:
    from rootless.network.driver import NetworkState as Connection
    from rootless.runtime.shim_client import ExitStatus


def denied_names(status: ExitStatus) -> tuple[tuple[str, int], ...]:
    """The denied calls by name, most frequent first."""
    if not status.denied:
        return ()
    from rootless.seccomp.names import call_name

    counts: dict[str, int] = {}
    for arch, number, count in status.denied:
        name = call_name(number, arch)
        counts[name] = counts.get(name, 0) + count
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def network_state(
    connection: Connection, endpoints: tuple[Endpoint, ...] = (), *, lost: bool = False
) -> NetworkState:
    """What inspect shows of a connection, with what the network needs to find it again.

    Of one that is ``lost`` there is nothing to show but its places on bridge
    networks, which it will have again.
    """
    import json

    from rootless.network import addresses

    driver_state = json.dumps(connection.to_json())
    ports = tuple(
        PortBinding(p.container_port, _protocol(p.protocol), p.host_ip, p.host_port)
        for p in connection.ports
    )
    if connection.mode == BRIDGE and not lost:
        return NetworkState(driver_state=driver_state, ports=ports, endpoints=endpoints)
    if connection.mode != "slirp4netns" or lost:
        return NetworkState(driver_state=driver_state, endpoints=endpoints)
    return NetworkState(
        ip_address=addresses.CONTAINER_IPV4,
        ip_prefix_length=addresses.PREFIX_LENGTH_IPV4,
        gateway=addresses.GATEWAY_IPV4,
        ipv6_address=addresses.ipv6_for(connection.mac) if connection.ipv6 else "",
        ipv6_prefix_length=addresses.PREFIX_LENGTH_IPV6 if connection.ipv6 else 0,
        ipv6_gateway=addresses.GATEWAY_IPV6 if connection.ipv6 else "",
        mac_address=connection.mac,
        ports=ports,
        driver_state=driver_state,
        endpoints=endpoints,
    )


def _protocol(name: str) -> Literal["tcp", "udp"]:
    return "udp" if name == "udp" else "tcp"
