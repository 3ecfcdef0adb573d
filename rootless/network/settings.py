"""``NetworkSettings`` of an inspected container, in the Engine API's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rootless.network import addresses
from rootless.network.ports import PublishedPort


def port_map(
    ports: Sequence[PublishedPort], exposed: Sequence[str] = ()
) -> dict[str, list[dict[str, str]] | None]:
    """``{"80/tcp": [{"HostIp": …, "HostPort": …}]}``; None for a port that is only exposed."""
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(exposed)
    for port in ports:
        key = f"{port.container_port}/{port.protocol}"
        bindings = found.get(key) or []
        bindings.append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
        found[key] = bindings
    return found


def network_settings(
    mode: str,
    *,
    container_id: str = "",
    running: bool,
    ports: Sequence[PublishedPort] = (),
    exposed: Sequence[str] = (),
    mac: str = "",
    ipv6: bool = True,
    dns_names: Sequence[str] = (),
) -> dict[str, Any]:
    """The object for inspect.

    ``mode`` is a NetworkSpec's. Addresses are those of a running slirp4netns
    container; in every other mode or state they are empty. A container that
    shares another's namespace shows no ports (Docker does the same).
    """
    attached = running and mode == "slirp4netns"
    endpoint = _endpoint(attached=attached, container_id=container_id, mac=mac, ipv6=ipv6)
    networks: dict[str, Any] = {}
    if not mode.startswith("container:"):
        networks[mode] = {
            "IPAMConfig": None,
            "Links": None,
            "Aliases": None,
            "DriverOpts": None,
            "NetworkID": mode,
            "GwPriority": 0,
            "DNSNames": list(dns_names) or None,
            **endpoint,
        }
    return {
        "Bridge": "",
        "SandboxID": container_id if running else "",
        "SandboxKey": "",
        "Ports": port_map(ports if attached else (), exposed if attached else ()),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **endpoint,
        "Networks": networks,
    }


def _endpoint(*, attached: bool, container_id: str, mac: str, ipv6: bool) -> dict[str, Any]:
    six = attached and ipv6 and bool(mac)
    return {
        "EndpointID": container_id if attached else "",
        "Gateway": addresses.GATEWAY_IPV4 if attached else "",
        "IPAddress": addresses.CONTAINER_IPV4 if attached else "",
        "IPPrefixLen": addresses.PREFIX_LENGTH_IPV4 if attached else 0,
        "IPv6Gateway": addresses.GATEWAY_IPV6 if six else "",
        "GlobalIPv6Address": addresses.ipv6_for(mac) if six else "",
        "GlobalIPv6PrefixLen": addresses.PREFIX_LENGTH_IPV6 if six else 0,
        "MacAddress": mac if attached else "",
    }
