"""How long a container may run: it is stopped when its time is up.

The end is a point in time of the record (``ContainerState.ends_ns``), so a new daemon goes
on with it; an automatic restart does not move it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from rootless.engine.core import Core
from rootless.engine.unit import Unit
from rootless.errors import NotFound, NotModified
from rootless.model.records import ContainerState
from rootless.units import go_duration

MOST_GRACE = 60
"""Seconds; a container that asks for a longer stop timeout would choose its own end."""


def ends_ns(unit: Unit) -> int:
    """When the container that starts now has to end; 0 for never."""
    assert unit.admitted is not None
    seconds = unit.admitted.spec.timeout
    return unit.record.state.ends_ns or (time.time_ns() + seconds * 10**9 if seconds else 0)


def is_over(state: ContainerState) -> bool:
    """Whether the time of a container is up, so that nothing starts it again by itself."""
    return 0 < state.ends_ns <= time.time_ns()


def watch(core: Core, unit: Unit, stop: Callable[[int], Awaitable[None]]) -> None:
    """See to it that a running container ends in time; ``stop`` takes the seconds until SIGKILL."""
    forget(unit)
    unit.time_is_up = ""
    if unit.record.state.ends_ns:
        work = _end(core, unit, stop)
        unit.lifetime_task = core.background(work, f"the end of the time of {unit.record.name}")


def forget(unit: Unit) -> None:
    """It does not run any more. What stops it at the end of its time finishes that."""
    if unit.lifetime_task is not None and not unit.time_is_up:
        unit.lifetime_task.cancel()
    unit.lifetime_task = None


async def _end(core: Core, unit: Unit, stop: Callable[[int], Awaitable[None]]) -> None:
    state = unit.record.state
    await asyncio.sleep(max(state.ends_ns - time.time_ns(), 0) / 1e9)
    length = go_duration(round((state.ends_ns - state.started_ns) / 1e9) * 10**9)
    unit.time_is_up = f"stopped: its time was up, after {length} (lifetime)"
    core.registry.publish(unit, "timeout", lifetime=length)
    wanted = unit.record.spec.stop_timeout
    try:
        await stop(min(wanted, MOST_GRACE) if wanted >= 0 else MOST_GRACE)
    except (NotModified, NotFound):
        return  # it ended by itself just now
