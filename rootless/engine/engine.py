"""The engine: its nouns, put together, and its start and end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from rootless.engine.containers import Containers
from rootless.engine.core import Core
from rootless.engine.execs import Execs
from rootless.engine.files import Files
from rootless.engine.gate import Gate
from rootless.engine.health import HealthMonitor
from rootless.engine.images import Images
from rootless.engine.lifecycle import Lifecycle
from rootless.engine.networks import Networks
from rootless.engine.recovery import Recovery
from rootless.engine.settings import EngineSettings
from rootless.engine.system import System
from rootless.engine.volumes import Volumes
from rootless.errors import RootlessError
from rootless.linux import cgroupfs
from rootless.model.facts import HostFacts

if TYPE_CHECKING:
    from rootless.network.driver import NetworkDriver
    from rootless.pki.online import OnlineAuthority


class LocalEngine:
    """See :class:`rootless.engine.interface.Engine`."""

    def __init__(
        self,
        settings: EngineSettings,
        facts: HostFacts,
        policy: Gate,
        network: NetworkDriver,
        authority: OnlineAuthority | None = None,
    ) -> None:
        self.core = core = Core(settings, facts, policy, network)
        self.volumes = Volumes(core)
        self.images = Images(core)
        self._lifecycle = lifecycle = Lifecycle(core)
        lifecycle.remove_volumes = self.volumes.remove_of
        files = Files(core, self.images.transfers, lifecycle.volume_ranges)
        self.containers = Containers(core, self.images, self.volumes, lifecycle, files)
        self.execs = Execs(core)
        self.networks = Networks(core)
        self.system = System(core, self.containers, self.images, self.volumes, authority)
        health = HealthMonitor(core, self.execs)
        lifecycle.on_running = health.watch
        self._recovery = Recovery(core, self.images, lifecycle, self.containers.creator, health)
        self._maintenance: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Recover; afterwards requests may come."""
        self.core.bind_loop()
        cgroupfs.prepare(self.core.facts.cgroup)
        await self._recovery.run()
        await self.execs.recover()
        if self.core.state.setting("builtin-image", lambda: "") == "":
            self.images.making = self.core.background(
                self._make_builtin(), "making the built-in image"
            )
        self._maintenance = asyncio.ensure_future(self.core.maintain())

    async def warm(self) -> None:
        """Do in advance what the first container would wait for."""
        self.core.network.warm()
        await self.core.launcher()
        if any(unit.record.spec.network.attachments for unit in self.core.registry):
            with contextlib.suppress(RootlessError):  # whoever needs it hears why
                await self.core.network.bridges.warm()

    async def _make_builtin(self) -> None:
        """Once in an engine's life: who removed the built-in image does not want it back."""
        name = await self.images.transfers.builtin()
        self.core.state.change_setting("builtin-image", name)

    async def stop_all(self, seconds: int) -> None:
        """Stop every container that runs (a daemon without live restore)."""
        running = [unit for unit in self.core.registry if unit.record.state.running]
        await asyncio.gather(
            *(self._lifecycle.stop(u, timeout=seconds, signal_name="") for u in running),
            return_exceptions=True,
        )

    async def close(self) -> None:
        """Let go of everything; containers go on."""
        if self._maintenance is not None:
            self._maintenance.cancel()
        await self.core.close()
