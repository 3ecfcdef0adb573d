"""Volumes: the facade's noun over the volume store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rootless.engine.core import Core
from rootless.engine.filters import (
    Filters,
    check_filters,
    match_labels,
    match_name,
    single_bool,
)
from rootless.engine.ownership import of_volume
from rootless.engine.unit import Unit
from rootless.errors import Conflict, InvalidInput, NotFound
from rootless.model.identity import Identity
from rootless.model.records import PruneReport, VolumeRecord
from rootless.model.spec import ContainerSpec
from rootless.policy.matching import Subject
from rootless.storage.volumes import ANONYMOUS_LABEL, Volume

_LIST = frozenset(("dangling", "driver", "label", "name"))
_PRUNE = frozenset(("all", "label", "label!"))


class Volumes:
    """See :class:`rootless.engine.interface.Volumes`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = asyncio.Lock()
        """Held while a volume is removed and while a new container takes one into use."""

    @property
    def lock(self) -> asyncio.Lock:
        """See ``_lock``."""
        return self._lock

    async def create(
        self,
        identity: Identity,
        *,
        name: str = "",
        driver: str = "local",
        options: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> VolumeRecord:
        """Make a volume, or return the one of that name."""
        asked = Subject(name=name, labels=dict(labels))
        self._core.policy.admit_action(identity, "volume.create", name, asked)
        self.check_seen(identity, name)
        made = await self.make(
            name, driver=driver, options=options, labels=labels, identity=identity
        )
        return self._record(made)

    async def make(
        self,
        name: str,
        *,
        driver: str = "local",
        options: Mapping[str, str],
        labels: Mapping[str, str],
        identity: Identity,
        anonymous: bool = False,
    ) -> Volume:
        """Make a volume's files; off the event loop, because they are synced."""
        marks = {**labels, ANONYMOUS_LABEL: ""} if anonymous else labels
        existed = bool(name) and self._exists(name)
        made = await asyncio.to_thread(
            self._core.volumes.create,
            name,
            lambda path: self._core.call_from_thread("storage.tree.make_volume", path=path),
            labels=marks,
            options=options,
            driver=driver,
            anonymous=anonymous,
            owner=identity.key,
        )
        self.check_seen(identity, made.name)  # somebody may have been faster
        if not existed:
            self._core.events.publish(
                "volume", "create", made.name, {"driver": made.driver}, owners=[made.owner]
            )
        return made

    async def list(self, identity: Identity, *, filters: Filters) -> Sequence[VolumeRecord]:
        """Volumes by name."""
        self._core.policy.admit_action(identity, "volume.list")
        check_filters(filters, _LIST)
        used = self._references()
        dangling = None
        if filters.get("dangling"):
            dangling = single_bool(filters, "dangling", default=True)
        found = []
        wanted = self._core.policy.lister(identity, "volume.list", of_volume)
        for volume in self._core.volumes.all():
            if not wanted(volume):
                continue
            if dangling is not None and dangling == (volume.name in used):
                continue
            if filters.get("driver") and volume.driver not in filters["driver"]:
                continue
            if not match_name(volume.name, filters.get("name", ())):
                continue
            if not match_labels(dict(volume.labels), filters.get("label", ())):
                continue
            found.append(self._record(volume, used))
        return found

    async def inspect(self, identity: Identity, name: str) -> VolumeRecord:
        """One volume; NotFound."""
        return self._record(self._admit(identity, "inspect", name))

    def _admit(self, identity: Identity, verb: str, name: str) -> Volume:
        """The volume, when the caller may know of it and do ``verb`` with it."""
        volume = self._get(name)
        absent = NotFound(f"get {name}: no such volume")
        subject = of_volume(volume)
        self._core.policy.admit_object(identity, f"volume.{verb}", name, subject, absent)
        return volume

    def check_seen(self, identity: Identity, name: str) -> None:
        """Conflict when a volume of this name exists that the caller may not know of."""
        found = self._core.volumes.lookup(name) if name and self._exists(name) else None
        if found is not None:
            problem = Conflict(f"volume {name} is another identity's", hint="choose another name")
            subject = of_volume(found)
            self._core.policy.admit_sight(identity, "volume.create", name, subject, problem)

    def _exists(self, name: str) -> bool:
        try:
            return self._get(name) is not None
        except NotFound:
            return False

    def _get(self, name: str) -> Volume:
        try:
            return self._core.volumes.get(name)
        except (InvalidInput, NotFound):  # no volume has a name that is none
            raise NotFound(f"get {name}: no such volume") from None

    async def remove(self, identity: Identity, name: str, *, force: bool = False) -> None:
        """Remove a volume no container uses; a missing one is fine with ``force``."""
        async with self._lock:
            try:
                self._admit(identity, "remove", name)
            except NotFound:
                if force:
                    self._core.policy.admit_action(identity, "volume.remove", name)
                    return
                raise
            users = self._references().get(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            await self._remove(name)

    async def _remove(self, name: str) -> None:
        found = self._core.volumes.lookup(name)
        owner = found.owner if found is not None else ""
        away = await asyncio.to_thread(self._core.volumes.remove, name)
        self._core.events.publish("volume", "destroy", name, {"driver": "local"}, owners=[owner])
        self._core.discard(away)

    async def discard(self, name: str) -> None:
        """Take back a volume that was made for a container which could not be made."""
        async with self._lock:
            await self._remove(name)

    async def prune(self, identity: Identity, *, filters: Filters) -> PruneReport:
        """Remove what no container uses: anonymous volumes, with filter ``all`` every one."""
        self._core.policy.admit_action(identity, "volume.prune")
        check_filters(filters, _PRUNE)
        every = single_bool(filters, "all", default=False)
        async with self._lock:
            deleted, freed = [], 0
            for volume in self._core.volumes.prune_candidates(self._references(), every=every):
                labels = dict(volume.labels)
                if not self._core.policy.lists(identity, "volume.prune", of_volume(volume)):
                    continue
                if not match_labels(labels, filters.get("label", ())):
                    continue
                if any(match_labels(labels, [text]) for text in filters.get("label!", ())):
                    continue
                freed += await self.size(volume.name)
                await self._remove(volume.name)
                deleted.append(volume.name)
        self._core.events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return PruneReport(deleted=tuple(deleted), space_reclaimed=freed)

    async def size(self, name: str) -> int:
        """Bytes in the volume."""
        found = await self._core.call("storage.tree.tree_size", path=self._core.volumes.data(name))
        assert isinstance(found, dict)
        return int(found["bytes"])

    async def remove_of(self, unit: Unit) -> None:
        """A container goes: remove the anonymous volumes that were made for it alone."""
        async with self._lock:
            used = self._references()
            for name in unit.record.anonymous_volumes:
                elsewhere = set(used.get(name, ())) - {unit.id}
                if not elsewhere and self._core.volumes.lookup(name) is not None:
                    await self._remove(name)

    def _references(self) -> Mapping[str, Sequence[str]]:
        """Volume name → ids of the containers that use it."""
        found: dict[str, Any] = {}
        for unit in self._core.registry:
            for name in volume_names(unit.record.spec):
                found.setdefault(name, []).append(unit.id)
        return found

    def _record(self, volume: Volume, used: Mapping[str, Sequence[str]] | None = None
                ) -> VolumeRecord:  # fmt: skip
        return VolumeRecord(
            name=volume.name,
            mountpoint=self._core.volumes.data(volume.name),
            created_ns=volume.created_ns,
            driver=volume.driver,
            labels=volume.labels,
            options=volume.options,
            anonymous=volume.anonymous,
            references=None if used is None else len(used.get(volume.name, ())),
        )


def volume_names(spec: ContainerSpec) -> set[str]:
    """The volumes a container mounts."""
    return {mount.volume_name for mount in spec.mounts if mount.volume_name}
