"""Which images there are and how they are called; state.db and memory move together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rootless import ids
from rootless.engine.state import State
from rootless.errors import InvalidInput, NotFound, RootlessError
from rootless.images import image as images
from rootless.images import reference as references
from rootless.images.content import ContentStore
from rootless.images.image import Image
from rootless.images.reference import Reference
from rootless.model.image import Voucher
from rootless.model.records import ImageRecord
from rootless.storage.layers import LayerStore


@dataclass(slots=True)
class Entry:
    """One image with its canonical names (``docker.io/library/busybox:latest``)."""

    image: Image
    parent: str = ""
    tagged_ns: int = 0
    names: dict[str, Reference] = field(default_factory=dict)
    owners: set[str] = field(default_factory=set)
    """Who brought it (``Identity.key``, '*' for everybody's)."""

    @property
    def tags(self) -> Sequence[Reference]:
        """Names with a tag, sorted."""
        return [name for _, name in sorted(self.names.items()) if not name.digest]

    @property
    def digests(self) -> Sequence[Reference]:
        """Names with a digest, sorted."""
        return [name for _, name in sorted(self.names.items()) if name.digest]


class ImageIndex:
    """Images by id and by name."""

    def __init__(self, state: State, content: ContentStore, layers: LayerStore) -> None:
        self._state = state
        self._content = content
        self._layers = layers
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, str] = {}
        self._records: dict[str, ImageRecord] = {}

    def load(self) -> tuple[str, ...]:
        """Read all images; returns the ids of those that are damaged and were dropped."""
        damaged = []
        for image_id, manifest, parent, tagged in self._state.images():
            try:
                found = images.read(self._content, manifest)
            except RootlessError:
                damaged.append(image_id)
                self._state.remove_image(image_id)
                continue
            self._entries[image_id] = Entry(found, parent, tagged)
        for name, image_id in self._state.image_names():
            if image_id in self._entries:
                self._entries[image_id].names[name] = references.parse(name)
                self._names[name] = image_id
        for image_id, owner in self._state.image_owners():
            if image_id in self._entries:
                self._entries[image_id].owners.add(owner)
        return tuple(damaged)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, image_id: str) -> Entry | None:
        """By full id."""
        return self._entries.get(image_id)

    def by_name(self, reference: Reference) -> Entry | None:
        """By an exact name."""
        return self._entries.get(self._names.get(str(reference), ""))

    def find(self, ref: str, seen: Callable[[Entry], bool] = lambda _: True) -> Entry:
        """By id, name or unambiguous id prefix; NotFound with Docker's words.

        A prefix is looked for among those only that the caller has ``seen``.
        """
        entry = self._entries.get(ref if ref.startswith("sha256:") else f"sha256:{ref}")
        if entry is not None:
            return entry
        name: Reference | None = None
        try:
            name = references.parse(ref).with_default_tag()
            entry = self.by_name(name)
        except InvalidInput:
            if not ids.is_id_prefix(ref.removeprefix("sha256:")):
                raise
        if entry is not None:
            return entry
        prefix = ref.removeprefix("sha256:")
        if ids.is_id_prefix(prefix):
            matches = [e for key, e in self._entries.items() if key[7:].startswith(prefix)]
            matches = [entry for entry in matches if seen(entry)]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise InvalidInput(f"image ID {ref} is ambiguous: several images begin with it")
        raise NotFound(f"No such image: {name.familiar if name else ref}")

    def select(self, ref: str) -> Sequence[tuple[Entry, tuple[Reference, ...]]]:
        """What ``ref`` means where a name without a tag stands for all tags of its repository.

        Each image with those of its tags that were meant: none for an id or a digest.
        """
        try:
            name = references.parse(ref)
        except InvalidInput:
            return [(self.find(ref), ())]
        if not (name.tag or name.digest):
            tags = [t for e in self._entries.values() for t in e.tags if t.name == name.name]
            if tags:
                found = [(self.by_name(tag), (tag,)) for tag in sorted(tags, key=str)]
                return [(entry, tags) for entry, tags in found if entry is not None]
        entry = self.find(ref)
        return [(entry, (name,) if name in entry.tags else ())]

    def put(
        self,
        image: Image,
        names: Sequence[Reference],
        *,
        parent: str = "",
        vouchers: Sequence[Voucher] = (),
        owner: str = "",
    ) -> Entry:
        """Record an image under names; they move from what they named before.

        ``owner`` comes to those who brought it before; '' is nobody new.
        ``vouchers`` are the signatures of it that were verified, added to those it has.
        """
        texts = [str(name) for name in names]
        now = time.time_ns()
        self._state.put_image(
            image.id,
            image.manifest_digest,
            parent=parent,
            tagged_ns=now,
            names=texts,
            vouchers=vouchers,
            owners=[owner] if owner else [],
        )
        entry = self._entries.get(image.id)
        if entry is None:
            entry = self._entries[image.id] = Entry(image, parent)
        entry.image = image  # perhaps of another manifest: its layers are compressed otherwise
        entry.tagged_ns = now
        if owner:
            entry.owners.add(owner)
        for text, name in zip(texts, names, strict=True):
            before = self._entries.get(self._names.get(text, ""))
            if before is not None and before is not entry:
                before.names.pop(text, None)
                self._records.pop(before.image.id, None)
            self._names[text] = image.id
            entry.names[text] = name
        self._records.pop(image.id, None)
        return entry

    def disown(self, entry: Entry, owner: str) -> None:
        """Forget that somebody brought an image."""
        self._state.remove_image_owner(entry.image.id, owner)
        entry.owners.discard(owner)

    def untag(self, entry: Entry, names: Sequence[str]) -> None:
        """Take names away."""
        self._state.remove_image_names(names)
        for name in names:
            entry.names.pop(name, None)
            self._names.pop(name, None)
        self._records.pop(entry.image.id, None)

    def remove(self, entry: Entry) -> None:
        """Forget an image."""
        self._state.remove_image(entry.image.id)
        for name in entry.names:
            self._names.pop(name, None)
        self._entries.pop(entry.image.id, None)
        self._records.pop(entry.image.id, None)

    def children(self, image_id: str) -> Sequence[Entry]:
        """Images committed from this one."""
        return [e for e in self._entries.values() if e.parent == image_id]

    def record(self, entry: Entry) -> ImageRecord:
        """What inspect and list show."""
        known = self._records.get(entry.image.id)
        if known is not None:
            return known
        image, config = entry.image, entry.image.config
        sizes = [self._layers.lookup(diff_id) for diff_id in config.diff_ids]
        manifest = image.manifest
        packed = manifest.config.size + sum(layer.size for layer in manifest.layers)
        manifest_size = self._content.size(image.manifest_digest)
        made = ImageRecord(
            id=image.id,
            created_ns=config.created_ns,
            architecture=config.platform.architecture,
            os=config.platform.os,
            variant=config.platform.variant,
            config=config.config,
            diff_ids=config.diff_ids,
            size=sum(layer.meta.size for layer in sizes if layer is not None),
            repo_tags=tuple(r.familiar for r in entry.tags),
            repo_digests=tuple(r.familiar for r in entry.digests),
            manifest_digest=image.manifest_digest,
            manifest_type=manifest.media_type,
            manifest_size=manifest_size,
            content_size=manifest_size + packed,
            parent=entry.parent,
            author=config.author,
            comment=config.history[-1].comment if config.history else "",
            docker_version=config.docker_version,
            last_tagged_ns=entry.tagged_ns,
        )
        self._records[image.id] = made
        return made
