"""One container in the daemon's memory: its record and what is attached to its life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

from rootless.model.records import ContainerRecord, WaitCondition, WaitResult
from rootless.model.spec import AdmittedSpec

if TYPE_CHECKING:
    from rootless.engine.attach import Attached
    from rootless.runtime.shim_client import ShimClient


class Unit:
    """A container. ``lock`` is held by whoever changes its state on purpose.

    The end of its process is an event, not an operation: it changes the record
    without the lock, because ``stop`` holds the lock while it waits for it.
    """

    def __init__(self, record: ContainerRecord) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.shim: ShimClient | None = None
        self.admitted: AdmittedSpec | None = None
        """What runs; None until a start of this daemon's."""
        self.starting = False
        """Its start was asked for: it counts as running for quotas."""
        self.init_start = 0
        self.cgroup = ""
        self.endpoints = record.network.endpoints
        """Its places on bridge networks, taken from before its start until after its end."""
        self.releasing: set[asyncio.Task[object]] = set()
        """Give back what the process before held; see :meth:`released`."""
        self.ended = asyncio.Event()
        """Set while no process of the container exists."""
        if not record.state.running:
            self.ended.set()
        self.removed = False
        self.pending: set[Attached] = set()
        """Attached clients that wait for the start."""
        self.restart_delay = 0.0
        self.restart_task: asyncio.Task[None] | None = None
        self.watch_task: asyncio.Task[None] | None = None
        self.health_task: asyncio.Task[None] | None = None
        self.lifetime_task: asyncio.Task[object] | None = None
        self.time_is_up = ""
        """Why it is being stopped, when that is because of its lifetime."""
        self.execs: set[str] = set()
        self.memo: dict[str, object] = {}
        """What its views keep between requests; see ``ContainerView``."""
        self.fresh = False
        """Nobody has looked into the root file system's directories yet; see :meth:`made`."""
        self.making: asyncio.Task[object] | None = None
        """Makes the root file system's directories; see :meth:`made`."""
        self._waiters: dict[WaitCondition, set[asyncio.Future[WaitResult]]] = {}

    @property
    def id(self) -> str:
        """The container's id."""
        return self.record.id

    @property
    def directory(self) -> Path:
        """``containers/<id>`` below the data root."""
        return Path(self.record.directory)

    async def released(self) -> None:
        """The cgroup and the network of the process before are gone.

        They bear the container's name: removed later, they would take the next process along.
        """
        while self.releasing:
            await asyncio.wait(tuple(self.releasing))

    def release(self, task: asyncio.Task[object]) -> None:
        """Let :meth:`released` wait for ``task``."""
        self.releasing.add(task)
        task.add_done_callback(self.releasing.discard)

    async def made(self) -> None:
        """The container's directories are there; raises what making them failed with.

        Awaited by whoever looks into them: afterwards they are this container's for good.
        """
        self.fresh = False
        if self.making is not None:
            await asyncio.shield(self.making)
            self.making = None

    def wait(self, condition: WaitCondition) -> Awaitable[WaitResult]:
        """What ends when the condition holds; registered now."""
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        state = self.record.state
        if condition == "not-running" and not state.running and state.status != "restarting":
            future.set_result(WaitResult(state.exit_code))
        else:
            waiters = self._waiters.setdefault(condition, set())
            waiters.add(future)
            future.add_done_callback(waiters.discard)
        return future

    def notify(self, *conditions: WaitCondition, error: str = "") -> None:
        """Tell the waiters of ``conditions`` how the container ended."""
        result = WaitResult(self.record.state.exit_code, error)
        for condition in conditions:
            for future in self._waiters.pop(condition, set()):
                if not future.done():
                    future.set_result(result)
