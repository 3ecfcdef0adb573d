"""Which ids of the engine's user namespace a container gets.

::

    0                    the user
    1 … 65536            shared: container ids 0 … 65535 in mode ``shared``
    65537                owner of the user namespaces whose processes nobody limits
    65538 … 69632        owners: one id for each container with a limit on processes
    69633 … id_count-1   auto: ranges of containers in mode ``auto``, each its own

Pure functions; which ranges are in use is recorded in state.db by the engine.
An engine with fewer than 65537 + 4096 ids (Debian's default is 65536
subordinate ids) gives all of them to the shared range, because image id 65534
(nobody) must exist, and takes owner ids out of its upper end. That is no leak:
an owner has power over a namespace only from its parent namespace
(user_namespaces(7)), where no container's process lives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rootless.errors import Exhausted, InvalidInput
from rootless.model.mounts import IdMap
from rootless.model.spec import UsernsSpec

SHARED_SIZE = 65536
OWNERS = 4096
NOBODY = 65534
MIN_AUTO = 1024
MAX_AUTO = SHARED_SIZE
_HINT = "sudo rootless setup"


@dataclass(frozen=True, slots=True)
class Range:
    """``size`` engine ids from ``start``."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first id after the range."""
        return self.start + self.size

    def overlaps(self, other: Range) -> bool:
        """True when both have an id in common."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Layout:
    """How the engine's ids are divided."""

    shared: Range
    owners: Range
    auto: Range


def layout(id_count: int) -> Layout:
    """The division of ``id_count`` ids (0 included).

    Raises Exhausted when there is no subordinate id at all.
    """
    if id_count < 2:
        raise Exhausted("there are no subordinate ids for containers", hint=_HINT)
    shared = Range(1, min(SHARED_SIZE, id_count - 1))
    if id_count >= shared.end + OWNERS:
        owners = Range(shared.end, OWNERS)
        return Layout(shared, owners, Range(owners.end, id_count - owners.end))
    # The two highest ids stay out: they are image ids 65534 and 65535 when all are there.
    size = min(OWNERS, max(1, shared.size - 2))
    owners = Range(max(1, shared.end - 2 - size), size)
    return Layout(shared, owners, Range(id_count, 0))


def shared_maps(plan: Layout) -> tuple[IdMap, ...]:
    """The id map of every container in mode ``shared``."""
    return (IdMap(0, plan.shared.start, plan.shared.size),)


def auto_size(highest_image_id: int) -> int:
    """Ids an image needs that start at 0, for ``--userns=auto`` without a size.

    65534 is mapped apart from the range and does not widen it.
    """
    wanted = highest_image_id + 1 if highest_image_id != NOBODY else 0
    return min(MAX_AUTO, max(MIN_AUTO, wanted))


def auto_maps(start: int, size: int) -> tuple[IdMap, ...]:
    """Container ids 0 … size-1 from engine id ``start``, and 65534 right after them."""
    maps = (IdMap(0, start, size),)
    return maps if size > NOBODY else (*maps, IdMap(NOBODY, start + size, 1))


def auto_width(size: int) -> int:
    """Engine ids that :func:`auto_maps` uses for ``size``."""
    return size if size > NOBODY else size + 1


def allocate_auto(plan: Layout, used: Iterable[Range], size: int) -> tuple[IdMap, ...]:
    """The lowest free range for ``size`` container ids, as an id map.

    ``used`` are the ranges of all existing containers, as :func:`range_of`
    gives them; ranges elsewhere do no harm. Raises Exhausted when no gap is
    wide enough and InvalidInput for a size no container can have.
    """
    if not 1 <= size <= MAX_AUTO:
        raise InvalidInput(
            f"--userns=auto:size={size} is out of range", hint=f"use 1 to {MAX_AUTO}"
        )
    width = auto_width(size)
    start = plan.auto.start
    for taken in sorted(used, key=lambda r: r.start):
        if taken.end <= start:
            continue
        if taken.start - start >= width:
            break
        start = taken.end
    if start + width > plan.auto.end:
        raise Exhausted(
            f"no {width} free ids in a row for --userns=auto: "
            f"the engine has {plan.auto.size} ids for such containers",
            hint=f"remove containers, use a smaller --userns=auto:size=, or: {_HINT}",
            context={"wanted": width, "total": plan.auto.size},
        )
    return auto_maps(start, size)


def common_owner(plan: Layout) -> int:
    """The owner of every user namespace whose processes need not be counted alone.

    It is one for all, so that a sandbox can be made before it is known for whom.
    """
    return plan.owners.start


def allocate_owner(plan: Layout, used: Collection[int]) -> int:
    """The lowest engine id of the owners' slice that no container uses, nor all share."""
    taken = frozenset(used)
    for candidate in range(plan.owners.start + 1, plan.owners.end):
        if candidate not in taken:
            return candidate
    raise Exhausted(
        f"all {plan.owners.size} ids for the owners of containers' user namespaces are in use",
        hint=f"remove stopped containers, or: {_HINT}",
    )


def range_of(userns: UsernsSpec) -> Range | None:
    """The range a container of mode ``auto`` occupies; None for ``shared``."""
    if userns.mode != "auto":
        return None
    start = min(m.outside for m in userns.maps)
    return Range(start, max(m.outside + m.size for m in userns.maps) - start)
