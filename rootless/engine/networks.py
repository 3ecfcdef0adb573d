"""Networks: the facade's noun. Bridges are made by users; the predefined ones are looked at."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rootless import ids
from rootless.engine import etcfiles, ipam, notices, starting
from rootless.engine.core import Core
from rootless.engine.denials import Denials
from rootless.engine.filters import (
    Filters,
    check_filters,
    match_labels,
    match_name,
    single_bool,
    until,
)
from rootless.engine.network_table import host_routes, is_predefined, renamed
from rootless.engine.ownership import of_network, of_unit, seen_network, seen_unit
from rootless.engine.resolve_attachments import attachment
from rootless.engine.resolve_egress import check_holds
from rootless.engine.unit import Unit
from rootless.errors import (
    Conflict,
    Denied,
    HostUnsupported,
    InvalidInput,
    NotFound,
    RootlessError,
)
from rootless.linux import nftables
from rootless.model import egress
from rootless.model.identity import Identity
from rootless.model.network import (
    BRIDGE,
    EGRESS,
    ICC,
    MASQUERADE,
    MTU,
    Denial,
    Endpoint,
    NetworkRecord,
    Subnet,
)
from rootless.model.records import ContainerRecord, NetworkView
from rootless.model.request import EndpointRequest, NetworkCreation
from rootless.model.spec import ContainerSpec
from rootless.model.usage import Usage
from rootless.model.verbs import EVERYBODYS
from rootless.network.predefined import PREDEFINED, network_id
from rootless.policy.matching import Subject

_LIST = frozenset(("dangling", "driver", "id", "label", "name", "scope", "type"))
_PRUNE = frozenset(("label", "label!", "until"))
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_. -]*[a-zA-Z0-9_.-])?")
_TAKEN = (*PREDEFINED, "bridge", "default", "private", "container", "nat")


class Networks:
    """See :class:`rootless.engine.interface.Networks`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._denials = Denials(core)
        self._lock = asyncio.Lock()
        """Held while ranges are chosen and recorded."""

    # -- making and removing ------------------------------------------------------------

    async def create(self, identity: Identity, wanted: NetworkCreation) -> tuple[str, str]:
        """Record a network; its bridge is made for the first container on it."""
        asked = Subject(name=wanted.name, labels=dict(wanted.labels), networks=(wanted.name,))
        self._core.policy.admit_action(identity, "network.create", wanted.name, asked)
        check_creation(wanted)
        nftables.check()
        async with self._lock:
            table = self._core.networks
            if any(network.name == wanted.name for network in table):
                raise Conflict(f"network with name {wanted.name} already exists")
            ipv4, ipv6 = wanted.ipv4 is not False, bool(wanted.ipv6)
            record = NetworkRecord(
                id=ids.new_id(),
                name=wanted.name,
                created_ns=time.time_ns(),
                subnets=self._subnets(wanted, ipv4=ipv4, ipv6=ipv6),
                ipv4=ipv4,
                ipv6=ipv6,
                internal=wanted.internal,
                attachable=wanted.attachable,
                options=wanted.options,
                labels=wanted.labels,
                ipam_options=wanted.ipam_options,
                owner=identity.key,
            )
            table.add(record)
        self._publish("create", record)
        return record.id, ""

    def _subnets(self, wanted: NetworkCreation, *, ipv4: bool, ipv6: bool) -> tuple[Subnet, ...]:
        core = self._core
        asked = ipam.check(wanted.subnets, ipv6=ipv6)
        ipam.check_overlap(asked, core.networks)
        taken = [subnet.subnet for network in core.networks for subnet in network.subnets]
        taken += [*ipam.WAY_OUT, *(subnet.subnet for subnet in asked)]
        found = []
        for version, used in ((4, ipv4), (6, ipv6)):
            own = [s for s in asked if ipaddress.ip_network(s.subnet).version == version]
            if own or not used:
                found += own
                continue
            if version == 4:
                taken += host_routes()
            pools = ipam.pools(core.settings.address_pools, str(core.settings.data_root))
            found.append(ipam.choose(pools, taken, version=version))
        return tuple(found)

    async def remove(self, identity: Identity, ref: str) -> None:
        """Remove a network no container is on."""
        record = self._admit(identity, "remove", ref)
        if is_predefined(record):
            raise Denied(f"{record.name} is a pre-defined network and cannot be removed")
        users = self._core.networks.users(record.id)
        if users:
            named = ", ".join(
                f'name:"{unit.record.name}" id:"{endpoint.id[:12]}"' for unit, endpoint in users
            )
            raise Denied(
                f"error while removing network: network {record.name} has active endpoints "
                f"({named})",
                hint=f"rootless network disconnect {record.name} {users[0][0].record.name}",
            )
        await self._remove(record)

    async def _remove(self, record: NetworkRecord) -> None:
        # The record first: a bridge without one goes with the next start of the daemon.
        self._core.networks.remove(record)
        await self._core.network.bridges.remove_network(record.id)
        self._publish("destroy", record)

    async def prune(self, identity: Identity, *, filters: Filters) -> Sequence[str]:
        """Remove every network that no container is on."""
        self._core.policy.admit_action(identity, "network.prune")
        check_filters(filters, _PRUNE)
        bound = until(filters, now_ns=time.time_ns())
        deleted = []
        for record in self._core.networks:
            labels = dict(record.labels)
            if (
                is_predefined(record)
                or not self._core.policy.lists(identity, "network.prune", of_network(record))
                or (bound and record.created_ns >= bound)
                or not match_labels(labels, filters.get("label", ()))
                or any(match_labels(labels, [text]) for text in filters.get("label!", ()))
                or self._core.networks.users(record.id)
            ):
                continue
            await self._remove(record)
            deleted.append(record.name)
        self._core.events.publish("network", "prune", "", {"reclaimed": "0"})
        return deleted

    def _publish(self, action: str, record: NetworkRecord) -> None:
        attributes = {"name": record.name, "type": record.driver}
        self._core.events.publish(
            "network", action, record.id, attributes, owners=of_network(record).owners
        )

    # -- looking ---------------------------------------------------------------------------

    async def list(self, identity: Identity, *, filters: Filters) -> Sequence[NetworkView]:
        """All that fit, without who is on them."""
        self._core.policy.admit_action(identity, "network.list")
        check_filters(filters, _LIST)
        _check_type(filters)
        records = (*predefined(), *self._core.networks)
        wanted = self._core.policy.lister(identity, "network.list", of_network)
        seen = filter(wanted, records)
        return [NetworkView(r) for r in seen if self._matches(r, filters)]

    def _matches(self, record: NetworkRecord, filters: Filters) -> bool:
        builtin = is_predefined(record)
        if filters.get("dangling"):
            used = builtin or bool(self._core.networks.users(record.id))
            if single_bool(filters, "dangling", default=True) == used:
                return False
        tests = {
            "driver": lambda v: v == record.driver,
            "id": lambda v: match_name(record.id, [v]),
            "name": lambda v: match_name(record.name, [v]),
            "scope": lambda v: v == "local",
            "type": lambda v: v == ("builtin" if builtin else "custom"),
        }
        fits = all(any(map(test, filters[key])) for key, test in tests.items() if filters.get(key))
        return fits and match_labels(dict(record.labels), filters.get("label", ()))

    async def inspect(self, identity: Identity, ref: str) -> NetworkView:
        """One network and who is on it."""
        record = self._admit(identity, "inspect", ref)
        if record.driver == BRIDGE:
            users = self._core.networks.users(record.id)
            found = [
                (unit.id, unit.record.name, endpoint)
                for unit, endpoint in users
                if self._core.policy.sees(identity, of_unit(unit))
            ]
        else:
            found = [
                (unit.id, unit.record.name, _own_endpoint(unit.record))
                for unit in self._core.registry
                if unit.record.state.running
                and unit.record.spec.network.mode == record.name
                and self._core.policy.sees(identity, of_unit(unit))
            ]
        return NetworkView(record, tuple(found))

    async def denied(
        self, identity: Identity, *, network: str = "", container: str = "", since_ns: int = 0
    ) -> Sequence[Denial]:
        """What egress lists denied."""
        self._core.policy.admit_action(identity, "network.denied", network)
        if network:
            with contextlib.suppress(NotFound):  # it may have been removed since
                network = self._find(identity, "denied", network).name
        return await self._denials.list(
            identity, network=network, container=container, since_ns=since_ns
        )

    def _admit(self, identity: Identity, verb: str, ref: str) -> NetworkRecord:
        """The network, when the caller may know of it and do ``verb`` with it."""
        record = self._find(identity, verb, ref)
        self._core.policy.admit_action(identity, f"network.{verb}", ref, of_network(record))
        return record

    def _find(self, identity: Identity, verb: str, ref: str) -> NetworkRecord:
        name = self._core.settings.default_network if ref == "default" else ref
        for record in predefined():
            if name in (record.name, record.id):
                return record
        try:
            return seen_network(self._core, identity, f"network.{verb}", ref)
        except NotFound:
            for record in predefined():
                if len(ref) >= 2 and record.id.startswith(ref):
                    return record
            raise

    # -- containers ------------------------------------------------------------------------

    async def connect(
        self, identity: Identity, ref: str, container: str, wanted: EndpointRequest
    ) -> None:
        """Put a container on one more network, at once when it runs."""
        core = self._core
        record = self._admit(identity, "connect", ref)
        unit = seen_unit(core, identity, "network.connect", container)
        async with unit.lock:
            spec = unit.record.spec
            _check_joinable(record, spec)
            on_it = any(a.network_id == record.id for a in spec.network.attachments)
            if on_it:
                if unit.record.state.running:
                    raise Denied(
                        f"endpoint with name {unit.record.name} already exists in network "
                        f"{record.name}"
                    )
                return
            made = attachment(
                record,
                wanted,
                lambda name: seen_unit(core, identity, "network.connect", name).record,
                wanted.links,
            )
            network = replace(spec.network, attachments=(*spec.network.attachments, made))
            changed = replace(spec, network=network)
            check_holds(changed)
            core.policy.admit(
                identity, changed, verb="network.connect", usage=Usage(unit.record.identity)
            )
            if unit.record.state.running:
                await self._plug(unit, changed, record)
            core.registry.rewrite(unit, replace(unit.record, spec=changed))
            if unit.record.state.running:
                self._save(unit)
                notices.network(core, unit, unit.endpoints[-1], "connect")

    async def _plug(self, unit: Unit, spec: ContainerSpec, record: NetworkRecord) -> None:
        core = self._core
        before = unit.endpoints
        made = core.networks.one_more(unit, spec, spec.network.attachments[-1])
        # Its address is taken from now on.
        unit.endpoints = core.networks.with_defaults(spec, (*before, made))
        try:
            plan = core.networks.plan_of(unit, starting.servers(spec))
            assert plan is not None
            await core.network.join(unit.id, plan, record.id)
        except BaseException:
            unit.endpoints = before
            raise
        etcfiles.change_hosts(
            unit.directory, spec.hostname, add=etcfiles.addresses_of(unit.endpoints[-1:])
        )
        if not before:
            etcfiles.use_resolver(unit.directory, spec)

    async def disconnect(self, identity: Identity, ref: str, container: str) -> None:
        """Take a container off a network."""
        core = self._core
        record = self._admit(identity, "disconnect", ref)
        unit = seen_unit(core, identity, "network.disconnect", container)
        async with unit.lock:
            spec = unit.record.spec
            left = tuple(a for a in spec.network.attachments if a.network_id != record.id)
            if len(left) == len(spec.network.attachments):
                if record.driver != BRIDGE and spec.network.mode == record.name:
                    raise HostUnsupported(
                        f"container {unit.record.name} cannot be disconnected from {record.name}, "
                        "which it was made with",
                        hint="make it with --network NAME",
                    )
                raise Denied(f"container {unit.id} is not connected to network {record.name}")
            changed = replace(spec, network=replace(spec.network, attachments=left))
            gone = [e for e in unit.endpoints if e.network_id == record.id]
            if gone and unit.record.state.running:
                await self._unplug(unit, changed, record, gone[0])
            core.registry.rewrite(unit, replace(unit.record, spec=changed))
            if gone and unit.record.state.running:
                self._save(unit)
                notices.network(core, unit, gone[0], "disconnect")

    async def _unplug(
        self, unit: Unit, spec: ContainerSpec, record: NetworkRecord, gone: Endpoint
    ) -> None:
        core = self._core
        rest = [e for e in unit.endpoints if e.network_id != record.id]
        left = core.networks.with_defaults(spec, rest)
        await core.network.bridges.disconnect(unit.id, record.id, left)
        unit.endpoints = left
        etcfiles.change_hosts(unit.directory, spec.hostname, drop=etcfiles.addresses_of([gone]))

    def _save(self, unit: Unit) -> None:
        network = replace(unit.record.network, endpoints=unit.endpoints)
        self._core.registry.transition(unit, unit.record.state, network)


async def follow_rename(core: Core, unit: Unit) -> None:
    """Let a running container be found by its new name."""
    if not (unit.endpoints and unit.record.state.running):
        return  # one that has just ended is being taken off its networks
    unit.endpoints = renamed(unit, unit.record.spec)
    try:
        await core.network.bridges.rename(unit.id, unit.endpoints)
    except RootlessError:
        if unit.record.state.running:
            raise
    if not unit.record.state.running:
        return
    network = replace(unit.record.network, endpoints=unit.endpoints)
    core.registry.transition(unit, unit.record.state, network)


def _check_joinable(record: NetworkRecord, spec: ContainerSpec) -> None:
    mode = spec.network.mode
    if record.name == "host":
        raise InvalidInput(
            "cannot connect container to host network - container must be created in host "
            "network mode"
        )
    if mode == "host" or mode.startswith("container:"):
        raise InvalidInput(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
        )
    if mode == "none" or record.name == "none":
        raise InvalidInput(
            "container cannot be connected to multiple networks with one of the networks in "
            "private (none) mode"
        )
    if record.driver != BRIDGE and mode != record.name:
        raise HostUnsupported(
            f"a container gets the network {record.name} when it is made or never",
            hint=f"make it with --network {record.name} as well",
        )


def _check_type(filters: Filters) -> None:
    for value in filters.get("type", ()):
        if value not in ("builtin", "custom"):
            raise InvalidInput(f"invalid filter: 'type'='{value}'", hint="builtin or custom")


def check_creation(wanted: NetworkCreation) -> None:
    """Refuse what no network can be; raises InvalidInput, Denied or NotFound in moby's words."""
    name = wanted.name
    if name in _TAKEN:
        raise Denied(f"operation is not permitted on predefined {name} network")
    if not name.strip():
        raise InvalidInput("invalid network name: name is empty")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"invalid network name {name[:80]!r}",
            hint="letters, digits, '_', '.', '-' and blanks, a letter or digit first",
        )
    if wanted.driver != BRIDGE:
        raise NotFound(
            f'could not find plugin {wanted.driver} in v1 plugin registry: plugin "'
            f'{wanted.driver}" not found',
            hint="the driver of this engine's networks is bridge",
        )
    if wanted.ipam_driver not in ("", "default"):
        raise InvalidInput(f"invalid ipam driver: {wanted.ipam_driver}", hint="default")
    if wanted.ipv4 is False and not wanted.ipv6:
        raise InvalidInput("IPv4 or IPv6 must be enabled")
    _check_options(dict(wanted.options))


def _check_options(options: dict[str, str]) -> None:
    for key, value in options.items():
        if key not in (ICC, MASQUERADE, MTU, EGRESS):
            known = f"known are {ICC}, {MTU} and {EGRESS}"
            raise InvalidInput(f"unknown network option: {key}", hint=known)
        if key == EGRESS:
            egress.parse(value)
        elif key == MTU:
            if not value.isdecimal() or not 68 <= int(value[:6]) <= 65520:
                raise InvalidInput(f"invalid {MTU}: {value[:40]}", hint="68 to 65520 bytes")
        elif value.lower() not in ("0", "1", "t", "f", "true", "false"):
            raise InvalidInput(f"invalid {key}: {value[:40]}", hint="true or false")
    if options.get(MASQUERADE, "true").lower() in ("0", "f", "false"):
        raise HostUnsupported(
            f"{MASQUERADE}=false cannot be had: behind the way out nobody knows these addresses",
            hint="leave it out, or make the network --internal",
        )


def predefined() -> Iterable[NetworkRecord]:
    """The networks that exist by definition."""
    slirp = (Subnet("10.0.2.0/24", "10.0.2.2"),)
    return [
        NetworkRecord(
            id=network_id(name),
            name=name,
            created_ns=0,
            subnets=slirp if driver == "slirp4netns" else (),
            driver=driver,
            ipv6=driver == "slirp4netns",
            owner=EVERYBODYS,
        )
        for name, driver in PREDEFINED.items()
    ]


def _own_endpoint(record: ContainerRecord) -> Endpoint:
    """A container's place on a predefined network."""
    mode = record.spec.network.mode
    endpoint_id = record.id if record.network.ip_address else ""
    return record.network.own_endpoint(network_id(mode), mode, endpoint_id)
