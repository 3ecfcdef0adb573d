"""What ``rmi`` and ``image prune`` take away: names, images that lose the last one, and parents.

The rules are Docker's. By a name only that name goes; the image follows when it
was the last one and nothing needs the image. By its id the image goes with all
its names. What holds an image: images made from it and running containers
always, further names and stopped containers unless forced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rootless import ids
from rootless.engine.image_index import Entry, ImageIndex
from rootless.engine.registry import Registry
from rootless.engine.transfers import Transfers
from rootless.engine.unit import Unit
from rootless.errors import Conflict, InvalidInput
from rootless.images import reference as references
from rootless.images.reference import Reference
from rootless.model.records import ImageDeletion


class ImageRemoval:
    """Used with the index' lock held."""

    def __init__(self, index: ImageIndex, registry: Registry, transfers: Transfers) -> None:
        self._index = index
        self._registry = registry
        self._transfers = transfers

    def remove(self, ref: str, *, force: bool, prune_parents: bool) -> list[ImageDeletion]:
        """By name or id; Conflict when something holds it."""
        entry = self._index.find(ref)
        name = self._name_in(entry, ref)
        if name is None:
            if _is_single(entry):
                self._check(entry, force=force, names=False)
            elif not force and entry.names:
                self._check(entry, force=False, names=True)
            return self._delete(entry, force=force, prune_parents=prune_parents, quiet=False)
        if not force and _is_single(entry):
            self._check_unused(entry, ref)
        lines = self._untag(entry, _goes_with(entry, name))
        if not entry.names:
            lines += self._delete(entry, force=force, prune_parents=prune_parents, quiet=True)
        return lines

    def prune(self, entry: Entry) -> list[ImageDeletion]:
        """The image with all its names, and parents without a name.

        Of one that containers use the names that nobody uses (all but one when they use its id).
        """
        used = {unit.record.spec.image.reference for unit in self._users(entry)}
        if used:
            kept = {tag for tag in entry.tags if self._is_meant(tag, used)} or {*entry.tags[-1:]}
            return self._untag(entry, [str(tag) for tag in entry.tags if tag not in kept])
        if self._index.children(entry.image.id):
            return []
        return self._delete(entry, force=True, prune_parents=True, quiet=True)

    @staticmethod
    def _is_meant(tag: Reference, texts: Iterable[str]) -> bool:
        for text in texts:
            try:
                if references.parse(text).with_default_tag() == tag:
                    return True
            except InvalidInput:
                continue  # an id
        return False

    def _name_in(self, entry: Entry, ref: str) -> Reference | None:
        """The name ``ref`` is of the image, None when it is an id."""
        try:
            name = references.parse(ref).with_default_tag()
        except InvalidInput:
            return None
        return name if str(name) in entry.names else None

    def _users(self, entry: Entry) -> Iterator[Unit]:
        """Containers made from the image, or that mount it."""
        return (
            unit
            for unit in self._registry
            if entry.image.id in {i.id for i in (unit.record.spec.image, *unit.record.spec.mounted)}
        )

    def _check_unused(self, entry: Entry, ref: str) -> None:
        """Its only name stays while a container uses it: the image would be left without."""
        for unit in self._users(entry):
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - '
                f"container {ids.short_id(unit.id)} is using its referenced image "
                f"{ids.short_id(entry.image.id)}"
            )

    def _conflict(self, entry: Entry, *, force: bool, names: bool) -> str:
        """What holds the image, '' for nothing; soft reasons not with ``force``."""
        if self._index.children(entry.image.id):
            return "(cannot be forced) - image has dependent child images"
        users = list(self._users(entry))
        for unit in users:
            if _runs(unit):
                return (
                    "(cannot be forced) - image is being used by running container "
                    f"{ids.short_id(unit.id)}"
                )
        if names and not force and entry.names:
            return "(must be forced) - image is referenced in multiple repositories"
        for unit in users:
            if not force:
                return (
                    "(must be forced) - image is being used by stopped container "
                    f"{ids.short_id(unit.id)}"
                )
        return ""

    def _check(self, entry: Entry, *, force: bool, names: bool) -> None:
        found = self._conflict(entry, force=force, names=names)
        if found:
            short = ids.short_id(entry.image.id)
            raise Conflict(f"conflict: unable to delete {short} {found}")

    def _delete(
        self, entry: Entry, *, force: bool, prune_parents: bool, quiet: bool
    ) -> list[ImageDeletion]:
        """The image and its names; ``quiet`` leaves what is held as it is."""
        if quiet:
            if self._conflict(entry, force=force, names=True):
                return []
        else:
            self._check(entry, force=force, names=False)
        lines = self._untag(entry, sorted(entry.names))
        self._index.remove(entry)
        self._transfers.event("delete", entry.image, entry.image.id)
        lines.append(ImageDeletion(deleted=entry.image.id))
        parent = self._index.get(entry.parent)
        if prune_parents and parent is not None and not parent.names:
            lines += self._delete(parent, force=False, prune_parents=True, quiet=True)
        return lines

    def _untag(self, entry: Entry, texts: Sequence[str]) -> list[ImageDeletion]:
        names = [entry.names[text].familiar for text in texts]
        if texts:
            self._index.untag(entry, texts)
        for name in names:
            self._transfers.event("untag", entry.image, name)
        return [ImageDeletion(untagged=name) for name in names]


def _runs(unit: Unit) -> bool:
    return unit.record.state.running or unit.record.state.status == "restarting"


def _is_single(entry: Entry) -> bool:
    """At most one tag, and no digest of another repository."""
    tags = sum(1 for name in entry.names.values() if not name.digest)
    return tags <= 1 and len({name.name for name in entry.names.values()}) == 1


def _goes_with(entry: Entry, name: Reference) -> Sequence[str]:
    """The name; with the last tag of a repository its digests go as well."""
    siblings = [n for n in entry.names.values() if n.path == name.path and n.domain == name.domain]
    if name.digest or any(n != name and not n.digest for n in siblings):
        return [str(name)]
    return [str(name), *sorted(str(n) for n in siblings if n.digest)]
