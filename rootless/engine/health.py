"""Healthchecks: a probe run by exec at intervals, and what its results mean.

The defaults and the rules are Docker's: failures within the start period do not
count, ``retries`` failures in a row make a container unhealthy, one success
makes it healthy.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from rootless.engine.core import Core
from rootless.engine.execs import Execs
from rootless.engine.unit import Unit
from rootless.errors import RootlessError
from rootless.model.records import Health, HealthProbe
from rootless.model.request import ExecRequest, Healthcheck
from rootless.units import go_duration

_SECOND = 10**9
KEPT_PROBES = 5
OUTPUT_LIMIT = 4096
TIMED_OUT = -1
DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, and how many failures in a row are one too many."""

    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


def timing(check: Healthcheck) -> Timing:
    """The check's times with Docker's defaults."""
    default = Timing()
    return Timing(
        interval=check.interval / _SECOND or default.interval,
        timeout=check.timeout / _SECOND or default.timeout,
        start_period=check.start_period / _SECOND,
        start_interval=check.start_interval / _SECOND or default.start_interval,
        retries=check.retries or default.retries,
    )


class Output:
    """What a probe wrote: its first :data:`OUTPUT_LIMIT` bytes, and dots for the rest."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False

    def add(self, data: bytes) -> None:
        """Take on more."""
        room = OUTPUT_LIMIT - len(self._kept)
        self._kept += data[:room]
        self._cut = self._cut or len(data) > room

    def __str__(self) -> str:
        return self._kept.decode(errors="replace") + "..." * self._cut


def command(check: Healthcheck, shell: tuple[str, ...]) -> tuple[str, ...]:
    """What is executed; empty when there is nothing to check."""
    if not check.test or check.test[0] == "NONE":
        return ()
    if check.test[0] == "CMD-SHELL":
        return (*(shell or DEFAULT_SHELL), *check.test[1:])
    return check.test[1:]


def after_probe(
    health: Health, probe: HealthProbe, *, retries: int, in_start_period: bool
) -> Health:
    """The health after one more probe."""
    log = (*health.log, probe)[-KEPT_PROBES:]
    if probe.exit_code == 0:
        return Health("healthy", 0, log)
    if health.status == "starting" and in_start_period:
        return replace(health, log=log)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= retries else health.status
    return Health(status, streak, log)


def _is_new(unit: Unit, times: Timing, now_ns: int) -> bool:
    """Whether it is in its start period, which a restart of the daemon does not begin anew."""
    return now_ns - unit.record.state.started_ns < times.start_period * _SECOND


class HealthMonitor:
    """Runs the probes of all containers that have a check."""

    def __init__(self, core: Core, execs: Execs) -> None:
        self._core = core
        self._execs = execs

    def watch(self, unit: Unit) -> None:
        """Begin (again) with a container that runs; nothing without a check."""
        check = unit.record.spec.healthcheck
        if check is None or not command(check, unit.record.config.shell):
            return
        if unit.health_task is not None:
            unit.health_task.cancel()
        unit.health_task = asyncio.ensure_future(self._run(unit, check))

    async def _run(self, unit: Unit, check: Healthcheck) -> None:
        times = timing(check)
        arguments = command(check, unit.record.config.shell)
        while not unit.ended.is_set():
            health = unit.record.state.health or Health()
            early = _is_new(unit, times, time.time_ns()) and health.status == "starting"
            await asyncio.sleep(times.start_interval if early else times.interval)
            if unit.ended.is_set():
                return
            if unit.record.state.status == "paused":
                continue
            probe = await self._probe(unit, arguments, times.timeout)
            if probe is None or unit.ended.is_set():
                return
            in_start = _is_new(unit, times, probe.start_ns)
            self._record(
                unit,
                after_probe(health, probe, retries=times.retries, in_start_period=in_start),
            )

    def _record(self, unit: Unit, health: Health) -> None:
        state = unit.record.state
        before = state.health.status if state.health else "starting"
        self._core.registry.transition(unit, replace(state, health=health))
        if health.status != before:
            self._core.registry.publish(unit, f"health_status: {health.status}")

    async def _probe(
        self, unit: Unit, arguments: tuple[str, ...], timeout: float
    ) -> HealthProbe | None:
        """One run; None when the container ended under it."""
        request = ExecRequest(arguments, attach_stdout=True, attach_stderr=True)
        began = time.time_ns()
        output = Output()
        exec_id = ""
        try:
            exec_id = await self._execs.create(unit.record.identity, unit.id, request)
            streams = await self._execs.start(unit.record.identity, exec_id, detach=False)
            assert streams is not None
            # Only now: what the engine takes to start a process is not the check's time.
            async with asyncio.timeout(timeout):
                async for _, data in streams:
                    output.add(data)
                code = await self._execs.wait(exec_id)
        except TimeoutError:
            await self._execs.kill(exec_id)
            text = f"Health check exceeded timeout ({go_duration(round(timeout * _SECOND))})"
            said = str(output)
            return HealthProbe(
                began, time.time_ns(), TIMED_OUT, f"{text}: {said}" if said else text
            )
        except RootlessError as error:
            if unit.ended.is_set():
                return None
            return HealthProbe(began, time.time_ns(), TIMED_OUT, str(error))
        return HealthProbe(began, time.time_ns(), code, str(output))
