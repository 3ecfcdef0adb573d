"""Networks, and how a container hangs on them."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

from typing import Annotated

from rootless.api.dto.decode import Body
from rootless.api.dto.endpoint import EndpointBody
from rootless.api.dto.times import rfc3339
from rootless.api.fields import limited, refused
from rootless.model import egress
from rootless.model.network import BRIDGE, EGRESS, Attachment, Denial, Endpoint, NetworkRecord
from rootless.model.records import ContainerRecord, NetworkView
from rootless.model.request import NetworkCreation, SubnetRequest
from rootless.network.predefined import BRIDGE_ID, PREDEFINED, network_id

_SWARM = "this engine is in no swarm"


class Range(Body, frozen=True):
    """One of ``IPAM.Config``."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}


class Ipam(Body, frozen=True):
    """``IPAM``."""

    driver: Annotated[str, limited("default")] = ""
    config: list[Range] = []
    options: dict[str, str] = {}


class ConfigFrom(Body, frozen=True):
    """``ConfigFrom``."""

    network: str = ""


class NetworkBody(Body, frozen=True):
    """The body of ``POST /networks/create``."""

    name: str = ""
    driver: Annotated[str, limited("bridge")] = BRIDGE
    scope: Annotated[str, limited("local")] = ""
    internal: bool = False
    attachable: Annotated[bool, limited("shown by inspect; it is for swarms")] = False
    ingress: Annotated[bool, refused(_SWARM)] = False
    config_only: Annotated[bool, refused("networks without a bridge are not supported")] = False
    config_from: Annotated[
        ConfigFrom | None, refused("networks without a bridge are not supported")
    ] = None
    ipam: Ipam | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    options: Annotated[
        dict[str, str],
        limited("com.docker.network.bridge.enable_icc, com.docker.network.driver.mtu and egress"),
    ] = {}
    labels: dict[str, str] = {}
    check_duplicate: Annotated[bool, limited("names are unique, always")] = False


class ConnectBody(Body, frozen=True):
    """The body of ``POST /networks/{id}/connect``."""

    container: str = ""
    endpoint_config: EndpointBody | None = None


class DisconnectBody(Body, frozen=True):
    """The body of ``POST /networks/{id}/disconnect``."""

    container: str = ""
    force: Annotated[bool, limited("a container that is on a network can always be taken off")] = (
        False
    )


def to_creation(body: NetworkBody) -> NetworkCreation:
    """One request for a network."""
    ipam = body.ipam or Ipam()
    return NetworkCreation(
        name=body.name,
        driver=body.driver or BRIDGE,
        subnets=tuple(
            SubnetRequest(
                one.subnet, one.ip_range, one.gateway, tuple(one.auxiliary_addresses.items())
            )
            for one in ipam.config
        ),
        ipam_driver=ipam.driver,
        ipam_options=tuple(ipam.options.items()),
        ipv4=body.enable_ipv4,
        ipv6=body.enable_ipv6,
        internal=body.internal,
        attachable=body.attachable,
        options=tuple(body.options.items()),
        labels=tuple(body.labels.items()),
    )


def network(view: NetworkView) -> dict[str, object]:
    """One network; ``Containers`` is empty in a list."""
    record = view.record
    return {
        "Name": record.name,
        "Id": record.id,
        "Created": rfc3339(record.created_ns),
        "Scope": "local",
        "Driver": record.driver,
        "EnableIPv4": record.ipv4,
        "EnableIPv6": record.ipv6,
        "IPAM": _ipam(record),
        "Internal": record.internal,
        "Attachable": record.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container_id: {
                "Name": name,
                "EndpointID": found.id,
                "MacAddress": found.mac_address,
                "IPv4Address": _with_prefix(found.ipv4_address, found.ipv4_prefix),
                "IPv6Address": _with_prefix(found.ipv6_address, found.ipv6_prefix),
            }
            for container_id, name, found in view.containers
        },
        "Options": dict(record.options),
        "Labels": dict(record.labels),
    }


def _ipam(record: NetworkRecord) -> dict[str, object]:
    config = []
    for subnet in record.subnets:
        one: dict[str, object] = {"Subnet": subnet.subnet}
        if subnet.ip_range:
            one["IPRange"] = subnet.ip_range
        if subnet.gateway:
            one["Gateway"] = subnet.gateway
        if subnet.reserved:
            one["AuxiliaryAddresses"] = dict(subnet.reserved)
        config.append(one)
    return {
        "Driver": "default",
        "Options": dict(record.ipam_options) or None,
        "Config": config,
    }


def _with_prefix(address: str, length: int) -> str:
    return f"{address}/{length}" if address else ""


def default_place(record: ContainerRecord) -> Endpoint:
    """The place that ``NetworkSettings`` itself shows: on the default bridge, as in Docker.

    Or, without one, on a slirp4netns of the container's own.
    """
    for endpoint in record.network.endpoints:
        if endpoint.network_id == BRIDGE_ID:
            return endpoint
    return record.network.own_endpoint("", "", "")


def container_networks(record: ContainerRecord) -> dict[str, object]:
    """``NetworkSettings.Networks``."""
    mode = record.spec.network.mode
    found: dict[str, object] = {}
    if mode in PREDEFINED:
        found[mode] = _own(record)
    places = {endpoint.network_id: endpoint for endpoint in record.network.endpoints}
    for one in record.spec.network.attachments:
        found[one.network] = _on_bridge(one, places.get(one.network_id))
    return found


def _own(record: ContainerRecord) -> dict[str, object]:
    """``EndpointSettings`` of a container on a predefined network."""
    mode, state = record.spec.network.mode, record.network
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": state.mac_address,
        "DriverOpts": _options(record.spec.network.egress),
        "GwPriority": 0,
        "NetworkID": network_id(mode),
        "EndpointID": record.id if state.ip_address else "",
        "Gateway": state.gateway,
        "IPAddress": state.ip_address,
        "IPPrefixLen": state.ip_prefix_length,
        "IPv6Gateway": state.ipv6_gateway,
        "GlobalIPv6Address": state.ipv6_address,
        "GlobalIPv6PrefixLen": state.ipv6_prefix_length,
        "DNSNames": None,
    }


def _options(found: tuple[str, ...] | None) -> dict[str, str] | None:
    return None if found is None else {EGRESS: egress.show(found)}


def _on_bridge(asked: Attachment, found: Endpoint | None) -> dict[str, object]:
    """``EndpointSettings`` on a bridge; without an endpoint the container does not run."""
    place = found or Endpoint(asked.network_id, asked.network, "", "", "")
    own = asked.network_id != BRIDGE_ID
    ipam = {
        name: value
        for name, value in (
            ("IPv4Address", asked.ipv4_address),
            ("IPv6Address", asked.ipv6_address),
        )
        if value
    }
    return {
        "IPAMConfig": ipam if ipam else None,
        # Those on the default bridge are in HostConfig.
        "Links": [f"{name}:{alias}" for alias, name in asked.links if own] or None,
        "Aliases": list(asked.aliases) or None,
        "MacAddress": place.mac_address or asked.mac_address,
        "DriverOpts": dict(asked.driver_opts) or None,
        "GwPriority": asked.gateway_priority,
        "NetworkID": asked.network_id,
        "EndpointID": place.id,
        "Gateway": place.ipv4_gateway,
        "IPAddress": place.ipv4_address,
        "IPPrefixLen": place.ipv4_prefix,
        "IPv6Gateway": place.ipv6_gateway,
        "GlobalIPv6Address": place.ipv6_address,
        "GlobalIPv6PrefixLen": place.ipv6_prefix,
        "DNSNames": (list(place.names) if own else []) or None,
    }


def denial(row: Denial) -> dict[str, object]:
    """A row of ``GET /rootless/denied``."""
    return {
        "ContainerID": row.container,
        "Container": row.name,
        "Network": row.network,
        "Reason": row.reason,
        "Protocol": row.protocol,
        "Destination": row.destination,
        "Port": row.port,
        "Target": row.target,
        "Count": row.count,
        "First": rfc3339(row.first_ns),
        "Last": rfc3339(row.last_ns),
    }
