"""The engine's objects as the policy sees them: names, labels, and who made them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rootless.engine.core import Core
from rootless.engine.image_index import Entry, ImageIndex
from rootless.engine.network_table import is_predefined
from rootless.engine.unit import Unit
from rootless.errors import Conflict, NotFound
from rootless.images.image import Image
from rootless.images.reference import Reference
from rootless.model.identity import Identity
from rootless.model.network import NetworkRecord
from rootless.model.verbs import EVERYBODYS
from rootless.policy.admission import subject_of
from rootless.policy.matching import Subject
from rootless.storage.volumes import Volume


def of_unit(unit: Unit) -> Subject:
    """A container."""
    return subject_of(unit.record.spec, None, owner=unit.record.identity)


def sees_unit(core: Core, identity: Identity, unit: Unit) -> bool:
    """Whether the caller may know of a container."""
    return core.policy.sees(identity, of_unit(unit))


def seen_unit(core: Core, identity: Identity, verb: str, ref: str) -> Unit:
    """The container called ``ref``; NotFound as for one that is not there when it is not seen."""
    unit = core.registry.find(ref, partial(sees_unit, core, identity))
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


def of_image(entry: Entry) -> Subject:
    """An image, by the first of its names."""
    name = min(entry.names, default=entry.image.id)
    return Subject(
        image=name,
        name=name,
        labels=dict(entry.image.config.config.labels),
        owners=frozenset(entry.owners or {""}),
        images=(name,),
    )


def seen_image(core: Core, index: ImageIndex, identity: Identity, verb: str, ref: str) -> Entry:
    """The image called ``ref``; NotFound as for one that is not there when it is not seen."""
    entry = index.find(ref, lambda one: core.policy.sees(identity, of_image(one)))
    absent = NotFound(f"No such image: {ref}")
    core.policy.admit_sight(identity, verb, ref, of_image(entry), absent)
    return entry


def check_names(
    core: Core,
    index: ImageIndex,
    identity: Identity | None,
    image: Image,
    names: Sequence[Reference],
) -> None:
    """Conflict when a name would be taken from an image that the caller does not see."""
    for name in names:
        entry = index.by_name(name)
        if identity is None or entry is None or entry.image.id == image.id:
            continue
        problem = Conflict(
            f"the name {name.familiar} is another identity's image's",
            hint="choose another name, or pull by digest",
        )
        core.policy.admit_sight(identity, "image.tag", name.familiar, of_image(entry), problem)
