"""``rootless network create|rm|connect|disconnect``."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, INT, LIST, MAP, STRING, Command, Invocation
from rootless.cli.createspec import joined_options, key_values, labels
from rootless.cli.each import each
from rootless.cli.flags import UsageError
from rootless.client.api import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _create(call: Invocation) -> int:
    body: dict[str, Any] = {
        "Name": call.args[0],
        "Driver": call["driver"],
        "Internal": call["internal"],
        "Attachable": call["attachable"],
        "Options": joined_options(call["opt"]),
        "Labels": labels([], call["label"]),
        "IPAM": {
            "Driver": call["ipam-driver"],
            "Options": key_values(call["ipam-opt"]),
            "Config": ranges(
                call["subnet"], call["ip-range"], call["gateway"], key_values(call["aux-address"])
            ),
        },
    }
    if call["ipv6"]:
        body["EnableIPv6"] = True
    if not call["ipv4"]:
        body["EnableIPv4"] = False
    for flag, field in (("ingress", "Ingress"), ("config-only", "ConfigOnly")):
        if call[flag]:
            body[field] = True
    if call["config-from"]:
        body["ConfigFrom"] = {"Network": call["config-from"]}
    if call["scope"]:
        body["Scope"] = call["scope"]
    answer = call.client.post("/networks/create", body)
    if answer.get("Warning"):
        sys.stderr.write(f"WARNING: {answer['Warning']}\n")
    sys.stdout.write(answer["Id"] + "\n")
    return 0


def ranges(
    subnets: list[str], parts: list[str], gateways: list[str], others: dict[str, str]
) -> list[dict[str, Any]]:
    """``IPAM.Config``: each range, gateway and address in the first subnet that it is in."""
    from ipaddress import ip_address, ip_network

    found: list[dict[str, Any]] = [{"Subnet": text} for text in subnets]
    try:
        nets = [ip_network(text, strict=False) for text in subnets]
        named = [("IPRange", "", text, ip_network(text, strict=False)[0]) for text in parts]
        named += [("Gateway", "", text, ip_address(text)) for text in gateways]
        named += [("AuxiliaryAddresses", k, text, ip_address(text)) for k, text in others.items()]
    except ValueError as error:
        raise UsageError(str(error)) from None
    for field, name, text, address in named:
        index = next((i for i, net in enumerate(nets) if address in net), None)
        if index is None:
            raise UsageError(f"no matching subnet for {text}", hint="give a --subnet that has it")
        if name:
            found[index].setdefault(field, {})[name] = text
        elif field in found[index]:
            raise UsageError(f"there is more than one {field} for subnet {subnets[index]}")
        else:
            found[index][field] = text
    return found


def _rm(call: Invocation) -> int:
    def remove(name: str) -> None:
        call.client.delete(f"/networks/{quote(name)}")

    return each(call.args, remove, forgive=404 if call["force"] else 0)


def _connect(call: Invocation) -> int:
    network, container = call.args
    endpoint: dict[str, Any] = {}
    ipam = {
        field: call[flag]
        for field, flag in (
            ("IPv4Address", "ip"),
            ("IPv6Address", "ip6"),
            ("LinkLocalIPs", "link-local-ip"),
        )
        if call[flag]
    }
    if ipam:
        endpoint["IPAMConfig"] = ipam
    for field, flag in (("Aliases", "alias"), ("Links", "link"), ("GwPriority", "gw-priority")):
        if call[flag]:
            endpoint[field] = call[flag]
    if call["driver-opt"]:
        endpoint["DriverOpts"] = joined_options(call["driver-opt"])
    body = {"Container": container, "EndpointConfig": endpoint}
    call.client.post(f"/networks/{quote(network)}/connect", body)
    return 0


def _disconnect(call: Invocation) -> int:
    network, container = call.args
    body = {"Container": container, "Force": bool(call["force"])}
    call.client.post(f"/networks/{quote(network)}/disconnect", body)
    return 0


CREATE = Command(
    _create,
    usage="network create [OPTIONS] NETWORK",
    summary="Create a network",
    description="""
A bridge of its own: containers on it reach one another by name, and nobody else's.
They leave through one slirp4netns for all, unless the network is --internal. Without
--subnet a free range is chosen (default-address-pools of daemon.json).
Options: com.docker.network.bridge.enable_icc=false keeps its containers apart,
com.docker.network.driver.mtu=BYTES, egress=LIST is where its containers may connect to
beyond the network, and nowhere else: DESTINATION[:PORTS][/PROTOCOL] several times or
between ';', the destination an address, a range, a name or *.DOMAIN; egress=none: nowhere.
""",
    flags=(
        ("attachable", "", BOOL, False, "Shown by inspect; it is for swarms"),
        ("aux-address", "", MAP, None, "An address in use by something else: NAME=ADDRESS"),
        ("config-from", "", STRING, "", "Network to copy the configuration from (refused)"),
        ("config-only", "", BOOL, False, "A configuration without a network (refused)"),
        ("driver", "d", STRING, "bridge", "Driver of the network (only bridge)"),
        ("gateway", "", LIST, None, "The bridge's own address (default the first of the subnet)"),
        ("ingress", "", BOOL, False, "A swarm's routing mesh (refused)"),
        ("internal", "", BOOL, False, "No way out, and no names of the world"),
        ("ip-range", "", LIST, None, "Part of the subnet that containers get addresses from"),
        ("ipam-driver", "", STRING, "default", "Who chooses addresses (only default)"),
        ("ipam-opt", "", MAP, None, "Options of that, shown by inspect"),
        ("ipv4", "", BOOL, True, "IPv4 on the network"),
        ("ipv6", "", BOOL, False, "IPv6 on the network"),
        ("label", "", LIST, None, "Set metadata: NAME[=VALUE]"),
        ("opt", "o", MAP, None, "Option of the driver"),
        ("scope", "", STRING, "", "Only local"),
        ("subnet", "", LIST, None, "Range of addresses, one of each family: 10.20.0.0/24"),
    ),
    min_args=1,
    max_args=1,
    examples="""
rootless network create backend
rootless network create --internal --subnet 10.20.0.0/24 db
rootless network create -o egress=pypi.org:443 -o 'egress=*.pythonhosted.org:443' ci
""",
)
RM = Command(
    _rm,
    usage="network rm [OPTIONS] NETWORK [NETWORK...]",
    summary="Remove one or more networks that no container is on",
    aliases="network rm, network remove",
    flags=(("force", "f", BOOL, False, "A network that is not there is no failure"),),
    min_args=1,
    max_args=None,
    examples="rootless network rm backend",
)
CONNECT = Command(
    _connect,
    usage="network connect [OPTIONS] NETWORK CONTAINER",
    summary="Connect a container to a network",
    description="At once when it runs, and with each of its starts.",
    flags=(
        ("alias", "", LIST, None, "Another name of the container on the network"),
        (
            "driver-opt",
            "",
            MAP,
            None,
            "Option of the driver: egress=LIST (see network create)",
        ),
        ("gw-priority", "", INT, 0, "The highest one's gateway is the way out"),
        ("ip", "", STRING, "", "IPv4 address on a network made with --subnet"),
        ("ip6", "", STRING, "", "IPv6 address on a network made with --subnet"),
        ("link", "", LIST, None, "Another name for a container on the network: NAME[:ALIAS]"),
        ("link-local-ip", "", LIST, None, "Link-local address (refused)"),
    ),
    min_args=2,
    max_args=2,
    examples="rootless network connect --alias db backend postgres",
)
DISCONNECT = Command(
    _disconnect,
    usage="network disconnect [OPTIONS] NETWORK CONTAINER",
    summary="Disconnect a container from a network",
    flags=(("force", "f", BOOL, False, "No error when it is not on the network"),),
    min_args=2,
    max_args=2,
    examples="rootless network disconnect backend postgres",
)
