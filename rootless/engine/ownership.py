"""The engine's objects as the policy sees them: names, labels, and who made them."""

from __future__ import annotations

from rootless.engine.core import Core
from rootless.engine.network_table import is_predefined
from rootless.engine.unit import Unit
from rootless.errors import NotFound
from rootless.model.identity import Identity
from rootless.model.network import NetworkRecord
from rootless.model.verbs import EVERYBODYS
from rootless.policy.admission import subject_of
from rootless.policy.matching import Subject
from rootless.storage.volumes import Volume


def of_unit(unit: Unit) -> Subject:
    """A container."""
    return subject_of(unit.record.spec, None, owner=unit.record.identity)


def seen_unit(core: Core, identity: Identity, verb: str, ref: str) -> Unit:
    """The container called ``ref``; NotFound as for one that is not there when it is not seen."""
    unit = core.registry.find(ref, lambda one: core.policy.sees(identity, of_unit(one)))
    absent = NotFound(f"No such container: {ref}")
    core.policy.admit_sight(identity, verb, ref, of_unit(unit), absent)
    return unit


def seen_network(core: Core, identity: Identity, verb: str, ref: str) -> NetworkRecord:
    """The same for a network of the table."""
    network = core.networks.find(ref, lambda one: core.policy.sees(identity, of_network(one)))
    absent = NotFound(f"network {ref} not found")
    core.policy.admit_sight(identity, verb, ref, of_network(network), absent)
    return network


def of_volume(volume: Volume) -> Subject:
    """A volume."""
    return Subject(name=volume.name, labels=dict(volume.labels), owners=frozenset({volume.owner}))


def of_network(network: NetworkRecord) -> Subject:
    """A network; the predefined ones are everybody's."""
    return Subject(
        name=network.name,
        labels=dict(network.labels),
        owners=frozenset({EVERYBODYS if is_predefined(network) else network.owner}),
        networks=(network.name,),
    )
