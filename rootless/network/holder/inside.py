"""What a container's own network namespace is given: interfaces, routes, the resolver's sockets.

The caller is in there.
"""

from __future__ import annotations

import contextlib
import socket

from rootless.model.network import Endpoint
from rootless.network.addresses import RESOLVER
from rootless.network.holder.links import Netlink, set_sysctl


def listen() -> tuple[socket.socket, socket.socket]:
    """The resolver's sockets: datagrams, connections."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        connections = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            datagrams.bind((RESOLVER, 0))
            connections.bind((RESOLVER, 0))
            connections.listen(16)
        except BaseException:
            connections.close()
            raise
    except BaseException:
        datagrams.close()
        raise
    return datagrams, connections


def configure(route: Netlink, endpoint: Endpoint) -> None:
    """The container's end of the pair: addresses, up, routes."""
    name = endpoint.interface
    if not endpoint.ipv6_address:
        with contextlib.suppress(OSError):  # no IPv6; the rules let none pass anyway
            set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
    for address, prefix in (
        (endpoint.ipv4_address, endpoint.ipv4_prefix),
        (endpoint.ipv6_address, endpoint.ipv6_prefix),
    ):
        if address:
            route.add_address(name, address, prefix)
    route.set_up(name)
    add_routes(route, endpoint)


def add_routes(route: Netlink, endpoint: Endpoint) -> None:
    if endpoint.default_ipv4 and endpoint.ipv4_gateway:
        route.add_default(endpoint.interface, endpoint.ipv4_gateway)
    if endpoint.default_ipv6 and endpoint.ipv6_gateway:
        route.add_default(endpoint.interface, endpoint.ipv6_gateway)
