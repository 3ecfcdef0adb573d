"""What the engine calls: connect a created container, disconnect it, find it again.

Loopback inside the container is brought up by the sandbox's own init in every
mode; here are only the ways out. A helper that dies while its container lives
is started again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from rootless.errors import Conflict, RootlessError, Unavailable
from rootless.ids import SHORT_LENGTH
from rootless.model.network import BRIDGE
from rootless.model.request import PortBinding
from rootless.model.spec import NetworkSpec
from rootless.network import addresses, connection, helper, slirp
from rootless.network.bridges import BridgePlan, Bridges
from rootless.network.connection import Connection, NetworkState
from rootless.network.place import SLIRP, Descriptors, PlaceGone, find, reopened
from rootless.network.ports import DEFAULT_HOST_IP, PortTable

__all__ = ["NetworkDriver", "NetworkState"]

_log = logging.getLogger(__name__)

STEADY = 60.0
"""Seconds after which helpers that died are started again at once."""
FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
"""Seconds before the second try, and at most; each try waits twice as long as the one before."""

Report = Callable[[NetworkState | None, str], None]
"""Called with why a helper ended, with '' when all run again, and with None at the end of all."""


class NetworkDriver:
    """Networks of all containers; one object, used from the daemon's event loop only."""

    def __init__(
        self,
        run_dir: str,
        *,
        data_root: str = "",
        default_ip: str = DEFAULT_HOST_IP,
        mtu: int = slirp.MTU,
    ) -> None:
        """``run_dir`` is $XDG_RUNTIME_DIR/rootless; ``default_ip`` daemon.json's ``ip``.

        What is to be found again when the run-time directory is lost goes to ``data_root``.
        """
        self._mtu = mtu
        self._root = os.path.join(run_dir, "slirp")
        self.bridges = Bridges(os.path.join(data_root or run_dir, "network"), run_dir)
        self.ports = PortTable(default_ip=default_ip)
        self._running: dict[str, Connection] = {}
        self._reports: dict[str, Report | None] = {}

    @staticmethod
    def warm() -> None:
        """Start what the first connection would otherwise wait for."""
        helper.open_starter()

    async def connect(
        self,
        spec: NetworkSpec,
        container_id: str,
        *,
        netns_fd: int = -1,
        userns_fd: int = -1,
        exit_fd: int = -1,
        init_pid: int = 0,
        shim_pid: int = 0,
        plan: BridgePlan | None = None,
        report: Report | None = None,
    ) -> NetworkState:
        """Connect a container whose init waits for ``go``; nothing is left behind on an error.

        In modes slirp4netns and bridge the three descriptors are needed: the
        container's network and user namespace and the read end of a pipe whose
        write end its shim holds; they stay the caller's. With the two processes a
        helper that dies is started again, and ``report`` is told. ``plan`` is
        where a container in mode bridge is to be.
        """
        if spec.mode not in (SLIRP, BRIDGE):
            return NetworkState(spec.mode, ipv6=spec.ipv6)
        fds = Descriptors(netns_fd, userns_fd, exit_fd)
        place = find(fds, init_pid=init_pid, shim_pid=shim_pid)
        made = Connection(
            NetworkState(
                spec.mode,
                self.ports.reserve(container_id, _published(spec, plan)),
                _mac(spec, container_id),
                spec.ipv6,
                directory=self._directory(container_id),
                place=place,
                mtu=self._mtu,
            )
        )
        try:
            if plan is not None:
                told = self._bridge_report(container_id, report)
                plan = _with_ports(plan, made.state)
                await self.bridges.attach(container_id, plan, fds, place, told)
            await made.start_missing(fds)
        except BaseException:
            self.ports.release(container_id)
            slirp.remove_directory(made.state.directory)
            await self.bridges.detach(container_id)
            raise
        self.ports.update(container_id, made.state.ports)
        self._running[container_id] = made
        self._reports[container_id] = report
        self._supervise(container_id, made, report)
        return made.state

    async def disconnect(self, container_id: str) -> None:
        """End a container's helpers and free its ports; fine when there are none."""
        found = self._running.pop(container_id, None)
        self._reports.pop(container_id, None)
        await self.bridges.detach(container_id)
        if found is not None:
            await found.end(wait=bool(self.ports.of(container_id)))
        self.ports.release(container_id)

    async def restore(
        self,
        container_id: str,
        state: NetworkState,
        report: Report | None = None,
        plan: BridgePlan | None = None,
    ) -> NetworkState | None:
        """Take over a running container after a daemon restart.

        None when one of its helpers has ended; it is started again if the
        container runs, and ``report`` hears of it. The ports returned are those
        that are really forwarded.
        """
        if state.mode not in (SLIRP, BRIDGE):
            return state
        if plan is not None:
            told = self._bridge_report(container_id, report)
            plan = _with_ports(plan, state)
            self.bridges.restore(container_id, plan, state.place, told)
        found = connection.found_again(state)
        if found.slirp is not None:
            found.state = replace(state, ports=await connection.forwarded(container_id, found))
        self.ports.adopt(container_id, found.state.ports)
        self._running[container_id] = found
        self._reports[container_id] = report
        self._supervise(container_id, found, report)
        return found.state if found.repair is None else None

    async def sweep(self, running: frozenset[str]) -> None:
        """Remove directories of containers that are not in ``running`` (full ids); for recovery.

        Their slirp4netns ends with the shim that held their exit pipe.
        """
        keep = {self._directory(container_id) for container_id in running}
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return
        for name in names:
            path = os.path.join(self._root, name)
            if path not in keep:
                slirp.remove_directory(path)

    async def join(self, container_id: str, plan: BridgePlan, network_id: str) -> None:
        """Put a running container on one more network: that with ``network_id`` of the plan."""
        if self.bridges.has(container_id):
            network = next(n for n in plan.networks if n.id == network_id)
            endpoint = next(e for e in plan.endpoints if e.network_id == network_id)
            await self.bridges.connect(container_id, network, endpoint)
            return
        found = self._running.get(container_id)
        if found is None:
            raise Unavailable(f"the network of container {container_id} is not known")
        try:
            told = self._bridge_report(container_id, self._reports.get(container_id))
            with reopened(found.state.place) as fds:
                await self.bridges.attach(container_id, plan, fds, found.state.place, told)
        except PlaceGone:
            raise Conflict(f"container {container_id} is not running") from None

    def _bridge_report(
        self, container_id: str, report: Report | None
    ) -> Callable[[str], None] | None:
        def told(reason: str) -> None:
            found = self._running.get(container_id)
            if found is None or report is None:
                return
            if found.state.mode == BRIDGE:  # some may have been taken meanwhile
                found.state = replace(found.state, ports=self.bridges.ports_of(container_id))
                self.ports.adopt(container_id, found.state.ports)
            report(found.state, reason)

        return told if report is not None else None

    async def detach(self) -> None:
        """Let go of everything without ending it: the daemon stops, containers live on."""
        await self.bridges.let_go()
        running = list(self._running.values())
        self._running.clear()
        for one in running:
            await one.let_go()
        helper.close_starter()

    def _directory(self, container_id: str) -> str:
        return os.path.join(self._root, container_id)

    # -- helpers that die ----------------------------------------------------------

    def _supervise(self, container_id: str, made: Connection, report: Report | None) -> None:
        """Hear of each helper's end; begin at once with those that do not run."""

        def slirp_ended() -> None:
            assert made.slirp is not None
            helper.close(made.slirp)
            made.slirp = None
            self._repair(container_id, made, report)

        def relay_ended() -> None:
            assert made.relay is not None
            helper.close(made.relay)
            made.relay = None
            self._repair(container_id, made, report)

        if self._running.get(container_id) is not made:
            return
        if made.slirp is not None:
            helper.supervise(made.slirp, slirp_ended)
        if made.relay is not None:
            helper.supervise(made.relay, relay_ended)
        if made.lacks_something:
            self._repair(container_id, made, report)

    def _repair(self, container_id: str, made: Connection, report: Report | None) -> None:
        if self._running.get(container_id) is not made or made.repair is not None:
            return
        made.repair = asyncio.ensure_future(self._start_again(container_id, made, report))
        made.repair.add_done_callback(_log_failure)

    async def _start_again(
        self, container_id: str, made: Connection, report: Report | None
    ) -> None:
        """Start what is missing, until it runs or the container has ended."""
        place = made.state.place
        told = False
        loop = asyncio.get_running_loop()
        if loop.time() - made.since > STEADY:
            made.delay = 0.0
        try:
            while True:
                with reopened(place):
                    pass
                reason = connection.why_ended(made.state, relay_only=not made.lacks_slirp)
                if report is not None and not told:
                    report(made.state, reason)
                told = True
                await asyncio.sleep(made.delay)
                made.delay = min(max(2 * made.delay, FIRST_DELAY), LONGEST_DELAY)
                try:
                    with reopened(place) as fds:
                        made.look_away()
                        await made.start_missing(fds, again=True)
                except (RootlessError, OSError) as error:
                    _log.warning("container %s: %s", container_id[:SHORT_LENGTH], error)
                    self._supervise(container_id, made, report)
                    continue
                break
        except PlaceGone:
            await self._forget(container_id, made, report)
            return
        made.repair = None
        self.ports.adopt(container_id, made.state.ports)
        if report is not None:
            report(made.state, "")
        self._supervise(container_id, made, report)

    async def _forget(self, container_id: str, made: Connection, report: Report | None) -> None:
        """The container has ended, and what helped it with it."""
        if self._running.get(container_id) is made:
            del self._running[container_id]
            self.ports.release(container_id)
        made.repair = None
        await made.end(wait=False)
        if report is not None:
            report(None, "")


def _mac(spec: NetworkSpec, container_id: str) -> str:
    return spec.mac_address or addresses.mac_for(container_id) if spec.mode == SLIRP else ""


def _published(spec: NetworkSpec, plan: BridgePlan | None) -> Sequence[PortBinding]:
    """Who is on internal networks only is not to be reached from outside either, as in Docker."""
    if spec.mode == BRIDGE and (plan is None or all(n.internal for n in plan.networks)):
        return ()
    return spec.ports


def _with_ports(plan: BridgePlan, state: NetworkState) -> BridgePlan:
    """With those that no slirp4netns of the container's own serves."""
    return replace(plan, ports=state.ports) if state.mode == BRIDGE else plan


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("starting a network again failed", exc_info=error)
