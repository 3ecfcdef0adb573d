"""``save``: images as one archive, in the layout ``docker load`` and OCI tools read.

As Docker since version 25: an OCI image layout (``oci-layout``, ``index.json``,
``blobs/sha256/…``) that also has ``manifest.json`` and ``repositories`` for
readers of the older docker-archive format.  ``oci-archive`` leaves those out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from rootless.archive.header import DIRECTORY, REGULAR_KIND
from rootless.archive.writer import TarWriter, Writable, entry
from rootless.images import manifest as manifests
from rootless.images.content import ContentStore
from rootless.images.image import Image
from rootless.images.manifest import Descriptor, Index
from rootless.images.reference import Reference

_CHUNK = 1 << 20
CONTAINERD_NAME = "io.containerd.image.name"
OCI_NAME = "org.opencontainers.image.ref.name"

Format = Literal["docker-archive", "oci-archive"]


@dataclass(frozen=True, slots=True)
class Saved:
    """One image to save and the names it is saved under."""

    image: Image
    tags: tuple[Reference, ...] = ()


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _index(items: Sequence[Saved], store: ContentStore) -> bytes:
    entries: list[Descriptor] = []
    for item in items:
        base = Descriptor(
            item.image.manifest.media_type,
            item.image.manifest_digest,
            store.size(item.image.manifest_digest),
            item.image.config.platform,
        )
        for tag in item.tags:
            annotations = ((CONTAINERD_NAME, str(tag)), (OCI_NAME, tag.tag))
            entries.append(
                Descriptor(base.media_type, base.digest, base.size, base.platform, annotations)
            )
        if not item.tags:
            entries.append(base)
    return manifests.encode(Index(manifests.OCI_INDEX, tuple(entries)))


def _docker_manifest(items: Sequence[Saved]) -> bytes:
    body = [
        {
            "Config": _blob_path(item.image.id),
            "RepoTags": [tag.familiar for tag in item.tags] or None,
            "Layers": [_blob_path(layer.descriptor.digest) for layer in item.image.layers],
        }
        for item in items
    ]
    return msgspec.json.encode(body)


def _repositories(items: Sequence[Saved]) -> bytes:
    body: dict[str, dict[str, str]] = {}
    for item in items:
        for tag in item.tags:
            top = item.image.layers[-1].descriptor.digest if item.image.layers else item.image.id
            body.setdefault(tag.familiar_name, {})[tag.tag] = top.removeprefix("sha256:")
    return msgspec.json.encode(body)


def save(
    items: Sequence[Saved],
    store: ContentStore,
    out: Writable,
    *,
    kind: Format = "docker-archive",
) -> None:
    """Write ``items`` to ``out`` as an uncompressed tar; shared blobs appear once.

    The same images give the same bytes. NotFound when a blob is missing.
    """
    digests = sorted({digest for item in items for digest in item.image.blobs})
    for digest in digests:
        store.size(digest)  # NotFound before the first byte goes out
    tar = TarWriter(out)
    for directory in (b"blobs/", b"blobs/sha256/"):
        tar.add(entry(directory, DIRECTORY, mode=0o755))
    for digest in digests:
        _blob(tar, store, digest)
    _file(tar, "index.json", _index(items, store))
    if kind == "docker-archive":
        _file(tar, "manifest.json", _docker_manifest(items))
    _file(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    if kind == "docker-archive" and any(item.tags for item in items):
        _file(tar, "repositories", _repositories(items))
    tar.finish()


def _file(tar: TarWriter, name: str, data: bytes) -> None:
    tar.add(entry(name.encode(), REGULAR_KIND), data)


def _blob(tar: TarWriter, store: ContentStore, digest: str) -> None:
    header = entry(_blob_path(digest).encode(), REGULAR_KIND)
    header.size = store.size(digest)
    tar.begin(header)
    with store.open(digest) as file:
        while data := file.read(_CHUNK):
            tar.write(data)
    tar.pad(header.size)
