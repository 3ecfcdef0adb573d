"""What all parts of the engine share; made once by the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rootless.engine.events import EventBus
from rootless.engine.gate import Gate
from rootless.engine.housekeeping import Housekeeping
from rootless.engine.network_table import NetworkTable
from rootless.engine.registry import Registry
from rootless.engine.settings import EngineSettings
from rootless.engine.spare_cgroup import SpareCgroup
from rootless.engine.spares import Spares
from rootless.engine.state import State
from rootless.engine.watch import FileWatcher
from rootless.errors import RootlessError, Unavailable
from rootless.linux import cgroupfs, procfs
from rootless.model.facts import HostFacts
from rootless.model.image import ImageFacts
from rootless.model.spec import ContainerSpec, ImageSpec
from rootless.policy.matching import Subject
from rootless.storage import idranges
from rootless.storage.layers import LayerStore
from rootless.storage.volumes import VolumeStore

if TYPE_CHECKING:
    from rootless.network.driver import NetworkDriver
    from rootless.runtime.launcher_client import Launcher

_log = logging.getLogger(__name__)

LAUNCHER_MODULES = ("storage.tree", "storage.privileged", "engine.inside")
_RETRIES = 2
"""How often a function is called again whose process was killed."""


class EngineNamespaces:
    """See :class:`rootless.network.holder_client.Namespaces`."""

    def __init__(self, launcher: Callable[[], Awaitable[Launcher]], id_count: int) -> None:
        self._launcher = launcher
        self.owner = idranges.common_owner(idranges.layout(id_count))

    async def spawn(self, argv: Sequence[str], fds: Mapping[int, int]) -> int:
        """Run a program in them; its exit status."""
        return await (await (await self._launcher()).spawn(argv, fds=fds)).wait()

    async def inode(self) -> int:
        """The user namespace's."""
        return os.stat(f"/proc/{(await self._launcher()).pid}/ns/user").st_ino


class ImageSource(Protocol):
    """What the policy is told of images: :class:`.image_facts.ImageInspector`."""

    async def facts(self, image: ImageSpec, *, files: bool = False) -> ImageFacts:
        """All that any rule looks at; its files where a rule does, and with ``files``."""
        ...

    async def of(self, spec: ContainerSpec) -> tuple[ImageFacts, ...]:
        """The image of a container and those it mounts."""
        ...

    def subject(self, ref: str) -> Subject:
        """The image called ``ref``, whosever it is; raises NotFound."""
        ...


class Core:
    """Shared parts and the background work of the engine."""

    images: ImageSource
    """Set by the part that knows images."""

    def __init__(
        self, settings: EngineSettings, facts: HostFacts, policy: Gate, network: NetworkDriver
    ) -> None:
        self.settings = settings
        self.facts = facts
        self.policy = policy
        self.network = network
        for path in (settings.data_root, settings.containers_dir):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state = State(settings.data_root / "state.db")
        self.events = EventBus()
        self.registry = Registry(self.state, self.events)
        self.networks = NetworkTable(self.state, self.registry)
        self.volumes = VolumeStore(settings.volumes_dir)
        self.layers = LayerStore(settings.data_root / "layers")
        self.watcher = FileWatcher()
        self.housekeeping = Housekeeping(settings.data_root, self.call, self.background)
        self.spare_cgroup = SpareCgroup(str(settings.data_root), self._remove_cgroup)
        self.spares = Spares(self.housekeeping, self.spare_cgroup, lambda: self._launcher)
        self.stopping = False
        self._launcher: Launcher | None = None
        self._namespaces: tuple[int, ...] = ()
        """The launcher's. A container that was starting when it died is in them, and nothing
        tells of that container yet."""
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        network.bridges.prepare(EngineNamespaces(self.launcher, facts.id_count), ipv6=settings.ipv6)

    async def launcher(self) -> Launcher:
        """The launcher; one that ended is started again, in the namespaces of the one before.

        The first one of a daemon joins those of a living shim.
        """
        if self._launcher is not None:
            return self._launcher
        async with self._starting:
            if self._launcher is None:
                from rootless.runtime.launcher_client import Launcher, namespaces_of

                if not self._namespaces:
                    self._namespaces = self._of_a_shim()
                launcher = await Launcher.start(modules=LAUNCHER_MODULES, enter=self._namespaces)
                if not self._namespaces:
                    with contextlib.suppress(OSError):  # it was killed: the next one is asked
                        self._namespaces = namespaces_of(launcher.pid)
                launcher.on_lost(self._lost)
                self._launcher = launcher
        return self._launcher

    def _lost(self) -> None:
        self._launcher = None
        if not self.stopping:
            _log.warning("the launcher ended; it is started again with the next request")

    def _of_a_shim(self) -> tuple[int, ...]:
        """Those of a living shim: a new launcher must share them, to reach its container.

        Held by descriptors they stay when the shim ends before the launcher is there.
        """
        from rootless.runtime.launcher_client import namespaces_of
        from rootless.runtime.shim_client import read_state

        for unit in self.registry:
            # Not only those that run by their records: one may be starting.
            found = read_state(unit.directory)
            if found is None or not procfs.is_alive(found.shim_pid, found.shim_start):
                continue
            with contextlib.suppress(OSError):
                opened = namespaces_of(found.shim_pid)
                if procfs.is_alive(found.shim_pid, found.shim_start):
                    return opened
                for fd in opened:  # it ended, and the number may be another's
                    os.close(fd)
        return ()

    async def call(self, function: str, /, **arguments: object) -> object:
        """Run a storage function inside the engine's user namespace.

        When the process that did it was killed it is done again: each of these
        functions finishes what an interrupted call of it left.
        """
        for _ in range(_RETRIES):
            launcher = await self.launcher()
            try:
                return await launcher.call(function, **arguments)
            except Unavailable as error:
                _log.warning("%s is done again: %s", function, error.message)
        return await (await self.launcher()).call(function, **arguments)

    def call_from_thread(self, function: str, /, **arguments: object) -> object:
        """:meth:`call` for code that runs in a worker thread."""
        return asyncio.run_coroutine_threadsafe(
            self.call(function, **arguments), self._loop
        ).result()

    def bind_loop(self) -> None:
        """Remember the running loop for :meth:`call_from_thread`."""
        self._loop = asyncio.get_running_loop()

    def background(
        self, work: Coroutine[object, object, object], what: str
    ) -> asyncio.Task[object]:
        """Run ``work`` on its own; a failure is logged with ``what``."""
        task: asyncio.Task[object] = asyncio.ensure_future(work)
        self._tasks.add(task)

        def done(finished: asyncio.Task[object]) -> None:
            self._tasks.discard(finished)
            if finished.cancelled():
                return
            error = finished.exception()
            if isinstance(error, RootlessError):
                _log.error("%s: %s", what, error)
            elif error is not None:
                _log.error("%s failed", what, exc_info=error)

        task.add_done_callback(done)
        return task

    def _remove_cgroup(self, path: str) -> asyncio.Task[object]:
        return self.background(asyncio.to_thread(cgroupfs.remove, path), f"removing cgroup {path}")

    def discard(self, path: Path) -> None:
        """Take a directory out of sight at once and remove it in the background."""
        self.housekeeping.discard(path)

    async def maintain(self) -> None:
        """Move the database's log off the hot path, when enough came together."""
        while True:
            await asyncio.sleep(30)
            if self.state.wants_checkpoint:
                await asyncio.to_thread(self.state.checkpoint)

    async def drain(self) -> None:
        """Let background work end; cancelled work is undone by the next start."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=5)
            for task in tuple(self._tasks):
                task.cancel()

    async def close(self) -> None:
        """Release everything; containers go on."""
        self.stopping = True
        self.events.close()
        for unit in self.registry:
            for task in (unit.watch_task, unit.restart_task, unit.health_task, unit.lifetime_task):
                if task is not None:
                    task.cancel()
        self.spares.stop()
        self.spare_cgroup.leave()
        self.housekeeping.flush()
        await self.drain()
        await self.network.detach()
        self.watcher.close()
        await asyncio.to_thread(self.policy.close)
        if self._launcher is not None:
            await self._launcher.close()
        for fd in self._namespaces:
            os.close(fd)
        self.state.close()
