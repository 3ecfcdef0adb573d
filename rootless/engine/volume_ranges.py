"""Volumes of containers in mode ``auto``: whose ids their content is stored in.

The root file system of such a container is mapped by its driver, a volume is
not: before the container starts, the volume's files are handed over to its
range (and back, when a ``shared`` container comes next). Two running containers
of different ranges can therefore not share a volume, and the second is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from rootless.engine.core import Core
from rootless.engine.unit import Unit
from rootless.errors import Conflict
from rootless.model.spec import ContainerSpec, IdMap


class VolumeRanges:
    """Hands volumes over at start; one for the engine."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = asyncio.Lock()
        self._starting: dict[str, Unit] = {}

    @asynccontextmanager
    async def claim(self, unit: Unit) -> AsyncIterator[None]:
        """Hold while ``unit`` starts; from then on its running state speaks for itself.

        Raises Conflict when a container of another range uses one of its volumes.
        """
        spec = unit.record.spec
        names = _names(spec)
        if not names:
            yield
            return
        try:
            async with self._lock:
                for name in names:
                    self._check(unit, name)
                self._starting[unit.id] = unit
                for name in names:
                    await self._hand_over(name, _maps(spec))
            yield
        finally:
            self._starting.pop(unit.id, None)

    def _check(self, unit: Unit, name: str) -> None:
        running = [other for other in self._core.registry if other.record.state.running]
        for other in [*running, *self._starting.values()]:
            spec = other.record.spec
            if other is unit or name not in _names(spec) or _maps(spec) == _maps(unit.record.spec):
                continue
            raise Conflict(
                f"volume {name} is in use by container {other.record.name}, "
                "which has another id range",
                hint="stop that container first, or run both with --userns=shared",
            )

    async def _hand_over(self, name: str, maps: tuple[IdMap, ...]) -> None:
        found = self._core.volumes.lookup(name)
        if found is None or (found.id_maps == maps and found.moving_to is None):
            return
        await asyncio.to_thread(self._core.volumes.hand_over, name, maps, self._shift)

    def _shift(self, path: str, before: tuple[IdMap, ...], after: tuple[IdMap, ...]) -> None:
        self._core.call_from_thread(
            "storage.tree.shift_ids",
            path=path,
            before=[asdict(m) for m in before],
            after=[asdict(m) for m in after],
        )


def _names(spec: ContainerSpec) -> list[str]:
    return sorted({m.volume_name for m in spec.mounts if m.type == "volume" and m.volume_name})


def _maps(spec: ContainerSpec) -> tuple[IdMap, ...]:
    return spec.userns.maps if spec.userns.mode == "auto" else ()
