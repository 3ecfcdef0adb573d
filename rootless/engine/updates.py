"""What ``update`` may change of a container, and what it makes of its limits (pure)."""

from __future__ import annotations

from dataclasses import fields, replace

from rootless.engine.unit import Unit
from rootless.errors import Conflict
from rootless.model.request import Resources, RestartPolicy


def check_update(unit: Unit, new: Resources, policy: RestartPolicy | None) -> None:
    """Refuse changes that contradict what the container was made with, in Docker's words."""
    spec, cannot = unit.record.spec, f"Cannot update container {unit.id}: "
    if unit.removed:
        raise Conflict(f'{cannot}container is marked for removal and cannot be "update"')
    old = spec.resources
    conflicts = (
        (new.nano_cpus > 0 and old.cpu_period > 0, "Nano CPUs", "CPU Period"),
        (new.nano_cpus > 0 and old.cpu_quota > 0, "Nano CPUs", "CPU Quota"),
        (new.cpu_period > 0 and old.nano_cpus > 0, "CPU Period", "NanoCPUs"),
        (new.cpu_quota > 0 and old.nano_cpus > 0, "CPU Quota", "NanoCPUs"),
    )
    for wrong, what, because in conflicts:
        if wrong:
            raise Conflict(
                f"{cannot}Conflicting options: {what} cannot be updated as {because} has already "
                "been set"
            )
    if policy is not None and spec.auto_remove and policy.name not in ("", "no"):
        raise Conflict(
            f"{cannot}Restart policy cannot be updated because AutoRemove is enabled for the "
            "container"
        )


def merge_resources(old: Resources, new: Resources) -> Resources:
    """Fields that ``new`` sets over those of ``old``."""
    default = Resources()
    changed = {
        field.name: getattr(new, field.name)
        for field in fields(Resources)
        if getattr(new, field.name) != getattr(default, field.name)
    }
    if changed.get("memory") and "memory_swap" not in changed and old.memory_swap == old.memory * 2:
        # The swap limit that was derived from memory follows it.
        changed["memory_swap"] = 0
    return replace(old, **changed)
