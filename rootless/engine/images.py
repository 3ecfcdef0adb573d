"""Images: list, inspect, tag, remove, prune; transfers are in ``transfers``."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NoReturn

from rootless.engine.core import Core
from rootless.engine.filters import Filters, check_filters, match_labels, single_bool, until
from rootless.engine.image_facts import ImageInspector
from rootless.engine.image_index import Entry, ImageIndex
from rootless.engine.image_removal import ImageRemoval
from rootless.engine.ownership import check_names, of_image, seen_image
from rootless.engine.progress import ProgressStream
from rootless.engine.transfers import Transfers, parse_target
from rootless.engine.unpacking import Unpacker
from rootless.errors import InvalidInput, NotFound
from rootless.images import platform as platforms
from rootless.images import reference as references
from rootless.images.content import ContentStore
from rootless.images.reference import Reference
from rootless.model.build import BuildSpec
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.records import (
    DistributionInfo,
    ImageDeletion,
    ImageHistoryEntry,
    ImageRecord,
    PruneReport,
    RegistryAuth,
)
from rootless.model.spec import ImageSpec

if TYPE_CHECKING:
    pass

_LIST = frozenset("before dangling label reference since until".split())
_PRUNE = frozenset(("dangling", "label", "label!", "until"))


class Images:
    """See :class:`rootless.engine.interface.Images`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.content = ContentStore(core.settings.data_root / "content")
        self.index = ImageIndex(core.state, self.content, core.layers)
        core.images = ImageInspector(core, self.index)
        self.unpacker = Unpacker(core, self.content)
        self.transfers = Transfers(core, self.content, self.index, self.unpacker, self.collect)
        self._lock = self.transfers.lock
        self._removal = ImageRemoval(self.index, core.registry, self.transfers)
        self.making: asyncio.Task[object] | None = None
        """A new engine makes its built-in image while it already serves."""

    async def settled(self) -> None:
        """Wait for the built-in image before looking for images; its failure is logged."""
        if self.making is not None:
            await asyncio.wait((self.making,))
            self.making = None

    def _admit(self, identity: Identity, verb: str, ref: str) -> Entry:
        """The image, when the caller may know of it and do ``verb`` with it."""
        entry = seen_image(self._core, self.index, identity, f"image.{verb}", ref)
        self._core.policy.admit_action(identity, f"image.{verb}", ref, of_image(entry))
        return entry

    async def for_container(self, identity: Identity, reference: str, platform: str) -> ImageRecord:
        """The image of a new container, every layer unpacked."""
        if not reference:
            raise InvalidInput("no image specified")
        await self.settled()
        entry = seen_image(self._core, self.index, identity, "image.run", reference)
        if platform:
            wanted, actual = platforms.parse(platform), entry.image.config.platform
            if (wanted.os, wanted.architecture) != (actual.os, actual.architecture):
                raise NotFound(
                    f"image with reference {reference} was found but does not match the "
                    f"specified platform: wanted {wanted}, actual: {actual}"
                )
        await self.unpacker.image(entry.image)
        return self.index.record(entry)

    def full_name(self, reference: str) -> str:
        """The reference in full for the policy; an id's first name, or the id."""
        entry = self.index.find(reference)
        try:
            name = references.parse(reference).with_default_tag()
            if self.index.by_name(name) is entry:
                return str(name)
        except InvalidInput:
            pass
        return min(entry.names, default=entry.image.id)

    def descendants(self, reference: str) -> frozenset[str]:
        """Ids of the image and of every one committed from it, directly or not."""
        try:
            left = [self.index.find(reference)]
        except (NotFound, InvalidInput):
            return frozenset()
        found: set[str] = set()
        while left:
            entry = left.pop()
            if entry.image.id not in found:
                found.add(entry.image.id)
                left += self.index.children(entry.image.id)
        return frozenset(found)

    def is_named(self, reference: str, image_id: str) -> bool:
        """Whether ``reference`` still means the image ``image_id``."""
        try:
            return self.index.find(reference).image.id == image_id
        except (NotFound, InvalidInput):
            return False

    async def list(
        self, identity: Identity, *, filters: Filters, all: bool = False, shared_size: bool = False
    ) -> Sequence[ImageRecord]:
        """Newest first."""
        self._core.policy.admit_action(identity, "image.list")
        await self.settled()
        check_filters(filters, _LIST)
        bound = until(filters, now_ns=time.time_ns())
        before = [self._created(ref) for ref in filters.get("before", ())]
        since = [self._created(ref) for ref in filters.get("since", ())]
        found = []
        wanted = self._core.policy.lister(identity, "image.list", of_image)
        for entry in self.index:
            if not wanted(entry):
                continue
            if not (all or entry.tags or entry.digests) and self.index.children(entry.image.id):
                continue  # a step on the way to another image
            record = self.index.record(entry)
            created = record.created_ns
            if bound and created > bound:
                continue
            if any(created >= b for b in before) or any(created <= s for s in since):
                continue
            if self._wanted(entry, record, filters):
                found.append(_only_named(entry, record, filters.get("reference", ())))
        if shared_size:
            shared = self.shared_sizes()
            found = [replace(record, shared_size=shared[record.id]) for record in found]
        found.sort(key=lambda record: record.created_ns, reverse=True)
        return self._with_users(found)

    def shared_sizes(self) -> Mapping[str, int]:
        """Bytes of each image's layers that other images have as well."""
        users: dict[str, int] = {}
        layers = {e.image.id: frozenset(e.image.config.diff_ids) for e in self.index}
        for diff_ids in layers.values():
            for diff_id in diff_ids:
                users[diff_id] = users.get(diff_id, 0) + 1
        return {
            image_id: sum(self._layer_size(d) for d in diff_ids if users[d] > 1)
            for image_id, diff_ids in layers.items()
        }

    def _layer_size(self, diff_id: str) -> int:
        layer = self._core.layers.lookup(diff_id)
        return layer.meta.size if layer is not None else 0

    def _created(self, ref: str) -> int:
        return self.index.record(self.index.find(ref)).created_ns

    @staticmethod
    def _wanted(entry: Entry, record: ImageRecord, filters: Filters) -> bool:
        if filters.get("dangling"):
            wanted = single_bool(filters, "dangling", default=False)
            if wanted == bool(entry.tags):
                return False
        if not match_labels(dict(record.config.labels), filters.get("label", ())):
            return False
        patterns = filters.get("reference", ())
        return not patterns or any(
            _matches_any(name, patterns) for name in (*entry.tags, *entry.digests)
        )

    async def inspect(self, identity: Identity, ref: str) -> ImageRecord:
        """One image."""
        await self.settled()
        entry = self._admit(identity, "inspect", ref)
        return self._with_users([self.index.record(entry)])[0]

    async def facts(self, identity: Identity, ref: str) -> ImageFacts:
        """What policies look at in one image."""
        await self.settled()
        image = self._admit(identity, "inspect", ref).image
        found = ImageSpec(image.id, ref, image.config.diff_ids, self.full_name(ref))
        return await self._core.images.facts(found, files=True)

    def _with_users(self, records: Sequence[ImageRecord]) -> Sequence[ImageRecord]:
        users: dict[str, list[str]] = {}
        for unit in self._core.registry:
            users.setdefault(unit.record.spec.image.id, []).append(unit.id)
        return [replace(record, used_by=tuple(users.get(record.id, ()))) for record in records]

    async def history(self, identity: Identity, ref: str) -> Sequence[ImageHistoryEntry]:
        """How it was made, newest step first."""
        await self.settled()
        entry = self._admit(identity, "history", ref)
        config = entry.image.config
        layers = iter(config.diff_ids)
        found = []
        for step in config.history:
            size = 0
            if not step.empty_layer and (diff_id := next(layers, "")):
                size = self._layer_size(diff_id)
            found.append(
                ImageHistoryEntry("<missing>", step.created_ns, step.created_by, size, step.comment)
            )
        found.reverse()
        made: Entry | None = entry
        for at, line in enumerate(found):
            if made is None:
                break
            tags = tuple(r.familiar for r in made.tags)
            found[at] = replace(line, id=made.image.id, tags=tags)
            made = self.index.get(made.parent)
        return found

    async def tag(self, identity: Identity, ref: str, *, repo: str, tag: str) -> None:
        """Give an image another name."""
        await self.settled()
        name = parse_target(repo, tag)
        if name.familiar_name == "sha256":
            raise InvalidInput("refusing to create an ambiguous tag using digest algorithm as name")
        async with self._lock:
            entry = self._admit(identity, "tag", ref)
            check_names(self._core, self.index, identity, entry.image, [name])
            self.index.put(entry.image, [name])
        self.transfers.event("tag", entry.image, name.familiar)

    async def remove(
        self, identity: Identity, ref: str, *, force: bool = False, prune_parents: bool = True
    ) -> Sequence[ImageDeletion]:
        """Untag, and delete what no name is left of."""
        await self.settled()
        async with self._lock:
            entry = self._admit(identity, "remove", ref)
            if not identity.own and entry.owners - {identity.key}:
                # Others brought it as well: for them it stays, with its names.
                self.index.disown(entry, identity.key)
                return [ImageDeletion(untagged=ref)]
            lines = self._removal.remove(ref, force=force, prune_parents=prune_parents)
        if any(line.deleted or "@" in line.untagged for line in lines):
            await self.collect()  # a tag alone holds nothing
        return lines

    async def collect(self) -> int:
        """Remove blobs and layers that no image and no container needs; bytes won back."""
        async with self._lock:
            if self.transfers.running:
                # What a pull fetched has no record yet; the next collection comes.
                return 0
            keep: set[str] = set()
            layers: set[str] = set()
            for entry in self.index:
                keep.update(entry.image.blobs)
                keep.update(name.digest for name in entry.digests)
                layers.update(entry.image.config.diff_ids)
            for unit in self._core.registry:
                spec = unit.record.spec
                for image in (spec.image, *spec.mounted):
                    layers.update(image.diff_ids)
            collected = await asyncio.to_thread(self.content.collect, keep)
            freed = collected.bytes
            for layer in list(self._core.layers.all()):
                if layer.meta.diff_id in layers:
                    continue
                away = self._core.layers.remove(layer.meta.diff_id)
                if away is not None:
                    freed += layer.meta.size
                    self._core.spares.forget()
                    self._core.discard(away)
            return freed

    async def prune(self, identity: Identity, *, filters: Filters) -> PruneReport:
        """Remove unused images: those without a tag, with ``dangling=false`` all of them."""
        self._core.policy.admit_action(identity, "image.prune")
        await self.settled()
        check_filters(filters, _PRUNE)
        only_dangling = single_bool(filters, "dangling", default=True)
        bound = until(filters, now_ns=time.time_ns())
        lines: list[ImageDeletion] = []
        async with self._lock:
            chosen = [
                entry
                for entry in self.index
                if not (only_dangling and entry.tags)
                and self._is_meant(identity, entry, filters, bound)
            ]
            while True:  # what others were made from can go when those are gone
                found = [
                    line
                    for entry in chosen
                    if self.index.get(entry.image.id) is entry
                    for line in self._removal.prune(entry)
                ]
                if not found:
                    break
                lines += found
        freed = await self.collect()
        self._core.events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return PruneReport(images=tuple(lines), space_reclaimed=freed)

    def _is_meant(self, identity: Identity, entry: Entry, filters: Filters, bound: int) -> bool:
        """Whether ``prune`` means the image; ``bound`` is the newest time in ns, 0 for any."""
        mine = identity.own or entry.owners == {identity.key}
        if not (mine and self._core.policy.lists(identity, "image.prune", of_image(entry))):
            return False
        record = self.index.record(entry)
        labels = dict(record.config.labels)
        if bound and record.created_ns > bound:
            return False
        unwanted = any(match_labels(labels, [text]) for text in filters.get("label!", ()))
        return match_labels(labels, filters.get("label", ())) and not unwanted

    async def build(self, identity: Identity, asked: BuildSpec) -> NoReturn:
        """Who may not build hears that; everybody else that this engine does not do it yet."""
        self._core.policy.admit_build(identity, asked)
        raise InvalidInput(
            "building images is not supported yet",
            hint="build elsewhere and load the result: rootless load < image.tar",
        )

    # -- transfers -------------------------------------------------------------

    async def pull(
        self,
        identity: Identity,
        reference: str,
        *,
        platform: str = "",
        auth: RegistryAuth | None = None,
        all_tags: bool = False,
    ) -> ProgressStream:
        """From a registry."""
        return await self.transfers.pull(
            identity, reference, platform=platform, auth=auth, all_tags=all_tags
        )

    async def distribution(
        self, identity: Identity, reference: str, *, auth: RegistryAuth | None = None
    ) -> DistributionInfo:
        """Of a registry."""
        return await self.transfers.distribution(identity, reference, auth=auth)

    async def push(
        self, identity: Identity, reference: str, *, auth: RegistryAuth | None = None
    ) -> ProgressStream:
        """To a registry."""
        await self.settled()
        return await self.transfers.push(identity, reference, auth=auth)

    async def save(self, identity: Identity, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """As an archive."""
        await self.settled()
        return await self.transfers.save(identity, refs)

    async def load(
        self, identity: Identity, body: AsyncIterator[bytes], *, platform: str = ""
    ) -> ProgressStream:
        """From an archive."""
        return await self.transfers.load(identity, body, platform=platform)

    async def import_(
        self,
        identity: Identity,
        body: AsyncIterator[bytes],
        *,
        repo: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> ProgressStream:
        """From the archive of a root file system."""
        return await self.transfers.import_(
            identity,
            body,
            name=parse_target(repo, tag) if repo else None,
            message=message,
            changes=changes,
            platform=platform,
        )

    async def search(
        self,
        identity: Identity,
        term: str,
        *,
        limit: int = 0,
        filters: Filters,
        auth: RegistryAuth | None = None,
    ) -> Sequence[Mapping[str, object]]:
        """What Docker Hub's index has, or that of the registry which ``term`` begins with."""
        self._core.policy.admit_action(identity, "image.search", term)
        return await self.transfers.search(term, limit, filters, auth)


def _only_named(entry: Entry, record: ImageRecord, patterns: Sequence[str]) -> ImageRecord:
    """A list by reference shows only the names that were asked for, as Docker's does."""
    if not patterns:
        return record
    return replace(
        record,
        repo_tags=tuple(r.familiar for r in entry.tags if _matches_any(r, patterns)),
        repo_digests=tuple(r.familiar for r in entry.digests if _matches_any(r, patterns)),
    )


def _matches_any(name: Reference, patterns: Sequence[str]) -> bool:
    return any(matches_reference(name, pattern) for pattern in patterns)


def matches_reference(name: Reference, pattern: str) -> bool:
    """Docker's ``reference`` filter: a glob over the familiar name, with or without the tag."""
    candidates = (name.familiar, name.familiar_name, str(name), name.name)
    if "*" not in pattern and "?" not in pattern and "[" not in pattern:
        return pattern in candidates
    depth = pattern.count("/")
    regex = re.compile(r"[^/]*/" * depth + r"[^/]*")
    return any(
        fnmatchcase(text, pattern) and regex.fullmatch(text) is not None for text in candidates
    )
