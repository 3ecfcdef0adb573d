"""``--link``: a name that leads to another container.

On networks of the user's it is one more name, which the resolver knows
(``resolve_attachments``). On the default bridge it opens the other's exposed ports,
too, where its containers are kept apart, and gives the variables that Docker gives.
Elsewhere there is no address at which another container can be reached: each is alone
in its network, or shares another one's and finds it at localhost. So a link is refused
there, and the reason depends on what is wrong with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from rootless import ids
from rootless.engine import etcfiles
from rootless.engine.registry import Registry
from rootless.engine.resolve_network import Lookup, parse_exposed
from rootless.engine.unit import Unit
from rootless.errors import Conflict, HostUnsupported, InvalidInput, NotFound
from rootless.model.network import PortRanges
from rootless.model.records import ContainerRecord
from rootless.model.spec import ContainerSpec
from rootless.network.predefined import BRIDGE_ID

_log = logging.getLogger(__name__)


def parse(text: str) -> tuple[str, str]:
    """``NAME[:ALIAS]`` as name and alias; also ``/NAME:/SELF/ALIAS``, as inspect writes it."""
    parts = text.split(":")
    if not text or len(parts) > 2 or not parts[0]:
        raise InvalidInput(f"bad format for links: {text}", hint="write NAME or NAME:ALIAS")
    name = parts[0].removeprefix("/")
    alias = parts[1] if len(parts) == 2 else name
    return name, alias.rpartition("/")[2] if parts[0].startswith("/") else alias


def linked(name: str, lookup: Lookup) -> ContainerRecord:
    """The container a link is to; a missing one is an InvalidInput: a 404 would mean the image."""
    try:
        return lookup(name)
    except NotFound as error:
        raise InvalidInput(f"could not get container for {name}: {error.message}") from None


def refuse(links: Sequence[str], mode: str, lookup: Lookup) -> None:
    """Raise for the first link, if there is any; ``mode`` is the new container's network."""
    for text in links:
        name, _ = parse(text)
        if mode == "host":
            raise InvalidInput(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        other = linked(name, lookup)
        raise HostUnsupported(
            f"cannot link to {other.name}: containers of network {mode} "
            "have no address that another container reaches",
            hint="rootless network create NAME, and --network NAME for both; or --network "
            f"container:{other.name}, which shares its network: it is at localhost then",
        )


def shown(record: ContainerRecord) -> tuple[str, ...]:
    """Links on the default bridge, as inspect writes them."""
    if not any(a.network_id == BRIDGE_ID and a.links for a in record.spec.network.attachments):
        return ()
    parsed = map(parse, record.spec.request.host.links)
    return tuple(f"/{name}:/{record.name}/{alias}" for name, alias in parsed)


def exposed(record: ContainerRecord) -> PortRanges:
    """The ports that links to a container lead to: those it exposes, and those it publishes."""
    ports = set(_ports(record))
    found: list[tuple[str, int, int]] = []
    for protocol, port in sorted(ports):
        if found and found[-1][0] == protocol and found[-1][2] == port - 1:
            found[-1] = protocol, found[-1][1], port
        else:
            found.append((protocol, port, port))
    return tuple(found)


def _ports(record: ContainerRecord) -> Iterator[tuple[str, int]]:
    for text in record.config.exposed_ports:
        for port, protocol in parse_exposed(text):
            yield protocol, port
    for binding in record.spec.network.ports:
        yield binding.protocol, binding.container_port


def _targets(spec: ContainerSpec, registry: Registry) -> Iterator[tuple[str, ContainerRecord]]:
    """(alias, container) of every link on the default bridge; not of those that were removed."""
    for attachment in spec.network.attachments:
        for alias, target in attachment.links if attachment.network_id == BRIDGE_ID else ():
            try:
                yield alias, registry.find(target).record
            except NotFound:
                continue


def check_running(spec: ContainerSpec, registry: Registry) -> None:
    """Conflict for a link on the default bridge to a container that does not run, as in Docker."""
    for alias, other in _targets(spec, registry):
        if not other.state.running:
            raise Conflict(
                f"Cannot link to a non running container: /{other.name} AS /{spec.name}/{alias}",
                hint=f"rootless start {other.name}",
            )


def hosts(spec: ContainerSpec, registry: Registry) -> tuple[etcfiles.Line, ...]:
    """What stands in the hosts file for links on the default bridge."""
    found = []
    for alias, other in _targets(spec, registry):
        names = tuple(dict.fromkeys((alias, ids.short_id(other.id), other.name)))
        there = [e for e in other.network.endpoints if e.network_id == BRIDGE_ID]
        found += [(address, names) for address in etcfiles.addresses_of(there)]
    return tuple(found)


def has_come(unit: Unit, registry: Registry) -> None:
    """Tell those that run with a link to a container where it is now."""
    if not any(endpoint.network_id == BRIDGE_ID for endpoint in unit.endpoints):
        return
    for other in registry:
        spec = other.record.spec
        if not other.record.state.running or all(
            target.id != unit.id for _, target in _targets(spec, registry)
        ):
            continue
        name = ids.short_id(unit.id)
        lines = [line for line in hosts(spec, registry) if name in line[1]]
        try:
            etcfiles.replace_hosts(other.directory, name, lines)
        except OSError as error:  # a full disk, say: the resolver knows the address all the same
            _log.warning("the hosts file of container %s is not brought up to date: %s",
                         other.record.name, error)  # fmt: skip


MOST_PORTS = 64
"""Ports of a linked container that variables are made for."""


def environment(spec: ContainerSpec, registry: Registry) -> tuple[str, ...]:
    """The variables of links on the default bridge, ``DB_PORT_5432_TCP_ADDR`` and so on."""
    found: list[str] = []
    for alias, other in _targets(spec, registry):
        address = next(
            (e.ipv4_address for e in other.network.endpoints if e.network_id == BRIDGE_ID), ""
        )
        if address:
            found += _variables(spec.name, alias, other, address)
    return tuple(found)


def _variables(name: str, alias: str, other: ContainerRecord, address: str) -> Iterator[str]:
    prefix = alias.upper().replace("-", "_")
    every = sorted(set(_ports(other)), key=lambda p: (p[1], p[0]))
    for number, (protocol, port) in enumerate(every[:MOST_PORTS]):
        url = f"{protocol}://{address}:{port}"
        if number == 0:
            yield f"{prefix}_PORT={url}"
        this = f"{prefix}_PORT_{port}_{protocol.upper()}"
        yield f"{this}={url}"
        yield f"{this}_ADDR={address}"
        yield f"{this}_PORT={port}"
        yield f"{this}_PROTO={protocol}"
    yield f"{prefix}_NAME=/{name}/{alias}"
    for variable in other.config.env:
        key, equals, value = variable.partition("=")
        if equals and key not in ("HOME", "PATH"):
            yield f"{prefix}_ENV_{key}={value}"
