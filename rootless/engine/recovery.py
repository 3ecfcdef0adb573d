"""What a new daemon does first: find what lives, finish or undo what a crash cut short.

Containers outlive the daemon. For each record the shim's files tell what became
of it: ``exit.json`` (ended while nobody listened), ``shim.json`` with a living
shim (still runs), or neither (the machine went down, or the shim was killed).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rootless.engine import cgroups, inside, layout, lifetime, notices, restart, starting
from rootless.engine.core import Core
from rootless.engine.creation import Creator
from rootless.engine.health import HealthMonitor
from rootless.engine.images import Images
from rootless.engine.lifecycle import LOST_EXIT_CODE, Lifecycle
from rootless.engine.starting import log_speaker
from rootless.engine.states import denied_names, network_state
from rootless.engine.unit import Unit
from rootless.errors import NotFound, RootlessError
from rootless.linux import cgroupfs, procfs
from rootless.model.records import NetworkState

if TYPE_CHECKING:
    from rootless.runtime.shim_client import ShimState

_log = logging.getLogger(__name__)


class Recovery:
    """Brings memory, state.db, processes and files together at start-up."""

    def __init__(
        self,
        core: Core,
        images: Images,
        lifecycle: Lifecycle,
        creator: Creator,
        health: HealthMonitor,
    ) -> None:
        self._core = core
        self._images = images
        self._lifecycle = lifecycle
        self._creator = creator
        self._health = health

    async def run(self) -> None:
        """All of it; what fails for one container is logged and does not stop the rest."""
        core = self._core
        core.registry.load()
        core.networks.load()
        for image_id in self._images.index.load():
            _log.error("image %s is damaged and was forgotten; pull it again", image_id)
        ended = []
        for unit in core.registry:
            was_running = unit.record.state.running
            was_restarting = unit.record.state.status == "restarting"
            if not unit.directory.is_dir():
                await cgroups.await_gone(core, unit)
                self._forget(unit)
                continue
            if (was_running and not await self._reconnect(unit)) or was_restarting:
                ended.append(unit)
        self._sweep_leftovers()
        await cgroups.sweep(core)
        core.networks.settle_default(core.settings)
        await core.network.bridges.reconcile(frozenset(n.id for n in core.networks))
        # A start that a crash cut short leaves a directory although its container exists.
        running = (unit.id for unit in core.registry if unit.record.state.running)
        await core.network.sweep(frozenset(running))
        for unit in core.registry:
            if not unit.record.state.running:
                await cgroups.await_gone(core, unit)
            self._finish(unit, just_ended=unit in ended)

    def _forget(self, unit: Unit) -> None:
        """A record without a directory: removed, or never made."""
        core, record = self._core, unit.record
        _log.warning("container %s has no directory any more and is forgotten", record.name)
        core.registry.remove(unit)
        if self._lifecycle.remove_volumes is not None and (
            record.spec.auto_remove or not record.state.started_ns
        ):
            core.background(self._lifecycle.remove_volumes(unit), f"volumes of {record.name}")

    # -- containers that ran -----------------------------------------------------

    async def _reconnect(self, unit: Unit) -> bool:
        """Take over a container that still runs; False when it ended."""
        from rootless.runtime.shim_client import ShimClient, ShimState, read_exit, read_state

        status = read_exit(unit.directory)
        found = read_state(unit.directory)
        unit.cgroup = self._cgroup(unit, found.init_pid if found is not None else 0)
        if status is None and found is not None and _lives(found):
            try:
                unit.shim = await ShimClient.connect(unit.directory)
                unit.shim.on_log = log_speaker(unit)
            except NotFound:
                # It ended between the two looks; its exit status is there now.
                status = read_exit(unit.directory)
            else:
                assert isinstance(found, ShimState)
                await self._adopt(unit, found)
                return True
        await self._ended(unit, found)
        return False

    def _cgroup(self, unit: Unit, pid: int) -> str:
        """Where its first process is: this daemon may have been given other cgroups than the last.

        Without it an exec would be born outside the container's limits.
        """
        path = layout.cgroup_path(self._core, unit.record.spec)
        if path and os.path.isdir(path):
            return path
        try:
            own = cgroupfs.own_path(Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:
            return ""  # nothing runs
        return self._core.facts.cgroup.root + own if os.path.basename(own) == unit.id else ""

    async def _adopt(self, unit: Unit, found: ShimState) -> None:
        core, state = self._core, unit.record.state
        unit.init_start = found.init_start
        unit.ended.clear()
        network = await self._network(unit)
        core.registry.transition(
            unit,
            replace(state, pid=found.init_pid, shim_pid=found.shim_pid),
            network,
        )
        unit.watch_task = asyncio.ensure_future(self._lifecycle.watch(unit))
        self._health.watch(unit)
        self._lifecycle.watch_lifetime(unit)

    async def _network(self, unit: Unit) -> NetworkState:
        from rootless.network.driver import NetworkState as Connection

        core, text = self._core, unit.record.network.driver_state
        if not text:
            return NetworkState()
        try:
            restored = await core.network.restore(
                unit.id,
                Connection.from_json(json.loads(text)),
                lambda state, reason: self._lifecycle.network_changed(unit, state, reason),
                core.networks.plan_of(unit, starting.servers(unit.record.spec)),
            )
        except RootlessError as error:
            _log.warning("network of %s: %s", unit.record.name, error)
            return NetworkState()
        if restored is None:
            return NetworkState(driver_state=text, endpoints=unit.endpoints)
        return network_state(restored, unit.endpoints)

    async def _ended(self, unit: Unit, found: ShimState | None) -> None:
        """Its process is gone: record how, and release what it held."""
        from rootless.runtime.shim_client import read_exit

        core, state = self._core, unit.record.state
        status = read_exit(unit.directory)
        if found is not None and procfs.is_alive(found.init_pid, found.init_start):
            # Not through the launcher, which may be in another namespace without a living
            # shim: the user owns the one the container is in (user_namespaces(7)).
            inside.kill(found.init_pid, found.init_start)
        await self._network(unit)
        await core.network.disconnect(unit.id)
        unit.endpoints = ()
        error = ""
        if status is None:
            error = "the container ended while the engine was away; its exit status is unknown"
        core.registry.transition(
            unit,
            replace(
                state,
                status="exited",
                pid=0,
                shim_pid=0,
                exit_code=LOST_EXIT_CODE if status is None else status.code,
                error=error,
                finished_ns=time.time_ns() if status is None else status.finished_ns,
                oom_killed=status is not None and status.oom_killed,
                denied_calls=() if status is None else denied_names(status),
                health=None,
            ),
            NetworkState(),
        )
        unit.ended.set()
        after = unit.record.state
        ran_for = (after.finished_ns - after.started_ns) / 1e9
        notices.ended(core, unit, exit_code=after.exit_code, ran_for=ran_for)

    # -- what comes after ---------------------------------------------------------

    def _finish(self, unit: Unit, *, just_ended: bool) -> None:
        core, record = self._core, unit.record
        state = record.state
        if state.running:
            return
        if (record.spec.auto_remove and state.started_ns) or state.status == "removing":
            core.background(self._remove(unit), f"removing {record.name}")
        elif not state.started_ns:
            core.background(self._creator.make_again(unit), f"finishing {record.name}")
        elif not lifetime.is_over(state) and restart.on_daemon_start(
            record.spec.restart,
            stopped_by_user=state.stopped_by_user,
            exit_code=state.exit_code,
            restart_count=state.restart_count,
        ):
            core.background(self._restart(unit), f"restarting {record.name}")
        elif state.status == "restarting" or just_ended:
            core.registry.transition(unit, replace(state, status="exited"))

    async def _remove(self, unit: Unit) -> None:
        state = replace(unit.record.state, status="exited")
        unit.record = replace(unit.record, state=state)
        await self._lifecycle.remove(unit, force=False, volumes=False)

    async def _restart(self, unit: Unit) -> None:
        state = replace(unit.record.state, status="exited")
        self._core.registry.transition(unit, state)
        await self._lifecycle.start(unit, unit.record.identity, anew=False)

    def _sweep_leftovers(self) -> None:
        """What no record speaks of: half-made containers, layers, volumes, archives, and trash."""
        core = self._core
        for path in core.settings.containers_dir.iterdir():
            if core.registry.get(path.name) is None:
                core.discard(path)
        leftovers = [
            *core.housekeeping.leftovers(),
            *core.layers.leftovers(),
            *core.volumes.leftovers(),
        ]
        core.housekeeping.remove(*leftovers)
        self._images.content.sweep()


def _lives(found: ShimState) -> bool:
    return procfs.is_alive(found.shim_pid, found.shim_start)
