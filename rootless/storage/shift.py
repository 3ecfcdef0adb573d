"""Ids of archives ↔ ids on disk or in a mount, for containers with a range of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rootless.archive.limits import LAYER_SHIFT, IdShift
from rootless.errors import HostUnsupported
from rootless.model.mounts import IdMap

NOBODY = 65534


@dataclass(frozen=True, slots=True)
class RangeShift(IdShift):
    """Image ids through the id map of a container in mode ``auto``."""

    maps: tuple[IdMap, ...] = ()

    def holds(self, engine_id: int) -> bool:
        """True when the id belongs to the container's range."""
        return any(m.outside <= engine_id < m.outside + m.size for m in self.maps)

    def to_engine(self, image_id: int) -> int:
        """The engine id that shows as ``image_id`` in the container; HostUnsupported if none."""
        for m in self.maps:
            if m.inside <= image_id < m.inside + m.size:
                return m.outside + image_id - m.inside
        raise HostUnsupported(
            f"id {image_id} is outside the container's id range",
            hint=f"create the container with --userns=auto:size={image_id + 1}",
        )

    def to_image(self, engine_id: int) -> int:
        """The container's id for ``engine_id``; nobody for a foreign one."""
        for m in self.maps:
            if m.outside <= engine_id < m.outside + m.size:
                return m.inside + engine_id - m.outside
        return NOBODY


@dataclass(frozen=True, slots=True)
class InsideShift(IdShift):
    """Ids inside a container's user namespace: those of archives, but only the ones it knows."""

    offset: int = 0
    inside: bool = True
    maps: tuple[IdMap, ...] = ()

    def to_engine(self, image_id: int) -> int:
        """The same id; HostUnsupported when the namespace does not map it."""
        if any(m.inside <= image_id < m.inside + m.size for m in self.maps):
            return image_id
        raise HostUnsupported(
            f"id {image_id} is outside the container's id range",
            hint=f"create the container with --userns=auto:size={image_id + 1}",
        )


def of_maps(id_maps: Sequence[IdMap]) -> IdShift:
    """The shift of a mounted root file system; without ``id_maps`` that of the layers."""
    return RangeShift(maps=tuple(id_maps)) if id_maps else LAYER_SHIFT
