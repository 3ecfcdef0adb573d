"""Layer blobs to directories and back; runs in a worker in the engine's user namespace."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rootless.archive.compress import (
    CompressingWriter,
    Decompressed,
    Digesting,
    DigestingWriter,
)
from rootless.archive.create import Exclude, create
from rootless.archive.extract import extract
from rootless.archive.limits import DEFAULT_LIMITS, LAYER_SHIFT, IdShift, Limits
from rootless.archive.whiteout import WhiteoutReader, WhiteoutWriter
from rootless.errors import InvalidInput
from rootless.images.manifest import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor

_STEP = 1 << 20
SPARSE_ABOVE = 8 << 30
"""Bytes. A layer should have no sparse files (OCI image-spec 1.1, layer.md): Docker and Podman load
them, but cannot push or save them again. A file whose holes nobody could wait for has them all the
same; /var/log/lastlog can have an apparent size of hundreds of gigabytes."""

Consumed = Callable[[int], None]
"""Is told how many compressed bytes were read, once per mebibyte or so."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One unpacked layer."""

    diff_id: str
    size: int
    """Bytes of file content."""
    tar_size: int
    """Bytes of the uncompressed archive."""
    entries: int
    max_id: int
    """Highest image id that owns something."""
    skipped_devices: tuple[str, ...] = ()
    dropped_xattrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Packed:
    """One layer written as a blob."""

    diff_id: str
    digest: str
    size: int
    """Compressed bytes."""
    media_type: str
    entries: int

    @property
    def descriptor(self) -> Descriptor:
        """For a manifest."""
        return Descriptor(self.media_type, self.digest, self.size)


class _File:
    """Reads a descriptor and reports how far it is."""

    def __init__(self, fd: int, consumed: Consumed | None) -> None:
        self._fd = fd
        self._consumed = consumed
        self._total = 0
        self._told = 0

    def read(self, size: int, /) -> bytes:
        data = os.read(self._fd, size)
        self._total += len(data)
        if self._consumed is not None and (self._total - self._told >= _STEP or not data):
            self._told = self._total
            self._consumed(self._total)
        return data


class FdWriter:
    """Writes all of what it is given to a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes, /) -> None:
        """Write all of ``data``."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


def unpack_blob(
    blob: int,
    diff_id: str,
    dest: int,
    whiteouts: WhiteoutWriter,
    *,
    limits: Limits = DEFAULT_LIMITS,
    shift: IdShift = LAYER_SHIFT,
    consumed: Consumed | None = None,
) -> Unpacked:
    """Unpack the blob open as ``blob`` (at its start) into the empty directory ``dest``.

    The compression is found by its magic number.  ``diff_id`` is what the image's
    config promises of the uncompressed archive; anything else is refused after
    the fact, so the caller unpacks to a temporary name and removes it on error.
    """
    what = f"layer {diff_id}"
    stream = Digesting(Decompressed(_File(blob, consumed), limits, what=what))
    try:
        done = extract(stream, dest, shift=shift, whiteouts=whiteouts, limits=limits)
        actual = stream.digest()
    finally:
        stream.close()
    if actual != diff_id:
        raise InvalidInput(
            f"{what} refused: its uncompressed content has digest {actual}",
            hint="the image's config and its layers do not belong together",
        )
    return Unpacked(
        diff_id=diff_id,
        size=done.bytes,
        tar_size=stream.size,
        entries=done.entries,
        max_id=done.max_id,
        skipped_devices=done.skipped_devices,
        dropped_xattrs=done.dropped_xattrs,
    )


_MEDIA_TYPES = {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


def pack_layer(
    root: int,
    out: int,
    whiteouts: WhiteoutReader | None,
    *,
    shift: IdShift = LAYER_SHIFT,
    exclude: Exclude | None = None,
    include_root: bool = False,
    compression: Literal["none", "gzip", "zstd"] = "gzip",
) -> Packed:
    """Write the directory ``root`` (a container's changes) as a layer blob to ``out``."""
    blob = DigestingWriter(FdWriter(out))
    packer = CompressingWriter(blob, compression)
    plain = DigestingWriter(packer)
    done = create(
        root,
        plain,
        shift=shift,
        whiteouts=whiteouts,
        exclude=exclude,
        include_root=include_root,
        sparse_above=SPARSE_ABOVE,
    )
    packer.finish()
    return Packed(plain.digest(), blob.digest(), blob.size, _MEDIA_TYPES[compression], done.entries)
