"""Networks: the predefined ones, and how a container hangs on one."""

from __future__ import annotations

from collections.abc import Iterable

from rootless.model.records import NetworkState
from rootless.model.request import EndpointRequest
from rootless.network.predefined import PREDEFINED, network_id


def network(name: str, driver: str) -> dict[str, object]:
    """One predefined network."""
    config = [{"Subnet": "10.0.2.0/24", "Gateway": "10.0.2.2"}] if driver == "slirp4netns" else []
    return {
        "Name": name,
        "Id": network_id(name),
        "Created": "0001-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": driver == "slirp4netns",
        "IPAM": {"Driver": "default", "Options": None, "Config": config},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


def endpoint(
    name: str, state: NetworkState, container_id: str, asked: Iterable[EndpointRequest] = ()
) -> dict[str, object]:
    """``EndpointSettings`` of a container."""
    aliases = [alias for found in asked if found.network == name for alias in found.aliases]
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": aliases or None,
        "MacAddress": state.mac_address,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": network_id(name) if name in PREDEFINED else "",
        "EndpointID": container_id if state.ip_address else "",
        "Gateway": state.gateway,
        "IPAddress": state.ip_address,
        "IPPrefixLen": state.ip_prefix_length,
        "IPv6Gateway": state.ipv6_gateway,
        "GlobalIPv6Address": state.ipv6_address,
        "GlobalIPv6PrefixLen": state.ipv6_prefix_length,
        "DNSNames": None,
    }
