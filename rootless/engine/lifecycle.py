"""Starting, stopping, ending and removing a container.

Every failure undoes what it made. The record is written before a process can
run, so that a crash leaves at most a record of something that is not there,
which recovery mends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rootless.engine import cgroups, layout, lifetime, links, notices, restart, starting
from rootless.engine.core import Core
from rootless.engine.logcheck import check_sink
from rootless.engine.resolve_process import parse_signal
from rootless.engine.states import denied_names, network_state
from rootless.engine.unit import Unit
from rootless.engine.volume_ranges import VolumeRanges
from rootless.errors import Conflict, NotFound, NotModified, RootlessError, StartFailed
from rootless.linux import cgroupfs, procfs
from rootless.model.identity import Identity
from rootless.model.records import ContainerState, ContainerStatus, Health, NetworkState

if TYPE_CHECKING:
    from rootless.network.driver import NetworkState as Connection
    from rootless.runtime.launcher_client import Created
    from rootless.runtime.shim_client import ExitStatus

_log = logging.getLogger(__name__)
LOST_EXIT_CODE = 255
"""When nobody recorded how the process ended (a shim killed with SIGKILL)."""


class Lifecycle:
    """Transitions of containers."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.volume_ranges = VolumeRanges(core)
        self.on_running: Callable[[Unit], None] | None = None
        """Called when a container started (healthchecks)."""
        self.remove_volumes: Callable[[Unit], Coroutine[object, object, None]] | None = None

    # -- start ---------------------------------------------------------------

    async def start(self, unit: Unit, identity: Identity, *, anew: bool = True) -> None:
        """Start a container that does not run; NotModified when it does.

        ``anew`` is false for what goes on after an interruption: its lifetime does too.
        """
        async with unit.lock:
            starting.check_startable(unit)
            if anew:
                links.check_running(unit.record.spec, self._core.registry)
            self._cancel_restart(unit)
            state = replace(unit.record.state, stopped_by_user=False, restart_count=0)
            unit.record = replace(
                unit.record, state=replace(state, ends_ns=0 if anew else state.ends_ns)
            )
            unit.restart_delay = 0.0
            await self._start(unit, identity)

    async def _start(self, unit: Unit, identity: Identity) -> None:
        before = unit.record.state
        try:
            async with self.volume_ranges.claim(unit):
                await self._launch(unit, identity)
        except BaseException as error:
            self._failed(unit, before, error)
            if unit.record.spec.auto_remove and not isinstance(error, asyncio.CancelledError):
                await self._remove(unit)
            raise
        finally:
            unit.starting = False

    async def _launch(self, unit: Unit, identity: Identity) -> None:
        from rootless.runtime.shim_client import ShimClient

        core, directory = self._core, unit.directory
        admitted = await starting.admit(core, unit, identity)
        spec = admitted.spec
        await unit.released()
        places = core.networks.allocate(unit, spec, starting.servers(spec))
        plan, key, files_due = starting.plan_start(core, unit, admitted)
        await core.spare_cgroup.gone(plan.cgroup)
        unit.cgroup = layout.make_cgroup(core, spec)
        launcher = await core.launcher()
        await check_sink(plan.log, (core.settings.exec_root, core.settings.data_root))
        await unit.made()
        late = partial(starting.write_etc, core, unit, spec) if files_due else None
        created = await launcher.create(plan, key=key, meanwhile=late)
        unit.admitted = admitted
        created.on_log = starting.log_speaker(unit)
        try:
            connection = await core.network.connect(
                spec.network,
                unit.id,
                netns_fd=created.netns_fd,
                userns_fd=created.userns_fd,
                exit_fd=created.exit_fd,
                init_pid=created.init_pid,
                shim_pid=created.shim_pid,
                plan=places,
                report=lambda state, reason: self.network_changed(unit, state, reason),
            )
            # It listens: it was its shim that said "created".
            unit.shim = shim = ShimClient(directory)
            unit.init_start = starting.start_of(created.init_pid)
            waiting = tuple(unit.pending)
            for each in waiting:
                await each.ask(shim)
            self._running(unit, created, connection)
            await created.go(listen=True)
            for each in waiting:
                await each.join_late(shim)
            shim.ending = created.ended
        except BaseException as error:
            if (failure := await starting.abandon(core, unit, created, error)) is not None:
                raise failure from error
            raise
        finally:
            created.close_fds()
        core.spares.started(unit, plan)
        links.has_come(unit, core.registry)
        notices.started(core, unit)
        unit.pending.clear()
        unit.watch_task = asyncio.ensure_future(self.watch(unit))
        self.watch_lifetime(unit)
        if self.on_running is not None:
            self.on_running(unit)

    def watch_lifetime(self, unit: Unit) -> None:
        """Stop it when its time is up."""
        lifetime.watch(
            self._core, unit, lambda seconds: self.stop(unit, timeout=seconds, signal_name="")
        )

    def _running(self, unit: Unit, created: Created, connection: Connection) -> None:
        state = unit.record.state
        healthcheck = unit.record.spec.healthcheck
        checked = healthcheck is not None and healthcheck.test[:1] not in ((), ("NONE",))
        self._core.registry.transition(
            unit,
            replace(
                state,
                status="running",
                pid=created.init_pid,
                shim_pid=created.shim_pid,
                exit_code=0,
                error="",
                started_ns=time.time_ns(),
                ends_ns=lifetime.ends_ns(unit),
                oom_killed=False,
                denied_calls=(),
                health=Health() if checked else None,
            ),
            network_state(connection, unit.endpoints),
        )
        unit.ended.clear()

    def _failed(self, unit: Unit, before: ContainerState, error: BaseException) -> None:
        """The start did not happen: nothing runs, and inspect says why."""
        for waiting in tuple(unit.pending):
            waiting.fail()
        unit.pending.clear()
        unit.shim = None
        unit.endpoints = ()
        cgroups.drop(self._core, unit)
        code = error.exit_code if isinstance(error, StartFailed) else 125
        text = str(error) if isinstance(error, RootlessError) else "the start was interrupted"
        status: ContainerStatus = "exited" if before.finished_ns else "created"
        self._core.registry.transition(
            unit,
            replace(
                before,
                status=status,
                pid=0,
                shim_pid=0,
                exit_code=code,
                error=text,
                health=None,
            ),
            NetworkState(),
        )
        unit.ended.set()
        unit.notify("not-running", "next-exit", error=text)

    def network_changed(self, unit: Unit, connection: Connection | None, reason: str) -> None:
        """A helper of a running container's network ended, for a ``reason``, or all run again."""
        state = unit.record.state
        if connection is None or unit.ended.is_set() or not state.running:
            return
        name = unit.record.name
        if reason:
            _log.warning("container %s lost its network: %s", name, reason)
            text = f"the container lost its network, which is being restored: {reason}"
            network = network_state(connection, unit.endpoints, lost=True)
            self._core.registry.transition(unit, replace(state, error=text), network)
            self._core.registry.publish(unit, "network_lost", reason=reason)
        else:
            _log.warning("container %s has its network again", name)
            network = network_state(connection, unit.endpoints)
            self._core.registry.transition(unit, replace(state, error=""), network)
            self._core.registry.publish(unit, "network_restored")

    # -- end -----------------------------------------------------------------

    async def watch(self, unit: Unit) -> None:
        """Wait for the end of the process and follow it up."""
        assert unit.shim is not None
        from rootless.runtime.shim_client import ExitStatus

        try:
            status = await unit.shim.wait()
            lost = ""
        except (NotFound, RootlessError):
            lost = "the process that watched the container was killed; its exit status is unknown"
            await self._kill_orphan(unit)
            status = ExitStatus(LOST_EXIT_CODE, time.time_ns(), oom_killed=False)
        self.ended(unit, status, error=lost)

    async def _kill_orphan(self, unit: Unit) -> None:
        """Init dies with its shim, unless executing a file with capabilities cleared that wish.

        (prctl(2), PR_SET_PDEATHSIG)
        """
        state = unit.record.state
        while state.pid and procfs.is_alive(state.pid, unit.init_start):
            if unit.cgroup:
                await asyncio.to_thread(cgroupfs.kill, unit.cgroup)
            else:
                await self._core.call("engine.inside.kill", pid=state.pid, start=unit.init_start)
            await asyncio.sleep(0.01)

    def ended(self, unit: Unit, status: ExitStatus, *, error: str = "") -> None:
        """Record the end of the process and decide what follows."""
        core, state = self._core, unit.record.state
        unit.shim = None
        ran_for = (status.finished_ns - state.started_ns) / 1e9
        verdict = restart.after_exit(
            unit.record.spec.restart,
            exit_code=status.code,
            stopped_by_user=state.stopped_by_user,
            restart_count=state.restart_count,
            ran_for=ran_for,
            previous_delay=unit.restart_delay,
        )
        if core.stopping:
            verdict = restart.Verdict(restart=False)
        after = replace(
            state,
            status="restarting" if verdict.restart else "exited",
            pid=0,
            shim_pid=0,
            exit_code=status.code,
            error=error or unit.time_is_up,
            finished_ns=status.finished_ns,
            oom_killed=status.oom_killed,
            denied_calls=denied_names(status),
            health=None if state.health is None else replace(state.health, status="unhealthy"),
        )
        if unit.health_task is not None:
            unit.health_task.cancel()
        if not verdict.restart:
            lifetime.forget(unit)
        auto_remove = unit.record.spec.auto_remove and not verdict.restart
        if auto_remove and not error:
            # It is removed in a moment: that transition is written then.
            unit.record = replace(unit.record, state=after)
        else:
            core.registry.transition(unit, after, NetworkState())
        if status.oom_killed:
            core.registry.publish(unit, "oom")
        for name, count in after.denied_calls:
            core.registry.publish(unit, "seccomp_denied", call=name, count=str(count))
        notices.ended(core, unit, exit_code=status.code, ran_for=ran_for)
        # Taken now: whoever waits for the end may start it again at once.
        cgroups.drop(core, unit)
        what = f"the network of {unit.record.name}"
        unit.release(core.background(self._leave_networks(unit), what))
        unit.ended.set()
        unit.notify("not-running", "next-exit")  # also of one that is restarted, as in Docker
        core.background(self._after_end(unit, verdict), f"the end of {unit.record.name}")

    async def _leave_networks(self, unit: Unit) -> None:
        """Its addresses are free when nothing answers to them any more."""
        try:
            await self._core.network.disconnect(unit.id)
        finally:
            unit.endpoints = ()

    async def _after_end(self, unit: Unit, verdict: restart.Verdict) -> None:
        await unit.released()
        if verdict.restart:
            unit.restart_delay = verdict.delay
            unit.restart_task = asyncio.ensure_future(self._restart_later(unit, verdict.delay))
        elif unit.record.spec.auto_remove:
            async with unit.lock:
                if not unit.removed and unit.ended.is_set():
                    await self._remove(unit)

    async def _restart_later(self, unit: Unit, delay: float) -> None:
        await asyncio.sleep(delay)
        async with unit.lock:
            if unit.removed or unit.record.state.status != "restarting":
                return
            unit.restart_task = None
            state = unit.record.state
            unit.record = replace(
                unit.record, state=replace(state, restart_count=state.restart_count + 1)
            )
            try:
                await self._start(unit, unit.record.identity)
            except RootlessError as error:
                _log.warning("restart of %s failed: %s", unit.record.name, error)

    def _cancel_restart(self, unit: Unit) -> bool:
        if unit.restart_task is None:
            return False
        unit.restart_task.cancel()
        unit.restart_task = None
        return True

    # -- stop and kill -------------------------------------------------------

    async def stop(self, unit: Unit, *, timeout: int | None, signal_name: str) -> None:
        """Ask the process to end, then make it; NotModified when it does not run."""
        number = parse_signal(signal_name, default=unit.record.spec.stop_signal)
        async with unit.lock:
            if self._stop_restarting(unit):
                self._core.registry.publish(unit, "stop")
                return
            if not unit.record.state.running:
                raise NotModified(f"container {unit.record.name} is not running")
            await self._stop(unit, timeout=timeout, number=number)

    def _stop_restarting(self, unit: Unit) -> bool:
        if unit.record.state.status != "restarting":
            return False
        self._cancel_restart(unit)
        state = replace(
            unit.record.state, status="exited", stopped_by_user=True, error=unit.time_is_up
        )
        lifetime.forget(unit)
        self._core.registry.transition(unit, state)
        unit.notify("not-running", "next-exit")
        return True

    async def _stop(self, unit: Unit, *, timeout: int | None, number: int) -> None:
        seconds = unit.record.spec.stop_timeout if timeout is None else timeout
        self._mark_stopped(unit)
        if unit.record.state.status == "paused":
            await self.set_frozen(unit, frozen=False)
        await self._send(unit, number)
        if not await self._wait_end(unit, None if seconds < 0 else float(seconds)):
            await self._send(unit, signal.SIGKILL)
            await unit.ended.wait()
        self._core.registry.publish(unit, "stop")

    def _mark_stopped(self, unit: Unit) -> None:
        state = replace(unit.record.state, stopped_by_user=True)
        self._core.registry.transition(unit, state)

    @staticmethod
    async def _wait_end(unit: Unit, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await unit.ended.wait()
        except TimeoutError:
            return False
        return True

    async def signal(self, unit: Unit, number: int) -> None:
        """Send a signal to the first process; fine when it just ended.

        SIGKILL is for all in the cgroup, where the first process was born.
        """
        if number == signal.SIGKILL and unit.cgroup:
            await asyncio.to_thread(cgroupfs.kill, unit.cgroup)
            return
        shim = unit.shim
        if shim is None:
            return
        try:
            await shim.signal(number)
        except NotFound:
            return

    async def _send(self, unit: Unit, number: int) -> None:
        """:meth:`signal` somebody asked for; told before the process can end because of it."""
        self._core.registry.publish(unit, "kill", signal=str(int(number)))
        await self.signal(unit, number)

    async def kill(self, unit: Unit, signal_name: str) -> None:
        """``kill``: any signal, without waiting unless it is SIGKILL."""
        number = parse_signal(signal_name, default=signal.SIGKILL)
        while unit.record.state.status == "restarting":
            async with unit.lock:  # whoever holds it may be starting the container again
                if self._stop_restarting(unit):
                    return
        state = unit.record.state
        if not state.running:
            raise Conflict(
                f"cannot kill container: {unit.record.name}: container {unit.id} is not running"
            )
        if number in (signal.SIGKILL, unit.record.spec.stop_signal):
            self._mark_stopped(unit)
        if state.status == "paused" and number == signal.SIGKILL:
            await self.set_frozen(unit, frozen=False)
        await self._send(unit, number)
        if number == signal.SIGKILL:
            await unit.ended.wait()

    async def restart(
        self, unit: Unit, identity: Identity, *, timeout: int | None, signal_name: str
    ) -> None:
        """Stop when it runs, then start."""
        number = parse_signal(signal_name, default=unit.record.spec.stop_signal)
        async with unit.lock:
            if unit.removed:
                raise NotFound(f"No such container: {unit.id}")
            self._cancel_restart(unit)
            if unit.record.state.running:
                await self._stop(unit, timeout=timeout, number=number)
            state = replace(unit.record.state, stopped_by_user=False, ends_ns=0)
            unit.record = replace(unit.record, state=state)
            await self._start(unit, identity)
        self._core.registry.publish(unit, "restart")

    async def set_frozen(self, unit: Unit, *, frozen: bool) -> bool:
        """Freeze or thaw the container's cgroup and record it; False when it ended meanwhile."""
        try:
            if unit.cgroup:
                await asyncio.to_thread(cgroupfs.freeze, unit.cgroup, frozen=frozen)
        except RootlessError:
            if not unit.ended.is_set():
                raise
        if unit.ended.is_set():
            return False
        state = replace(unit.record.state, status="paused" if frozen else "running")
        self._core.registry.transition(unit, state)
        return True

    # -- removal -------------------------------------------------------------

    async def remove(self, unit: Unit, *, force: bool, volumes: bool) -> None:
        """Remove a container; with ``force`` a running one is killed first."""
        state = unit.record.state
        if not force and state.status in ("running", "paused", "restarting"):
            self._refuse_removal(unit)
        if force and state.running:
            await self.kill(unit, "KILL")
        async with unit.lock:
            if unit.removed:
                raise NotFound(f"No such container: {unit.id}")
            self._stop_restarting(unit)
            if unit.record.state.running:  # perhaps only since it was restarted
                if not force:
                    self._refuse_removal(unit)
                await self.kill(unit, "KILL")
            await self._remove(unit, volumes=volumes)

    @staticmethod
    def _refuse_removal(unit: Unit) -> None:
        status = unit.record.state.status
        what = {
            "paused": "container is paused and must be unpaused first",
            "restarting": "container is restarting: stop the container before removing or "
            "force remove",
        }.get(status, "container is running: stop the container before removing or force remove")
        raise Conflict(f'cannot remove container "/{unit.record.name}": {what}')

    async def _remove(self, unit: Unit, *, volumes: bool = False) -> None:
        """The directory goes first: recovery takes a record without one for removed."""
        core = self._core
        if unit.making is not None:
            await asyncio.wait([unit.making])
        await unit.released()
        await cgroups.await_gone(core, unit)
        if (volumes or unit.record.spec.auto_remove) and self.remove_volumes is not None:
            # While the record still names them: a crash in between would leave them for ever.
            await self.remove_volumes(unit)
        core.discard(unit.directory)
        core.registry.remove(unit)
        for waiting in tuple(unit.pending):
            waiting.fail()
        unit.pending.clear()
        core.registry.publish(unit, "destroy")
        unit.notify("removed", "not-running", "next-exit")
