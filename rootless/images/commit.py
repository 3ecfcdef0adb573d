"""New images from containers (commit) and from plain archives (import)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from rootless.archive.compress import CompressingWriter, Decompressed, DigestingWriter
from rootless.archive.limits import DEFAULT_LIMITS, Limits
from rootless.archive.reader import Readable, TarReader
from rootless.images import changes as instructions
from rootless.images import image as images
from rootless.images.config import History, ImageConfig
from rootless.images.content import ContentStore, Ingest
from rootless.images.image import Image
from rootless.images.manifest import OCI_LAYER_GZIP, Descriptor
from rootless.images.platform import Platform
from rootless.images.unpack import Packed
from rootless.model.request import ContainerConfig

_CHUNK = 256 * 1024


def commit(
    store: ContentStore,
    parent: Image,
    layer: Packed | None,
    config: ContainerConfig,
    *,
    created_ns: int,
    author: str = "",
    comment: str = "",
    created_by: str = "",
    changes: Iterable[str] = (),
) -> Image:
    """The image ``parent`` plus ``layer`` (already in ``store``), with the container's ``config``.

    ``layer`` None when the container changed nothing.  ``changes`` are applied
    to ``config`` last.
    """
    step = History(created_ns, created_by, author, comment, empty_layer=layer is None)
    diff_ids = parent.config.diff_ids
    layers = parent.manifest.layers
    if layer is not None:
        diff_ids = (*diff_ids, layer.diff_id)
        layers = (*layers, layer.descriptor)
    new = dataclasses.replace(
        parent.config,
        config=instructions.apply(_for_image(config), changes),
        diff_ids=diff_ids,
        history=(*parent.config.history, step),
        created_ns=created_ns,
        author=author or parent.config.author,
    )
    return images.assemble(store, new, layers)


def _for_image(config: ContainerConfig) -> ContainerConfig:
    """What of a container's config belongs to one run only is left out."""
    return dataclasses.replace(
        config,
        hostname="",
        domainname="",
        attach_stdin=False,
        attach_stdout=False,
        attach_stderr=False,
        tty=False,
        open_stdin=False,
        stdin_once=False,
        image="",
    )


class _IngestWriter:
    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def write(self, data: bytes, /) -> None:
        self._ingest.write(data)


class _Copying:
    """Passes a stream through and writes it to ``out`` as well."""

    def __init__(self, stream: Readable, out: DigestingWriter) -> None:
        self._stream = stream
        self._out = out

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        if data:
            self._out.write(data)
        return data


def store_layer(
    store: ContentStore, stream: Readable, *, limits: Limits = DEFAULT_LIMITS
) -> Packed:
    """Store a tar archive (compressed in any way) as a gzip layer; refuses what is no tar."""
    plain = Decompressed(stream, limits, what="archive")
    with store.ingest() as ingest:
        blob = DigestingWriter(_IngestWriter(ingest))
        packer = CompressingWriter(blob, "gzip")
        tar = DigestingWriter(packer)
        reader = TarReader(_Copying(plain, tar), limits)
        while reader.next() is not None:
            pass
        reader.drain()
        packer.finish()
        ingest.commit()
    return Packed(tar.digest(), blob.digest(), blob.size, OCI_LAYER_GZIP, reader.entries)


def import_archive(
    store: ContentStore,
    stream: Readable,
    *,
    created_ns: int,
    platform: Platform,
    message: str = "",
    changes: Iterable[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> Image:
    """An image of one layer from the root file system archive ``stream``."""
    config = instructions.apply(ContainerConfig(), changes)
    layer = store_layer(store, stream, limits=limits)
    return images.assemble(
        store,
        ImageConfig(
            platform=platform,
            config=config,
            diff_ids=(layer.diff_id,),
            history=(History(created_ns, comment=message or "Imported from -"),),
            created_ns=created_ns,
        ),
        (Descriptor(layer.media_type, layer.digest, layer.size),),
    )
