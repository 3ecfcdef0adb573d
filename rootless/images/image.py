"""An image in the content store: manifest, config and layers that belong together."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.errors import InvalidInput
from rootless.images import config as configs
from rootless.images import manifest as manifests
from rootless.images.config import ImageConfig
from rootless.images.content import ContentStore
from rootless.images.manifest import Descriptor, Manifest


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: where its blob is and what it unpacks to."""

    descriptor: Descriptor
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """One image for one platform; every blob it names is in the content store."""

    id: str
    """The config's digest."""
    manifest_digest: str
    manifest: Manifest
    config: ImageConfig

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Lowest first."""
        pairs = zip(self.manifest.layers, self.config.diff_ids, strict=True)
        return tuple(Layer(descriptor, diff_id) for descriptor, diff_id in pairs)

    @property
    def blobs(self) -> tuple[str, ...]:
        """The digests garbage collection must keep for it."""
        return (self.manifest_digest, *manifests.references(self.manifest))


def make(
    manifest_digest: str, manifest: Manifest, config: ImageConfig, *, what: str = "image"
) -> Image:
    """The image of these parts; InvalidInput when manifest and config do not agree."""
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidInput(
            f"{what} refused: its manifest has {len(manifest.layers)} layers but its config "
            f"{len(config.diff_ids)} diff ids"
        )
    return Image(manifest.config.digest, manifest_digest, manifest, config)


def read(store: ContentStore, manifest_digest: str) -> Image:
    """The image whose manifest is in ``store``; NotFound when a part is missing."""
    data = store.read(manifest_digest, manifests.MAX_MANIFEST)
    document = manifests.parse(data, what=f"manifest {manifest_digest}")
    if not isinstance(document, Manifest):
        raise InvalidInput(f"{manifest_digest} is an index, not an image")
    raw = store.read(document.config.digest, configs.MAX_CONFIG)
    return make(manifest_digest, document, configs.parse(raw))


def assemble(store: ContentStore, config: ImageConfig, layers: tuple[Descriptor, ...]) -> Image:
    """Store a new image made of ``config`` and layer blobs that are already there."""
    data = configs.encode(config)
    digest = store.put(data)
    descriptor = Descriptor(manifests.OCI_CONFIG, digest, len(data))
    manifest = Manifest(manifests.OCI_MANIFEST, descriptor, layers)
    return make(store.put(manifests.encode(manifest)), manifest, config)
