"""Which networks of the user's a container is to be on, and what it asks for there (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from rootless import ids
from rootless.engine import ipam, links
from rootless.engine.resolve_egress import list_of
from rootless.engine.resolve_network import (
    UNNAMED,
    Lookup,
    check_endpoint,
    check_mac,
    check_options,
    plain,
)
from rootless.engine.settings import EngineSettings
from rootless.errors import InvalidInput, NotFound
from rootless.model.network import BRIDGE, Attachment, NetworkRecord
from rootless.model.request import EndpointRequest, HostConfig
from rootless.network.predefined import BRIDGE_ID, PREDEFINED

Networks = Callable[[str], NetworkRecord]
"""A bridge network by id, prefix or name; NotFound."""

OWN = ("private", "slirp4netns")
"""Names of the network that is one slirp4netns of the container's own."""

_ALIAS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")

MOST = 64
"""Networks of a container; aliases and links on each."""


def is_bridge(name: str, settings: EngineSettings) -> bool:
    """True for a name that means a bridge network."""
    name = plain(name, settings)
    return name not in PREDEFINED and not name.startswith("container:")


def find_attachments(
    host: HostConfig,
    endpoints: Sequence[EndpointRequest],
    settings: EngineSettings,
    networks: Networks,
    lookup: Lookup,
) -> tuple[Attachment, ...]:
    """The networks by mode and ``EndpointsConfig``, that of the mode first, each once.

    A client that names networks and leaves the mode out means those networks alone.
    """
    found: dict[str, Attachment] = {}
    asked = [
        replace(e, network=plain(e.network, settings))
        for e in endpoints
        if is_bridge(e.network, settings)
    ]
    named = host.network_mode not in UNNAMED
    if is_bridge(host.network_mode, settings) and (named or not endpoints):
        name = plain(host.network_mode, settings)
        first = _network(name, networks)
        again = [e for e in asked if _same(e.network, first, networks)]
        asked = [*(again[:1] or [EndpointRequest(name)]), *asked]
    for endpoint in asked:
        record = _network(endpoint.network, networks)
        linked = (*endpoint.links, *host.links)
        found.setdefault(record.id, attachment(record, endpoint, lookup, linked))
    if len(found) > MOST:
        raise InvalidInput(f"a container is on at most {MOST} networks")
    return tuple(found.values())


def _same(ref: str, record: NetworkRecord, networks: Networks) -> bool:
    return _network(ref, networks).id == record.id


def _network(ref: str, networks: Networks) -> NetworkRecord:
    try:
        return networks(ref)
    except NotFound as error:
        # Clients take a 404 of a create for a missing image.
        raise InvalidInput(error.message, hint=error.hint) from None


def attachment(
    record: NetworkRecord, asked: EndpointRequest, lookup: Lookup, linked: Sequence[str] = ()
) -> Attachment:
    """What is asked of one network, checked; raises moby's InvalidInput."""
    if asked.link_local_ips:
        raise InvalidInput(
            "link-local addresses are not supported", hint="leave out --link-local-ip"
        )
    for what, given in (("aliases", asked.aliases), ("links", linked)):
        if len(given) > MOST:
            raise InvalidInput(f"a container has at most {MOST} {what} on network {record.name}")
    for alias in asked.aliases:
        if not _ALIAS.fullmatch(alias):
            raise InvalidInput(f"invalid network alias: {alias[:80]!r}")
    check_mac(asked.mac_address)
    check_options(asked)
    if record.id == BRIDGE_ID:
        check_endpoint(asked)
    four, six = asked.ipv4_address, asked.ipv6_address
    return Attachment(
        network_id=record.id,
        network=record.name,
        aliases=tuple(dict.fromkeys(asked.aliases)),
        ipv4_address=ipam.check_static(record, four, 4) if four else "",
        ipv6_address=ipam.check_static(record, six, 6) if six else "",
        mac_address=asked.mac_address,
        gateway_priority=asked.gateway_priority,
        links=tuple(_link(text, lookup, own=record.id != BRIDGE_ID) for text in linked),
        driver_opts=asked.driver_opts,
        outward=not record.internal,
        network_egress=list_of(record.options),
        egress=list_of(asked.driver_opts),
    )


def _link(text: str, lookup: Lookup, *, own: bool) -> tuple[str, str]:
    """``NAME[:ALIAS]`` as the alias and a name that the other container always has.

    On a network of the user's own it may be one that is not there yet, as in Docker: it is
    meant by the name that it will have.
    """
    name, alias = links.parse(text)
    try:
        target = ids.short_id(lookup(name).id)
    except NotFound:
        target = name.lower() if own else ids.short_id(links.linked(name, lookup).id)
    if not (_ALIAS.fullmatch(alias) and _ALIAS.fullmatch(target)):
        raise InvalidInput(f"invalid link: {text[:80]!r}")
    return alias.lower(), target


def final_mode(
    mode: str,
    host: HostConfig,
    endpoints: Sequence[EndpointRequest],
    attachments: Sequence[Attachment],
) -> str:
    """The mode with what ``EndpointsConfig`` makes of it: bridge, or a slirp4netns besides."""
    named = host.network_mode not in UNNAMED
    if attachments and named and (mode in ("none", "host") or mode.startswith("container:")):
        raise InvalidInput(
            f"conflicting options: network mode {mode} and network {attachments[0].network}"
        )
    if any(name in OWN for name in (host.network_mode, *(e.network for e in endpoints))):
        return "slirp4netns"
    return BRIDGE if attachments else mode
