"""Networks by mode and ``EndpointsConfig``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rootless.engine.resolve_attachments import final_mode, find_attachments
from rootless.engine.resolve_network import network_mode
from rootless.engine.settings import EngineSettings
from rootless.errors import InvalidInput, NotFound
from rootless.model.network import ICC, NetworkRecord, Subnet
from rootless.model.records import ContainerRecord
from rootless.model.request import ContainerConfig, EndpointRequest, HostConfig
from rootless.network.predefined import BRIDGE_ID

from .samples import record

FRONT = NetworkRecord("f" * 64, "front", 1, (Subnet("10.1.0.0/24", "10.1.0.1"),))
BACK = NetworkRecord("b" * 64, "back", 2, (Subnet("10.2.0.0/24", "10.2.0.1", asked=False),))
DEFAULT = NetworkRecord(
    BRIDGE_ID, "bridge", 3, (Subnet("172.17.0.0/16", "172.17.0.1"),), options=((ICC, "false"),)
)
OTHER = record("other")


def networks(ref: str) -> NetworkRecord:
    for network in (FRONT, BACK, DEFAULT):
        if ref == network.name or network.id.startswith(ref):
            return network
    raise NotFound(f"network {ref} not found")


def lookup(ref: str) -> ContainerRecord:
    if ref == "other":
        return OTHER
    raise NotFound(f"No such container: {ref}")


def resolved(
    mode: str, *endpoints: EndpointRequest, default: str = "bridge", **host: Any
) -> tuple[str, list[str]]:
    config = HostConfig(network_mode=mode, **host)
    settings = EngineSettings(Path("/d"), Path("/r"), default_network=default)
    found = find_attachments(config, endpoints, settings, networks, lookup)
    kind = network_mode(config, ContainerConfig(), settings, lookup)
    return final_mode(kind, config, endpoints, found), [a.network for a in found]


@pytest.mark.parametrize(
    ("mode", "named", "expected"),
    [
        ("", (), ("bridge", ["bridge"])),
        ("default", ("default",), ("bridge", ["bridge"])),
        ("bridge", ("bridge",), ("bridge", ["bridge"])),
        ("front", (), ("bridge", ["front"])),
        ("fff", ("front",), ("bridge", ["front"])),
        ("front", ("back", "front"), ("bridge", ["front", "back"])),
        # A client that leaves the mode out means the networks it names.
        ("", ("back",), ("bridge", ["back"])),
        ("default", ("front", "back"), ("bridge", ["front", "back"])),
        ("", ("slirp4netns",), ("slirp4netns", [])),
        ("bridge", ("front",), ("bridge", ["bridge", "front"])),
        ("front", ("bridge",), ("bridge", ["front", "bridge"])),
        # One of the container's own is had besides.
        ("slirp4netns", ("front",), ("slirp4netns", ["front"])),
        ("private", (), ("slirp4netns", [])),
        ("front", ("slirp4netns",), ("slirp4netns", ["front"])),
        ("none", (), ("none", [])),
    ],
)
def test_which_networks(mode: str, named: tuple[str, ...], expected: tuple[str, list[str]]) -> None:
    assert resolved(mode, *map(EndpointRequest, named)) == expected


@pytest.mark.parametrize(
    ("mode", "named", "expected"),
    [
        ("", (), ("slirp4netns", [])),
        ("", ("front",), ("bridge", ["front"])),
        ("front", ("default",), ("bridge", ["front"])),
        ("bridge", (), ("bridge", ["bridge"])),
    ],
)
def test_where_slirp4netns_is_the_default(
    mode: str, named: tuple[str, ...], expected: tuple[str, list[str]]
) -> None:
    assert resolved(mode, *map(EndpointRequest, named), default="slirp4netns") == expected


def test_what_the_default_bridge_cannot_keep() -> None:
    for asked in ({"aliases": ("db",)}, {"ipv4_address": "172.17.0.9"}):
        with pytest.raises(InvalidInput, match=r"user.defined"):
            resolved("", EndpointRequest("default", **asked))  # keywords of any field
    with pytest.raises(InvalidInput, match="could not get container for nobody"):
        resolved("", links=("nobody",))


def test_what_is_asked_of_a_network() -> None:
    asked = EndpointRequest("front", aliases=("db", "db"), ipv4_address="10.1.0.9",
                            links=("other:shop",), gateway_priority=4)  # fmt: skip
    found = find_attachments(
        HostConfig(network_mode="front"), [asked], EngineSettings(Path("/d"), Path("/r")),
        networks, lookup,
    )  # fmt: skip
    assert len(found) == 1
    assert (found[0].aliases, found[0].ipv4_address) == (("db",), "10.1.0.9")
    assert found[0].links == (("shop", OTHER.id[:12]),)
    assert found[0].gateway_priority == 4


def test_a_link_to_what_is_not_there_yet() -> None:
    settings = EngineSettings(Path("/d"), Path("/r"))
    asked = EndpointRequest("front", links=("/Later:shop", "soon"))
    found = find_attachments(HostConfig(network_mode="front"), [asked], settings, networks, lookup)
    assert found[0].links == (("shop", "later"), ("soon", "soon"))


@pytest.mark.parametrize(
    ("mode", "asked", "said"),
    [
        ("nowhere", {}, "network nowhere not found"),
        ("none", {}, "conflicting options"),
        ("host", {}, "conflicting options"),
        ("front", {"aliases": ("a b",)}, "invalid network alias"),
        ("front", {"mac_address": "x"}, "invalid MAC address"),
        ("front", {"link_local_ips": ("169.254.0.1",)}, "link-local"),
        ("front", {"ipv4_address": "10.9.0.1"}, "no configured subnet"),
        ("front", {"links": ("a b:c",)}, "invalid link"),
        ("front", {"links": (":x",)}, "bad format for links"),
        ("front", {"driver_opts": (("com.docker.network.endpoint.ifname", "e"),)}, "ifname"),
    ],
)
def test_what_cannot_be(mode: str, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        resolved(mode, EndpointRequest("front", **asked))
