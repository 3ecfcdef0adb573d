"""What the engine calls: connect a created container, disconnect it, find it again.

Loopback inside the container is brought up by the sandbox's own init in every
mode; here are only the ways out. A helper that dies while its container lives
is started again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import replace

from rootless.errors import RootlessError
from rootless.ids import SHORT_LENGTH
from rootless.model.spec import NetworkSpec
from rootless.network import addresses, connection, helper, slirp
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
        self, run_dir: str, *, default_ip: str = DEFAULT_HOST_IP, mtu: int = slirp.MTU
    ) -> None:
        """``run_dir`` is $XDG_RUNTIME_DIR/rootless; ``default_ip`` daemon.json's ``ip``."""
        self._mtu = mtu
        self._root = os.path.join(run_dir, "slirp")
        self.ports = PortTable(default_ip=default_ip)
        self._running: dict[str, Connection] = {}

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
        report: Report | None = None,
    ) -> NetworkState:
        """Connect a container whose init waits for ``go``; nothing is left behind on an error.

        In mode slirp4netns the three descriptors are needed: the container's
        network and user namespace and the read end of a pipe whose write end its
        shim holds; they stay the caller's. With the two processes a helper that
        dies is started again, and ``report`` is told.
        """
        if spec.mode != SLIRP:
            return NetworkState(spec.mode, ipv6=spec.ipv6)
        fds = Descriptors(netns_fd, userns_fd, exit_fd)
        made = Connection(
            NetworkState(
                SLIRP,
                self.ports.reserve(container_id, spec.ports),
                spec.mac_address or addresses.mac_for(container_id),
                spec.ipv6,
                directory=self._directory(container_id),
                place=find(fds, init_pid=init_pid, shim_pid=shim_pid),
                mtu=self._mtu,
            )
        )
        try:
            await made.start_missing(fds)
        except BaseException:
            self.ports.release(container_id)
            slirp.remove_directory(made.state.directory)
            raise
        self.ports.update(container_id, made.state.ports)
        self._running[container_id] = made
        self._supervise(container_id, made, report)
        return made.state

    async def disconnect(self, container_id: str) -> None:
        """End a container's helpers and free its ports; fine when there are none."""
        found = self._running.pop(container_id, None)
        if found is not None:
            await found.end(wait=bool(self.ports.of(container_id)))
        self.ports.release(container_id)

    async def restore(
        self, container_id: str, state: NetworkState, report: Report | None = None
    ) -> NetworkState | None:
        """Take over a running container after a daemon restart.

        None when one of its helpers has ended; it is started again if the
        container runs, and ``report`` hears of it. The ports returned are those
        that are really forwarded.
        """
        if state.mode != SLIRP:
            return state
        found = connection.found_again(state)
        if found.slirp is not None:
            found.state = replace(state, ports=await connection.forwarded(container_id, found))
        self.ports.adopt(container_id, found.state.ports)
        self._running[container_id] = found
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

    async def detach(self) -> None:
        """Let go of everything without ending it: the daemon stops, containers live on."""
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
        if made.slirp is None or (made.relay is None and made.needs_relay):
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
                reason = connection.why_ended(made.state, relay_only=made.slirp is not None)
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


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("starting a network again failed", exc_info=error)
