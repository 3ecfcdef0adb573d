"""What an identity has of everything, for the quotas of the policy.

The numbers are counted and the decision is taken without a pause in between: of two
requests at once the second one sees the first. A container counts as running from before
its start is decided on (``Unit.starting``).
"""

from __future__ import annotations

from rootless.engine.core import Core
from rootless.engine.unit import Unit
from rootless.model.identity import Identity
from rootless.model.request import Resources
from rootless.model.usage import Usage
from rootless.policy.rules.quotas import limits_of

DISK = "quotas.maximumDisk"


def _runs(unit: Unit) -> bool:
    state = unit.record.state
    return unit.starting or state.running or state.status == "restarting"


def _total(core: Core, owner: Identity, *, without: Unit | None) -> tuple[int, float, float]:
    """How many of the owner's containers run, and the sums of their limits."""
    others = [
        unit.record.spec.resources
        for unit in core.registry
        if unit is not without and unit.record.identity.key == owner.key and _runs(unit)
    ]
    limits = [limits_of(resources) for resources in others]
    return len(others), sum(memory for memory, _ in limits), sum(cpus for _, cpus in limits)


def for_create(core: Core, owner: Identity, wanted: Resources, disk: int) -> Usage:
    """With one more container. Its own limits must fit; the others' count when it starts."""
    have = sum(unit.record.identity.key == owner.key for unit in core.registry)
    memory, cpus = limits_of(wanted)
    return Usage(owner, containers=have + 1, running=1, memory=memory, cpus=cpus, disk=disk)


def for_start(core: Core, unit: Unit, wanted: Resources, disk: int = 0) -> Usage:
    """With the container ``unit`` running as well, with limits ``wanted``."""
    owner = unit.record.identity
    count, memory, cpus = _total(core, owner, without=unit)
    more_memory, more_cpus = limits_of(wanted)
    return Usage(
        owner,
        running=count + 1,
        memory=memory + more_memory,
        cpus=cpus + more_cpus,
        disk=disk,
    )


def for_update(core: Core, unit: Unit, wanted: Resources) -> Usage:
    """With other limits for ``unit``: beside what runs when it does, else alone."""
    if _runs(unit):
        return for_start(core, unit, wanted)
    memory, cpus = limits_of(wanted)
    return Usage(unit.record.identity, memory=memory, cpus=cpus)


async def disk(core: Core, owner: Identity) -> int:
    """Bytes that the owner's containers wrote and its volumes hold; 0 where no quota asks."""
    if not core.policy.constrains(DISK):
        return 0
    paths = [
        unit.record.spec.rootfs.upper
        for unit in core.registry
        if unit.record.identity.key == owner.key and unit.record.spec.rootfs.upper
    ]
    paths += [core.volumes.data(v.name) for v in core.volumes.all() if v.owner == owner.key]
    found = await core.call("storage.tree.tree_sizes", paths=paths)
    assert isinstance(found, int)
    return found
