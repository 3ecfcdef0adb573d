"""Resource limits: a limit that was asked for and cannot be kept is refused (pure)."""

from __future__ import annotations

import os
from dataclasses import replace

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux.cgrouplimits import check_resources
from rootless.model.facts import HostFacts
from rootless.model.request import HostConfig, Resources
from rootless.units import whole_number

MINIMUM_MEMORY = 6 << 20
"""Docker's: below it no container starts."""


def resolve_limits(resources: Resources, facts: HostFacts) -> Resources:
    """Check ranges in Docker's words, then that the host has the controllers."""
    checked = _swap(_memory(resources))
    _cpu(checked)
    if checked.pids_limit is not None and checked.pids_limit < 0:
        checked = replace(checked, pids_limit=0)
    if checked.blkio_weight and not 10 <= checked.blkio_weight <= 1000:
        raise InvalidInput("range of blkio weight is from 10 to 1000")
    check_resources(checked, facts.cgroup)
    return checked


def _memory(resources: Resources) -> Resources:
    if resources.memory and resources.memory < MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    if resources.memory_reservation and resources.memory_reservation < MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory reservation allowed is 6MB")
    if resources.memory and resources.memory_reservation > resources.memory:
        raise InvalidInput(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    return resources


def _swap(resources: Resources) -> Resources:
    if resources.memory_swap > 0:
        if not resources.memory:
            raise InvalidInput(
                "You should always set the Memory limit when using Memoryswap limit, see usage"
            )
        if resources.memory_swap < resources.memory:
            raise InvalidInput(
                "Minimum memoryswap limit should be larger than memory limit, see usage"
            )
    if resources.memory and not resources.memory_swap:
        # As Docker: as much swap again as memory.
        return replace(resources, memory_swap=resources.memory * 2)
    return resources


def _cpu(resources: Resources) -> None:
    cpus = os.cpu_count() or 1
    if resources.cpu_shares < 0:
        raise InvalidInput(
            f"invalid CPU shares ({resources.cpu_shares}): value must be a positive integer"
        )
    if resources.nano_cpus:
        if resources.cpu_quota or resources.cpu_period:
            raise InvalidInput(
                "Conflicting options: Nano CPUs and CPU Period cannot both be set"
                if resources.cpu_period
                else "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
            )
        if resources.nano_cpus < 0 or resources.nano_cpus > cpus * 10**9:
            raise InvalidInput(
                f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            )
    if resources.cpu_period and not 1000 <= resources.cpu_period <= 1_000_000:
        raise InvalidInput(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < resources.cpu_quota < 1000:
        raise InvalidInput("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _cpuset("CPUs", resources.cpuset_cpus, cpus)
    _cpuset("memory nodes", resources.cpuset_mems, 1024)


def _cpuset(what: str, text: str, limit: int) -> None:
    if not text:
        return
    if not _is_set(text):
        raise InvalidInput(f"Invalid value {text} for cpuset {what}")
    if max(whole_number(n) or 0 for part in text.split(",") for n in part.split("-")) >= limit:
        raise InvalidInput(
            f"Requested {what} are not available - requested {text}, available: 0-{limit - 1}"
        )


def _is_set(text: str) -> bool:
    for part in text.split(","):
        low, dash, high = part.partition("-")
        first, last = whole_number(low), whole_number(high if dash else low)
        if first is None or last is None or last < first:
            return False
    return True


def check_cgroup_parent(host: HostConfig, facts: HostFacts) -> str:
    """``--cgroup-parent`` as a path below the delegated subtree."""
    parent = host.cgroup_parent.strip("/")
    if not parent:
        return ""
    if ".." in parent.split("/") or "\0" in parent:
        raise InvalidInput(f"invalid cgroup parent: {host.cgroup_parent!r}")
    if not facts.cgroup.delegated:
        raise HostUnsupported(
            "cgroup-parent requested but no cgroup is delegated to this user",
            hint="rootless system service install",
        )
    return parent
