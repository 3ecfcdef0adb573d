"""Which networks of the user's a container is to be on, and what it asks for there (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rootless import ids
from rootless.engine import ipam, links
from rootless.engine.resolve_network import Lookup, check_mac
from rootless.errors import InvalidInput, NotFound
from rootless.model.network import BRIDGE, Attachment, NetworkRecord
from rootless.model.request import EndpointRequest, HostConfig
from rootless.network.predefined import PREDEFINED

Networks = Callable[[str], NetworkRecord]
"""A user's network by id, prefix or name; NotFound."""

DEFAULTS = ("", "default")
OWN = ("bridge", "private", "slirp4netns")
"""Names of the network that is one slirp4netns of the container's own."""

_ALIAS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")


def is_users(name: str) -> bool:
    """True for a name that only a network of the user's can have."""
    return name not in (*DEFAULTS, *OWN, *PREDEFINED) and not name.startswith("container:")


MOST = 64
"""Networks of a container; aliases and links on each."""


def find_attachments(
    host: HostConfig, endpoints: Sequence[EndpointRequest], networks: Networks, lookup: Lookup
) -> tuple[Attachment, ...]:
    """The networks by mode and ``EndpointsConfig``, that of the mode first, each once."""
    found: dict[str, Attachment] = {}
    asked = list(endpoints)
    if is_users(host.network_mode):
        first = _network(host.network_mode, networks)
        named = [e for e in asked if is_users(e.network) and _same(e.network, first, networks)]
        asked = [*(named[:1] or [EndpointRequest(host.network_mode)]), *asked]
    for endpoint in asked:
        if is_users(endpoint.network):
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
    four, six = asked.ipv4_address, asked.ipv6_address
    return Attachment(
        network_id=record.id,
        network=record.name,
        aliases=tuple(dict.fromkeys(asked.aliases)),
        ipv4_address=ipam.check_static(record, four, 4) if four else "",
        ipv6_address=ipam.check_static(record, six, 6) if six else "",
        mac_address=asked.mac_address,
        gateway_priority=asked.gateway_priority,
        links=tuple(_link(text, lookup) for text in linked),
    )


def _link(text: str, lookup: Lookup) -> tuple[str, str]:
    """``NAME[:ALIAS]`` as the alias and a name that the other container always has.

    One that is not there yet is meant by the name that it will have, as in Docker.
    """
    name, alias = links.parse(text)
    try:
        target = ids.short_id(lookup(name).id)
    except NotFound:
        target = name.removeprefix("/").lower()
    if not (_ALIAS.fullmatch(alias) and _ALIAS.fullmatch(target)):
        raise InvalidInput(f"invalid link: {text[:80]!r}")
    return alias.lower(), target


def final_mode(
    mode: str,
    host: HostConfig,
    endpoints: Sequence[EndpointRequest],
    attachments: Sequence[Attachment],
) -> str:
    """The mode with what ``EndpointsConfig`` makes of it: bridge, or a slirp4netns besides.

    A client that names networks and leaves the mode out means those networks alone.
    """
    if not attachments:
        return mode
    if mode in ("none", "host") or mode.startswith("container:"):
        raise InvalidInput(
            f"conflicting options: network mode {mode} and network {attachments[0].network}"
        )
    own = any(endpoint.network in (*OWN, *DEFAULTS) for endpoint in endpoints)
    return mode if own or host.network_mode in OWN else BRIDGE
