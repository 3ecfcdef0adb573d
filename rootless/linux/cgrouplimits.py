"""Limits: from the API's ``Resources`` to cgroup v2 files, and whether the host can keep them."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux import cgroupfs
from rootless.model.facts import CgroupFacts
from rootless.model.request import Resources

_PERIOD = 100_000
_FIX = "sudo rootless setup (delegates controllers), or leave the limit away"


def needed_controllers(resources: Resources) -> tuple[tuple[str, str], ...]:
    """(limit asked for, controller that keeps it), in the order of the controllers.

    pids is not among them: without the controller RLIMIT_NPROC keeps that limit.
    """
    asked = {
        "memory": resources.memory or resources.memory_swap or resources.memory_reservation,
        "cpu": resources.nano_cpus
        or resources.cpu_shares
        or resources.cpu_quota
        or resources.cpu_period,
        "cpuset": resources.cpuset_cpus or resources.cpuset_mems,
        "io": resources.blkio_weight
        or resources.blkio_weight_device
        or resources.blkio_read_bps
        or resources.blkio_write_bps
        or resources.blkio_read_iops
        or resources.blkio_write_iops,
    }
    return tuple((name, name) for name, value in asked.items() if value)


def check_resources(resources: Resources, facts: CgroupFacts) -> None:
    """Refuse what this host cannot keep; returns when every limit asked for can be.

    Raises HostUnsupported that names the limit, the controller and the fix.
    """
    if resources.memory_swappiness not in (None, -1):
        raise HostUnsupported(
            "memory swappiness requested but cgroup v2 has no such setting for one cgroup",
            hint="limit swap instead: --memory-swap",
        )
    if resources.oom_kill_disable:
        raise HostUnsupported(
            "OOM killer asked to be off but cgroup v2 always ends a process over its limit",
            hint="leave --oom-kill-disable away",
        )
    for limit, controller in needed_controllers(resources):
        if controller not in facts.controllers or not facts.delegated:
            raise HostUnsupported(
                f"{limit} limit requested but {_absence(controller, facts)}",
                hint=_FIX,
                context={"controller": controller},
            )


def _absence(controller: str, facts: CgroupFacts) -> str:
    if facts.version != 2:
        return f"controller '{controller}' cannot be used: no cgroup2 file system is mounted"
    if not facts.delegated:
        return (
            f"controller '{controller}' cannot be used: no cgroup below {facts.root} "
            "is delegated to this user"
        )
    has = " ".join(facts.controllers) or "none"
    return f"controller '{controller}' is not in {facts.delegated}/cgroup.controllers (has: {has})"


def keeps_pids(facts: CgroupFacts) -> bool:
    """Can the pids controller keep ``--pids-limit``? Otherwise RLIMIT_NPROC must."""
    return bool(facts.delegated) and "pids" in facts.controllers


def cpu_weight(shares: int) -> int:
    """``cpu.weight`` (1 to 10000) of Docker's ``--cpu-shares`` (2 to 262144).

    The curve of the OCI runtimes since 2025: a line in the logarithm would miss
    the defaults, this one maps 2 → 1, 1024 → 100 and 262144 → 10000, so that a
    container with default shares weighs as much as a cgroup nobody configured.
    """
    shares = min(max(shares, 2), 262_144)
    log = math.log2(shares)
    return math.ceil(round(10 ** ((log * log + 125 * log) / 612 - 7 / 34), 6))


def io_weight(weight: int) -> int:
    """``io.weight`` (1 to 10000) of Docker's ``--blkio-weight`` (10 to 1000)."""
    return 1 + (weight - 10) * 9999 // 990


def limit_writes(resources: Resources) -> tuple[tuple[str, str], ...]:
    """(control file, value) in the order to write them; only for what was asked."""
    return (*_memory(resources), *_cpu(resources), *_pids(resources), *_io(resources))


def _memory(resources: Resources) -> Iterator[tuple[str, str]]:
    if resources.memory:
        yield "memory.max", _bytes(resources.memory)
    if resources.memory_reservation:
        # Docker's reservation is soft: reclaim spares this much (memory.low).
        yield "memory.low", _bytes(resources.memory_reservation)
    if resources.memory_swap == -1:
        yield "memory.swap.max", "max"
    elif resources.memory_swap:
        if resources.memory <= 0:
            raise InvalidInput("a swap limit needs a memory limit", hint="set --memory as well")
        if resources.memory_swap < resources.memory:
            raise InvalidInput(
                "Minimum memoryswap limit should be larger than memory limit",
                hint="--memory-swap is memory plus swap",
            )
        yield "memory.swap.max", str(resources.memory_swap - resources.memory)
    elif resources.memory > 0:
        # Docker: an unset --memory-swap allows as much swap as memory.
        yield "memory.swap.max", str(resources.memory)


def _cpu(resources: Resources) -> Iterator[tuple[str, str]]:
    if resources.nano_cpus:
        yield "cpu.max", f"{max(resources.nano_cpus * _PERIOD // 10**9, 1000)} {_PERIOD}"
    elif resources.cpu_quota or resources.cpu_period:
        quota = str(resources.cpu_quota) if resources.cpu_quota > 0 else "max"
        yield "cpu.max", f"{quota} {resources.cpu_period or _PERIOD}"
    if resources.cpu_shares:
        yield "cpu.weight", str(cpu_weight(resources.cpu_shares))
    if resources.cpuset_cpus:
        yield "cpuset.cpus", resources.cpuset_cpus
    if resources.cpuset_mems:
        yield "cpuset.mems", resources.cpuset_mems


def _pids(resources: Resources) -> Iterator[tuple[str, str]]:
    if resources.pids_limit is not None:
        yield "pids.max", str(resources.pids_limit) if resources.pids_limit > 0 else "max"


def _io(resources: Resources) -> Iterator[tuple[str, str]]:
    if resources.blkio_weight:
        yield "io.weight", f"default {io_weight(resources.blkio_weight)}"
    for device, weight in resources.blkio_weight_device:
        yield "io.weight", f"{device_number(device)} {io_weight(weight)}"
    limits = (
        ("rbps", resources.blkio_read_bps),
        ("wbps", resources.blkio_write_bps),
        ("riops", resources.blkio_read_iops),
        ("wiops", resources.blkio_write_iops),
    )
    for key, entries in limits:
        for device, rate in entries:
            yield "io.max", f"{device_number(device)} {key}={rate or 'max'}"


def device_number(path: str) -> str:
    """``major:minor`` of a block device."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidInput(f"cannot limit device {path}: {error.strerror}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidInput(f"cannot limit {path}: it is not a block device")
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"


def _bytes(count: int) -> str:
    return "max" if count < 0 else str(count)


def write_limits(path: str, resources: Resources, facts: CgroupFacts) -> None:
    """Set every limit asked for on the cgroup at ``path``; the first that fails raises.

    A host without swap accounting has no ``memory.swap.max``; there only an
    explicit swap limit is an error, the implied one has nothing to bound.
    """
    check_resources(resources, facts)
    here = Path(path)
    for name, value in limit_writes(resources):
        if name == "pids.max" and not keeps_pids(facts):
            continue
        implied = name == "memory.swap.max" and not resources.memory_swap
        if implied and not (here / name).exists():
            continue
        cgroupfs.write(here / name, value)
