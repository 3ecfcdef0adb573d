"""The networks that users made, and which addresses on them are taken.

Memory and state.db move together. Addresses belong to running containers, and
to those that are being started; a container that ended has none.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from rootless import ids
from rootless.engine import default_bridge, ipam, links
from rootless.engine.registry import Registry
from rootless.engine.settings import EngineSettings
from rootless.engine.state import State
from rootless.engine.unit import Unit
from rootless.errors import Conflict, Denied, InvalidInput, NotFound, RootlessError
from rootless.model.network import BRIDGE, Attachment, EgressLists, Endpoint, NetworkRecord
from rootless.model.spec import ContainerSpec, NetworkSpec
from rootless.network.bridges import BridgePlan
from rootless.network.place import SLIRP
from rootless.network.predefined import BRIDGE_ID, PREDEFINED


def host_routes() -> tuple[str, ...]:
    """Networks that the host reaches now; no container shall be kept from them."""
    with open("/proc/net/route", encoding="ascii") as file:
        return ipam.host_routes(file.read())


def is_predefined(record: NetworkRecord) -> bool:
    """True for a network that exists by definition, and not because somebody made it."""
    return record.driver != BRIDGE or record.id == BRIDGE_ID


_log = logging.getLogger(__name__)

NAMES = 1024
"""Containers with egress lists whose names are known after they are gone."""


class NetworkTable:
    """Networks by id and name."""

    def __init__(self, state: State, registry: Registry) -> None:
        self._state = state
        self._registry = registry
        self._records: dict[str, NetworkRecord] = {}
        self._last: dict[tuple[str, int], str] = {}
        """(network id, address family) → the address that was given last."""
        self.listed: dict[str, tuple[str, str]] = {}
        """Containers that have egress lists, and lately had: full id → name, whose it is."""

    def load(self) -> None:
        """Read all records."""
        self._records = {record.id: record for record in self._state.networks()}

    def settle_default(self, settings: EngineSettings) -> None:
        """Make the network called bridge what the configuration says.

        It stays what it was while a container runs on it.
        """
        before = self._records.get(BRIDGE_ID)
        if before is not None and self.users(BRIDGE_ID):
            return
        wanted = None
        if settings.bridge:
            others = [record for record in self if record.id != BRIDGE_ID]
            now = time.time_ns()
            try:
                wanted = default_bridge.describe(
                    settings, before, others, host_routes(), created_ns=now
                )
            except RootlessError as error:  # the others' networks are not to blame
                _log.error("there is no network bridge: %s", error)
        if wanted != before:
            if before is not None:
                self.remove(before)
            if wanted is not None:
                self.add(wanted)

    def __iter__(self) -> Iterator[NetworkRecord]:
        return iter(tuple(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, network_id: str) -> NetworkRecord | None:
        """The network with exactly this id."""
        return self._records.get(network_id)

    def find(
        self, ref: str, seen: Callable[[NetworkRecord], bool] = lambda _: True
    ) -> NetworkRecord:
        """By id, name or unambiguous prefix of the id.

        A prefix is looked for among those only that the caller has ``seen``.
        """
        found = self._records.get(ref)
        if found is not None:
            return found
        for record in self._records.values():
            if record.name == ref:
                return record
        matches = [r for key, r in self._records.items() if ref and key.startswith(ref)]
        matches = [record for record in matches if seen(record)]
        if len(matches) > 1:
            raise InvalidInput(
                f"network {ref} is ambiguous ({len(matches)} matches found based on ID prefix)"
            )
        if not matches:
            known = ", ".join(sorted((*PREDEFINED, *(r.name for r in self if seen(r)))))
            raise NotFound(f"network {ref} not found", hint=f"there are: {known}")
        return matches[0]

    def add(self, record: NetworkRecord) -> None:
        """A new network; Conflict when its name is taken."""
        if any(other.name == record.name for other in self):
            raise Conflict(f"network with name {record.name} already exists")
        self._state.add_network(record)
        self._records[record.id] = record

    def remove(self, record: NetworkRecord) -> None:
        """Forget a network."""
        self._state.remove_network(record.id)
        self._records.pop(record.id, None)

    def users(self, network_id: str) -> list[tuple[Unit, Endpoint]]:
        """The containers that are on a network now."""
        return [
            (unit, endpoint)
            for unit in self._registry
            for endpoint in unit.endpoints
            if endpoint.network_id == network_id
        ]

    # -- addresses -------------------------------------------------------------------------

    def allocate(
        self, unit: Unit, spec: ContainerSpec, servers: Sequence[str]
    ) -> BridgePlan | None:
        """Give a container that starts its places; None when it is on no network of this kind."""
        own = own_lists(spec.network)
        if not spec.network.attachments and not own:
            return None
        made: list[Endpoint] = []
        networks = []
        for number, attachment in enumerate(spec.network.attachments):
            network = self.find(attachment.network_id)
            networks.append(network)
            made.append(self._endpoint(unit, spec, attachment, network, f"eth{number}"))
        unit.endpoints = self.with_defaults(spec, made)
        return self._noted(
            unit, BridgePlan(tuple(networks), unit.endpoints, tuple(servers), own=own)
        )

    def one_more(self, unit: Unit, spec: ContainerSpec, attachment: Attachment) -> Endpoint:
        """A place on one more network for a running container."""
        used = {endpoint.interface for endpoint in unit.endpoints}
        interface = next(n for i in range(len(used) + 1) if (n := f"eth{i}") not in used)
        network = self.find(attachment.network_id)
        return self._endpoint(unit, spec, attachment, network, interface)

    def plan_of(self, unit: Unit, servers: Sequence[str]) -> BridgePlan | None:
        """Where a running container is, for a daemon that finds it again."""
        found = [self.get(endpoint.network_id) for endpoint in unit.endpoints]
        networks = tuple(network for network in found if network is not None)
        own = own_lists(unit.record.spec.network)
        if not networks and not own:
            return None
        known = {network.id for network in networks}
        endpoints = tuple(e for e in unit.endpoints if e.network_id in known)
        return self._noted(unit, BridgePlan(networks, endpoints, tuple(servers), own=own))

    def _noted(self, unit: Unit, plan: BridgePlan) -> BridgePlan:
        if plan.has_lists:
            self.listed.pop(unit.id, None)
            self.listed[unit.id] = unit.record.name, unit.record.identity.key
            if len(self.listed) > NAMES:
                del self.listed[next(iter(self.listed))]
        return plan

    def _endpoint(
        self,
        unit: Unit,
        spec: ContainerSpec,
        attachment: Attachment,
        network: NetworkRecord,
        interface: str,
    ) -> Endpoint:
        taken = {
            address
            for _, endpoint in self.users(network.id)
            for address in (endpoint.ipv4_address, endpoint.ipv6_address)
        }
        made = Endpoint(
            network_id=network.id,
            network=network.name,
            id=ids.new_id(),
            interface=interface,
            mac_address=attachment.mac_address.lower().replace("-", ":") or _random_mac(),
            names=names_of(spec, network.id, attachment.aliases),
            links=attachment.links,
            exposed=links.exposed(unit.record) if network.id == BRIDGE_ID else (),
            egress=tuple(
                found
                for found in (attachment.network_egress, attachment.egress, spec.network.egress)
                if found is not None
            ),
        )
        four, prefix, gateway = self._address(network, 4, attachment.ipv4_address, taken)
        six, prefix6, gateway6 = self._address(network, 6, attachment.ipv6_address, taken)
        return replace(
            made,
            ipv4_address=four,
            ipv4_prefix=prefix,
            ipv4_gateway=gateway,
            ipv6_address=six,
            ipv6_prefix=prefix6,
            ipv6_gateway=gateway6,
        )

    def _address(
        self, network: NetworkRecord, version: int, wanted: str, taken: Iterable[str]
    ) -> tuple[str, int, str]:
        """(address, prefix length, gateway); '' and 0 where the network has none of the family."""
        subnet = ipam.subnet_of(network, version)
        if subnet is None:
            return "", 0, ""
        barred = set(taken)
        if wanted:
            address = ipam.check_static(network, wanted, version)
            if address in barred or address == subnet.gateway:
                raise Denied(
                    "Address already in use", hint=f"{address} on network {network.name} is taken"
                )
        else:
            after = self._last.get((network.id, version), "")
            address = ipam.pick(network, subnet, barred, after)
            self._last[network.id, version] = address
        gateway = "" if network.internal else subnet.gateway
        return address, int(subnet.subnet.partition("/")[2]), gateway

    @staticmethod
    def with_defaults(spec: ContainerSpec, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """With the way out through one of them: the highest priority, then the first name.

        A container that has a slirp4netns of its own leaves through that.
        """
        found = tuple(endpoints)
        own = spec.network.mode != "bridge"
        priority = {a.network_id: a.gateway_priority for a in spec.network.attachments}
        order = sorted(found, key=lambda e: (-priority.get(e.network_id, 0), e.network))
        four = next((e.id for e in order if e.ipv4_gateway and not own), "")
        six = next((e.id for e in order if e.ipv6_gateway and not own), "")
        return tuple(replace(e, default_ipv4=e.id == four, default_ipv6=e.id == six) for e in found)


def own_lists(network: NetworkSpec) -> EgressLists | None:
    """The egress lists of a slirp4netns of the container's own; None when it has none."""
    if network.mode != SLIRP:
        return None
    return () if network.egress is None else (network.egress,)


def names_of(spec: ContainerSpec, network_id: str, aliases: Iterable[str]) -> tuple[str, ...]:
    """What a container is found by: name, aliases, short id, host name, as in Docker.

    On the default bridge by nothing but links, which lead to the short id.
    """
    if network_id == BRIDGE_ID:
        return (ids.short_id(spec.id),)
    found = (spec.name, *aliases, ids.short_id(spec.id), spec.hostname)
    return tuple(dict.fromkeys(name for name in found if name))


def renamed(unit: Unit, spec: ContainerSpec) -> tuple[Endpoint, ...]:
    """The endpoints of a running container with the names of its changed spec."""
    aliases = {a.network_id: a.aliases for a in spec.network.attachments}
    return tuple(
        replace(e, names=names_of(spec, e.network_id, aliases.get(e.network_id, ())))
        for e in unit.endpoints
    )


def _random_mac() -> str:
    """A locally administered unicast address (IEEE 802)."""
    return ":".join(f"{byte:02x}" for byte in (0x02, *secrets.token_bytes(5)))
