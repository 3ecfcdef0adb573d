"""Volumes of containers in mode ``auto``: whose ids their content is stored in.

The root file system of such a container is mapped by its driver, a volume is
not: before the container starts, the volume's files are handed over to its
range (and back, when a ``shared`` container comes next). Two running containers
of different ranges can therefore not share a volume, and the second is refused.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict

from rootless.engine.core import Core
from rootless.engine.unit import Unit
from rootless.errors import Conflict
from rootless.model.mounts import IdMap
from rootless.model.spec import ContainerSpec


class VolumeRanges:
    """Hands volumes over at start; one for the engine."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = asyncio.Lock()
        self._held: list[tuple[Unit, list[str]]] = []
        """Volumes that must stay as they are for a container that does not run (yet)."""

    @asynccontextmanager
    async def claim(self, unit: Unit) -> AsyncIterator[None]:
        """Hold while ``unit`` starts; from then on its running state speaks for itself.

        Raises Conflict when a container of another range uses one of its volumes.
        """
        async with self._hold(unit, lambda _name: True):
            yield

    @asynccontextmanager
    async def claim_for_copy(self, unit: Unit, path: str) -> AsyncIterator[None]:
        """Hold while files are copied to or from ``unit``, which may never have started.

        A volume that a container of another range uses stays as it is; Conflict
        only when ``path`` is in it.
        """
        if unit.record.state.running:
            yield
            return
        place = posixpath.normpath("/" + path.lstrip("/"))
        targets = {m.volume_name: m.target for m in unit.record.spec.mounts if m.volume_name}
        async with self._hold(unit, lambda name: _beneath(place, targets[name])):
            yield

    @asynccontextmanager
    async def _hold(self, unit: Unit, is_needed: Callable[[str], bool]) -> AsyncIterator[None]:
        names = _names(unit.record.spec)
        if not names:
            yield
            return
        held: tuple[Unit, list[str]] = (unit, [])
        try:
            async with self._lock:
                for name in names:
                    try:
                        self._check(unit, name)
                    except Conflict:
                        if is_needed(name):
                            raise
                    else:
                        held[1].append(name)
                self._held.append(held)
                for name in held[1]:
                    await self._hand_over(name, _maps(unit.record.spec))
            yield
        finally:
            self._held = [other for other in self._held if other is not held]

    def _check(self, unit: Unit, name: str) -> None:
        users = [o for o in self._core.registry if o.record.state.running]
        users = [other for other in users if name in _names(other.record.spec)]
        users += [other for other, names in self._held if name in names]
        for other in users:
            if other is unit or _maps(other.record.spec) == _maps(unit.record.spec):
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


def _beneath(path: str, target: str) -> bool:
    return path == target or path.startswith(target.rstrip("/") + "/")


def _maps(spec: ContainerSpec) -> tuple[IdMap, ...]:
    return spec.userns.maps if spec.userns.mode == "auto" else ()
