"""``EndpointSettings`` as clients send them."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

from typing import Annotated

from rootless.api.dto.decode import Body
from rootless.api.fields import ignored, limited, refused
from rootless.model.request import EndpointRequest


class IpamConfig(Body, frozen=True):
    """Addresses an endpoint asks for."""

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: Annotated[list[str], refused("link-local addresses are not supported")] = []


_ANSWER = ignored("it is what answers tell, not what is asked for", beside="IPAMConfig")
"""Compose repeats an address of ``IPAMConfig`` in such fields."""


class EndpointBody(Body, frozen=True):
    """One of ``EndpointsConfig``, or ``EndpointConfig``."""

    ipam_config: IpamConfig | None = None
    links: Annotated[list[str], limited("on bridge networks")] = []
    aliases: Annotated[list[str], limited("on networks of the user's")] = []
    mac_address: str = ""
    driver_opts: Annotated[
        dict[str, str],
        limited(
            "egress: where the container may connect to; others are kept and shown, "
            "com.docker.network.… is refused"
        ),
    ] = {}
    gw_priority: int = 0
    network_id: Annotated[str, _ANSWER] = ""
    endpoint_id: Annotated[str, _ANSWER] = ""
    gateway: Annotated[str, _ANSWER] = ""
    ip_address: Annotated[str, _ANSWER] = ""
    ip_prefix_len: Annotated[int, _ANSWER] = 0
    ipv6_gateway: Annotated[str, _ANSWER] = ""
    global_ipv6_address: Annotated[str, _ANSWER] = ""
    global_ipv6_prefix_len: Annotated[int, _ANSWER] = 0
    dns_names: Annotated[list[str], _ANSWER] = []


def to_endpoint(body: EndpointBody | None, network: str, mac_address: str = "") -> EndpointRequest:
    """What is asked of one network; ``mac_address`` where it names none itself."""
    found = body or EndpointBody()
    ipam = found.ipam_config or IpamConfig()
    return EndpointRequest(
        network=network,
        aliases=tuple(found.aliases),
        links=tuple(found.links),
        ipv4_address=ipam.ipv4_address,
        ipv6_address=ipam.ipv6_address,
        link_local_ips=tuple(ipam.link_local_ips),
        mac_address=found.mac_address or mac_address,
        driver_opts=tuple(found.driver_opts.items()),
        gateway_priority=found.gw_priority,
    )
