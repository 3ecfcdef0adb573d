"""``load``: docker-archive and oci-archive files, old and new, compressed or not.

The archive is untrusted: entries are staged under names of our own, nothing is
ever extracted by path, documents are bounded, and only what an image needs and
what has the promised digest is published.  A refused archive leaves nothing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from rootless.archive import header as tar
from rootless.archive.compress import Decompressed, detect
from rootless.archive.limits import DEFAULT_LIMITS, Limits
from rootless.archive.names import clean, refuse, show
from rootless.archive.reader import Readable, TarReader
from rootless.errors import InvalidInput, NotFound
from rootless.images import config as configs
from rootless.images import image as images
from rootless.images import manifest as manifests
from rootless.images import platform as platforms
from rootless.images import reference as references
from rootless.images.config import ImageConfig
from rootless.images.content import ContentStore, Staged, Staging
from rootless.images.image import Image
from rootless.images.manifest import Descriptor, Index, Manifest
from rootless.images.platform import Platform
from rootless.images.reference import Reference
from rootless.images.save import CONTAINERD_NAME, OCI_NAME

_MAX_FILES = 20_000
_MAX_IMAGES = 1_000
_MEDIA_TYPES = {
    "none": manifests.OCI_LAYER,
    "gzip": manifests.OCI_LAYER_GZIP,
    "zstd": manifests.OCI_LAYER_ZSTD,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image of an archive, now in the content store, with its names there."""

    image: Image
    tags: tuple[Reference, ...]


class _DockerEntry(msgspec.Struct):
    Config: str
    Layers: list[str] | None = None
    RepoTags: list[str] | None = None


@dataclass(slots=True)
class _Contents:
    """The archive's files by clean name; links map to the name they lead to."""

    files: dict[str, Staged] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Staged:
        """The file ``name``, through at most a few links (docker save before 25 makes some)."""
        path = posixpath.normpath(name)
        for _ in range(8):
            found = self.files.get(path)
            if found is not None:
                return found
            if path not in self.links:
                break
            path = self.links[path]
        raise InvalidInput(f"archive refused: it has no '{show(name.encode())}'")

    def document(self, name: str, limit: int) -> bytes:
        """The content of a small file."""
        staged = self.find(name)
        if staged.size > limit:
            raise InvalidInput(f"archive refused: '{show(name.encode())}' is too large")
        return staged.path.read_bytes()

    def blob(self, digest: str) -> Staged:
        """The blob ``digest`` of an OCI layout, verified."""
        staged = self.find(f"blobs/sha256/{digest.removeprefix('sha256:')}")
        if staged.digest != digest:
            raise InvalidInput(
                f"archive refused: blob {digest} has the digest {staged.digest}",
                hint="the archive is damaged or tampered with",
            )
        return staged


def load(
    stream: Readable,
    store: ContentStore,
    *,
    wanted: Platform | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Loaded, ...]:
    """The images of the archive ``stream``; InvalidInput when it is none of the formats.

    ``wanted`` chooses in an index of several platforms (the host's by default);
    an image that is for another platform than the one asked for is NotFound.
    """
    with store.stage() as staging:
        contents = _read(stream, staging, limits)
        loader = _Loader(contents, staging, store, wanted)
        if "manifest.json" in contents.files:
            return loader.docker()
        if "index.json" in contents.files:
            return loader.oci()
    raise InvalidInput(
        "archive refused: it has neither manifest.json nor index.json",
        hint="rootless load takes the output of docker save; for a root file system use import",
    )


def _read(stream: Readable, staging: Staging, limits: Limits) -> _Contents:
    contents = _Contents()
    reader = TarReader(Decompressed(stream, limits), limits)
    seen: set[str] = set()
    while (entry := reader.next()) is not None:
        raw = clean(entry.name, limits)
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise refuse(entry.name, "its name is not UTF-8") from None
        if entry.kind == tar.DIRECTORY:
            continue
        if name in seen:
            raise refuse(entry.name, "an earlier entry has the same name")
        seen.add(name)
        if len(seen) > _MAX_FILES:
            raise refuse(entry.name, f"the archive has more than {_MAX_FILES} files")
        if entry.kind in tar.REGULAR and entry.segments is None:
            contents.files[name] = staging.add(reader.data(entry.size))
        elif entry.kind in (tar.LINK, tar.SYMLINK):
            contents.links[name] = _link(name, entry, limits)
        else:
            raise refuse(entry.name, "an image archive has only files, directories and links")
    reader.drain()
    return contents


def _link(name: str, entry: tar.Header, limits: Limits) -> str:
    """Where a link leads, as a name in the archive; outside is refused."""
    target = entry.link.decode("utf-8", "surrogateescape")
    if entry.kind == tar.SYMLINK:
        if target.startswith("/"):
            raise refuse(entry.name, "its link target is absolute")
        target = posixpath.join(posixpath.dirname(name), target)
    target = posixpath.normpath(target)
    if target.startswith("../") or target == "..":
        raise refuse(entry.name, "its link target is outside the archive")
    return clean(target.encode("utf-8", "surrogateescape"), limits, entry=entry.name).decode(
        "utf-8", "surrogateescape"
    )


class _Loader:
    def __init__(
        self, contents: _Contents, staging: Staging, store: ContentStore, wanted: Platform | None
    ) -> None:
        self._contents = contents
        self._staging = staging
        self._store = store
        self._asked = wanted
        self._wanted = wanted or platforms.host()

    # docker-archive ----------------------------------------------------------

    def docker(self) -> tuple[Loaded, ...]:
        data = self._contents.document("manifest.json", manifests.MAX_MANIFEST)
        try:
            entries = msgspec.json.decode(data, type=list[_DockerEntry])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidInput(f"archive refused: manifest.json: {error}") from error
        if not 0 < len(entries) <= _MAX_IMAGES:
            raise InvalidInput(f"archive refused: manifest.json has {len(entries)} images")
        originals = self._originals()
        # Everything is checked before anything is published: all images or none.
        parsed = [self._docker_image(entry, originals) for entry in entries]
        self._check_platforms([image for _, _, image, _ in parsed])
        return tuple(self._publish(*one) for one in parsed)

    def _docker_image(
        self, entry: _DockerEntry, originals: Mapping[str, Staged]
    ) -> tuple[Staged, list[Staged], Image, tuple[Reference, ...]]:
        staged = self._contents.find(entry.Config)
        config = self._config(staged)
        tags = tuple(_tag(text) for text in entry.RepoTags or ())
        layers = [self._contents.find(name) for name in entry.Layers or ()]
        original = originals.get(staged.digest)
        if original is not None:
            image = self._image(original, config)
            if [layer.digest for layer in image.manifest.layers] == [x.digest for x in layers]:
                return original, [staged, *layers], image, tags
        descriptors = tuple(
            Descriptor(self._media_type(layer), layer.digest, layer.size) for layer in layers
        )
        manifest = Manifest(
            manifests.OCI_MANIFEST,
            Descriptor(manifests.OCI_CONFIG, staged.digest, staged.size),
            descriptors,
        )
        made = self._staging.add([manifests.encode(manifest)])
        return made, [staged, *layers], images.make(made.digest, manifest, config), tags

    def _originals(self) -> dict[str, Staged]:
        """Config digest → the manifest an OCI layout in the same archive has for it."""
        found: dict[str, Staged] = {}
        if "index.json" not in self._contents.files:
            return found
        for entry in self._index(self._contents.document("index.json", manifests.MAX_MANIFEST)):
            try:
                staged = self._contents.blob(entry.digest)
                document = self._parse(staged)
            except InvalidInput:
                continue  # manifest.json decides; the layout is only asked for original bytes
            if isinstance(document, Manifest):
                found[document.config.digest] = staged
        return found

    def _media_type(self, layer: Staged) -> str:
        with layer.path.open("rb") as file:
            kind = detect(file.read(8))
        if kind not in _MEDIA_TYPES:
            raise InvalidInput(f"archive refused: layer {layer.digest} is compressed with {kind}")
        return _MEDIA_TYPES[kind]

    # oci-archive ---------------------------------------------------------------

    @staticmethod
    def _index(data: bytes) -> tuple[Descriptor, ...]:
        document = manifests.parse(data, what="index.json of the archive")
        if not isinstance(document, Index):
            raise InvalidInput("archive refused: its index.json is no index")
        return document.manifests

    def _parse(self, staged: Staged) -> Manifest | Index:
        if staged.size > manifests.MAX_MANIFEST:
            raise InvalidInput(f"archive refused: manifest {staged.digest} is too large")
        return manifests.parse(staged.path.read_bytes(), what=f"manifest {staged.digest}")

    def oci(self) -> tuple[Loaded, ...]:
        entries = self._index(self._contents.document("index.json", manifests.MAX_MANIFEST))
        if not 0 < len(entries) <= _MAX_IMAGES:
            raise InvalidInput(f"archive refused: index.json has {len(entries)} images")
        tags: dict[str, list[Reference]] = {}
        chosen: dict[str, Staged] = {}
        for entry in entries:
            staged = self._contents.blob(entry.digest)
            document = self._parse(staged)
            if isinstance(document, Index):
                try:
                    inner = manifests.choose(document, self._wanted, what="the archive")
                except NotFound:
                    if len(entries) == 1:
                        raise
                    continue
                staged = self._contents.blob(inner.digest)
            chosen[staged.digest] = staged
            name = _name_of(entry)
            if name is not None:
                tags.setdefault(staged.digest, []).append(name)
        parsed = []
        for digest, staged in chosen.items():
            image = self._oci_image(staged)
            blobs = [self._contents.blob(d) for d in manifests.references(image.manifest)]
            parsed.append((staged, blobs, image, tuple(tags.get(digest, ()))))
        self._check_platforms([image for _, _, image, _ in parsed])
        return tuple(self._publish(*one) for one in parsed)

    def _oci_image(self, staged: Staged) -> Image:
        document = self._parse(staged)
        if isinstance(document, Index):
            raise InvalidInput("archive refused: an index inside an index is not supported")
        return self._image(staged, self._config(self._contents.blob(document.config.digest)))

    def _check_platforms(self, found: list[Image]) -> None:
        for image in found:
            actual = image.config.platform
            if self._asked is not None and not platforms.same(actual, self._asked):
                raise NotFound(
                    f"the archive has no image for {self._asked}, it has one for {actual}",
                    hint="leave out --platform, or name the one that is there",
                )

    # both ------------------------------------------------------------------------

    def _config(self, staged: Staged) -> ImageConfig:
        if staged.size > configs.MAX_CONFIG:
            raise InvalidInput(f"archive refused: image config {staged.digest} is too large")
        return configs.parse(staged.path.read_bytes(), what=f"image config {staged.digest}")

    def _image(self, staged: Staged, config: ImageConfig) -> Image:
        document = self._parse(staged)
        assert isinstance(document, Manifest)
        return images.make(staged.digest, document, config, what="image of the archive")

    def _publish(
        self, manifest: Staged, blobs: list[Staged], image: Image, tags: tuple[Reference, ...]
    ) -> Loaded:
        for staged in (*blobs, manifest):
            self._staging.publish(staged)
        return Loaded(image, tags)


def _tag(text: str) -> Reference:
    found = references.parse(text).with_default_tag()
    if found.digest:
        raise InvalidInput(f"archive refused: '{text[:200]}' is not a tag")
    return found


def _name_of(entry: Descriptor) -> Reference | None:
    """The name an index gives an image; None when it is only a tag or nothing."""
    annotations = dict(entry.annotations)
    name = annotations.get(CONTAINERD_NAME, "")
    if not name:
        name = annotations.get(OCI_NAME, "")
        if "/" not in name and ":" not in name:
            return None
    try:
        return _tag(name)
    except InvalidInput:
        return None  # any text is allowed there (OCI annotations.md)


def messages(loaded: tuple[Loaded, ...]) -> list[dict[str, object]]:
    """What Docker's ``load`` says, as messages of its JSON stream."""
    lines: list[dict[str, object]] = []
    for one in loaded:
        lines += [{"stream": f"Loaded image: {tag.familiar}\n"} for tag in one.tags]
        if not one.tags:
            lines.append({"stream": f"Loaded image ID: {one.image.id}\n"})
    return lines
