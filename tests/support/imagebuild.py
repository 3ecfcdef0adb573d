"""Small images for tests, made in a content store without any registry."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

from rootless.archive.compress import CompressingWriter
from rootless.images import config as configs
from rootless.images import image as images
from rootless.images import manifest as manifests
from rootless.images import platform as platforms
from rootless.images.config import ImageConfig
from rootless.images.content import ContentStore, digest_of
from rootless.images.image import Image
from rootless.images.manifest import Descriptor, Index, Manifest
from rootless.images.platform import Platform
from rootless.model.request import ContainerConfig

Compression = Literal["none", "gzip", "zstd"]

_OCI = {
    "none": manifests.OCI_LAYER,
    "gzip": manifests.OCI_LAYER_GZIP,
    "zstd": manifests.OCI_LAYER_ZSTD,
}


def compress(data: bytes, kind: Compression) -> bytes:
    """``data`` compressed."""
    out = io.BytesIO()
    writer = CompressingWriter(out, kind)
    writer.write(data)
    writer.finish()
    return out.getvalue()


def make_image(
    store: ContentStore,
    layers: Sequence[bytes],
    *,
    config: ContainerConfig = ContainerConfig(cmd=("sh",)),  # noqa: B008 - frozen
    compression: Compression = "gzip",
    platform: Platform | None = None,
    docker: bool = False,
) -> Image:
    """An image of ``layers`` (tar archives); ``docker`` gives schema 2 media types."""
    descriptors = []
    for layer in layers:
        blob = compress(layer, compression)
        media_type = manifests.DOCKER_LAYER_GZIP if docker else _OCI[compression]
        descriptors.append(Descriptor(media_type, store.put(blob), len(blob)))
    body = ImageConfig(
        platform=platform or platforms.host(),
        config=config,
        diff_ids=tuple(digest_of(layer) for layer in layers),
    )
    if not docker:
        return images.assemble(store, body, tuple(descriptors))
    data = configs.encode(body)
    document = Manifest(
        manifests.DOCKER_MANIFEST,
        Descriptor(manifests.DOCKER_CONFIG, store.put(data), len(data)),
        tuple(descriptors),
    )
    return images.make(store.put(manifests.encode(document)), document, body)


def make_index(store: ContentStore, members: Sequence[Image]) -> str:
    """An index of ``members``; returns its digest."""
    entries = tuple(
        Descriptor(
            image.manifest.media_type,
            image.manifest_digest,
            store.size(image.manifest_digest),
            image.config.platform,
        )
        for image in members
    )
    return store.put(manifests.encode(Index(manifests.OCI_INDEX, entries)))
