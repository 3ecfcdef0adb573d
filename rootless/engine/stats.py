"""Samples of what a container uses: its cgroup where it has one, else its processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from rootless.engine.unit import Unit
from rootless.linux import cgroupfs, procfs
from rootless.model.records import CpuSample, NetworkSample, Stats

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_INTERVAL = 1.0


async def sample_stream(unit: Unit, *, stream: bool, one_shot: bool) -> AsyncIterator[Stats]:
    """Samples until the container is removed; two for one that is not one-shot, as Docker."""
    previous = await asyncio.to_thread(sample, unit)
    if one_shot or not (stream or unit.record.state.running):
        yield previous
        return
    if stream:
        yield previous
    while not unit.removed:
        await asyncio.sleep(_INTERVAL)
        if unit.removed:
            return
        now = await asyncio.to_thread(sample, unit)
        yield replace(now, previous=previous.cpu, previous_ns=previous.read_ns)
        if not stream:
            return
        previous = now


def sample(unit: Unit) -> Stats:
    """One reading; zeros for a container that does not run."""
    record = unit.record
    empty = Stats(id=record.id, name=record.name, read_ns=time.time_ns())
    if not record.state.running:
        return empty
    found = replace(empty, networks=network_samples(record.state.pid))
    counted = _from_cgroup(found, unit.cgroup) if unit.cgroup else found
    if counted.pids and counted.memory_usage:
        return counted
    # What no controller counts: the processes that live now.
    summed = _from_processes(found, record.state.pid)
    limit = record.spec.resources.pids_limit or 0
    return replace(
        counted if unit.cgroup else summed,
        pids=counted.pids or summed.pids,
        pids_limit=counted.pids_limit or limit,
        memory_usage=counted.memory_usage or summed.memory_usage,
        memory_limit=counted.memory_limit or summed.memory_limit,
    )


def system_cpu() -> tuple[int, int]:
    """(nanoseconds all CPUs spent since boot, number of CPUs), from /proc/stat."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks) * _TICK_NS, os.cpu_count() or 1


def memory_total() -> int:
    """Bytes of memory of the host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _from_cgroup(empty: Stats, path: str) -> Stats:
    found = cgroupfs.sample(path)
    system, cpus = system_cpu()
    return replace(
        empty,
        cpu=CpuSample(
            total_ns=found.cpu_usage,
            user_ns=found.cpu_user,
            kernel_ns=found.cpu_system,
            system_ns=system,
            online_cpus=cpus,
            periods=found.periods,
            throttled_periods=found.throttled_periods,
            throttled_ns=found.throttled,
        ),
        pids=found.pids,
        pids_limit=found.pids_limit,
        memory_usage=found.memory_usage,
        memory_limit=found.memory_limit or memory_total(),
        memory=found.memory_stat,
        blkio_read=found.io_read,
        blkio_write=found.io_write,
    )


def _from_processes(empty: Stats, init_pid: int) -> Stats:
    """Sums over the processes that live now: what ended ones used is not in it."""
    user = kernel = memory = count = 0
    try:
        pids = procfs.pids_of_namespace(init_pid)
    except (PermissionError, ProcessLookupError):
        pids = [init_pid, *procfs.descendants(init_pid)]
    for pid in pids:
        try:
            found = procfs.stat(pid)
        except ProcessLookupError:
            continue
        user += found.utime * _TICK_NS
        kernel += found.stime * _TICK_NS
        memory += found.rss
        count += found.threads
    system, cpus = system_cpu()
    return replace(
        empty,
        cpu=CpuSample(user + kernel, user, kernel, system, cpus),
        pids=count,
        memory_usage=memory,
        memory_limit=memory_total(),
    )


def network_samples(pid: int) -> tuple[NetworkSample, ...]:
    """Counters of the container's interfaces but loopback (/proc/PID/net/dev)."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return ()
    found = []
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 16:
            found.append(NetworkSample(name.strip(), *numbers[:4], *numbers[8:12]))
    return tuple(found)
