"""Resource limits: a limit that was asked for and cannot be kept is refused (pure)."""

from __future__ import annotations

import os
from dataclasses import replace

from rootless.errors import HostUnsupported, InvalidInput
from rootless.model.facts import CgroupFacts, HostFacts
from rootless.model.request import HostConfig, Resources

MINIMUM_MEMORY = 6 << 20
"""Docker's: below it no container starts."""


def resolve_limits(resources: Resources, facts: HostFacts) -> Resources:
    """Check ranges in Docker's words, then that the host has the controllers."""
    checked = _swap(_memory(resources))
    _cpu(checked)
    if checked.oom_kill_disable:
        raise HostUnsupported(
            "oom-kill-disable is not possible: cgroup v2 has no such switch",
            hint="leave it out",
        )
    if checked.memory_swappiness is not None and checked.memory_swappiness != -1:
        raise HostUnsupported("memory-swappiness is not possible: cgroup v2 has no such file")
    if checked.pids_limit is not None and checked.pids_limit < 0:
        checked = replace(checked, pids_limit=0)
    if checked.blkio_weight and not 10 <= checked.blkio_weight <= 1000:
        raise InvalidInput("range of blkio weight is from 10 to 1000")
    for what, controller in _wanted(checked):
        _require(what, controller, facts.cgroup)
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
    if max(int(n) for part in text.split(",") for n in part.split("-")) >= limit:
        raise InvalidInput(
            f"Requested {what} are not available - requested {text}, available: 0-{limit - 1}"
        )


def _is_set(text: str) -> bool:
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and (not last.isdigit() or int(last) < int(first))):
            return False
    return True


def _wanted(resources: Resources) -> list[tuple[str, str]]:
    """(what the user asked for, the controller that keeps it)."""
    memory = bool(resources.memory or resources.memory_reservation)
    cpu = bool(resources.nano_cpus or resources.cpu_shares or resources.cpu_quota > 0
               or resources.cpu_period)  # fmt: skip
    io = bool(
        resources.blkio_weight
        or resources.blkio_weight_device
        or resources.blkio_read_bps
        or resources.blkio_write_bps
        or resources.blkio_read_iops
        or resources.blkio_write_iops
    )
    asked = [("memory", "memory")] if memory else []
    asked += [("cpu", "cpu")] if cpu else []
    asked += [("cpuset", "cpuset")] if resources.cpuset_cpus or resources.cpuset_mems else []
    asked += [("block I/O", "io")] if io else []
    # pids is kept by RLIMIT_NPROC over the container's namespace owner where
    # there is no controller (user_namespaces(7)), so it needs none.
    return asked


def _require(what: str, controller: str, cgroup: CgroupFacts) -> None:
    if cgroup.delegated and controller in cgroup.controllers:
        return
    where = f"{cgroup.delegated}/cgroup.controllers" if cgroup.delegated else "any delegated cgroup"
    has = ", ".join(cgroup.controllers) or "none"
    raise HostUnsupported(
        f"{what} limit requested but controller '{controller}' is not in {where} (has: {has})",
        hint="run the daemon as a systemd user service with Delegate=yes: "
        "rootless system service install",
    )


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
