"""Manifests and indexes: OCI image spec 1.1 and Docker's schema 2, strictly bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from rootless.errors import InvalidInput, NotFound
from rootless.ids import is_digest
from rootless.images.platform import Platform, normalise, preference

MAX_MANIFEST = 4 << 20
"""Bytes; what registries accept (OCI distribution spec, "Pushing Manifests")."""
MAX_LAYERS = 512
_MAX_ENTRIES = 4096

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"

ACCEPT = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
"""What is asked of a registry, best first."""

_CONFIGS = frozenset((OCI_CONFIG, DOCKER_CONFIG))
_LAYERS = frozenset(
    (
        OCI_LAYER,
        OCI_LAYER_GZIP,
        OCI_LAYER_ZSTD,
        DOCKER_LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    )
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One reference to content; ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform; layers lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """Several images behind one name."""

    media_type: str
    manifests: tuple[Descriptor, ...]


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str | None = None


class _Descriptor(msgspec.Struct):
    mediaType: str
    digest: str
    size: int
    platform: _Platform | None = None
    annotations: dict[str, str] | None = None


class _Document(msgspec.Struct):
    schemaVersion: int
    mediaType: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    annotations: dict[str, str] | None = None
    fsLayers: Any = None


def _descriptor(raw: _Descriptor, what: str) -> Descriptor:
    if not is_digest(raw.digest):
        raise InvalidInput(f"{what} refused: '{raw.digest[:100]}' is not a sha256 digest")
    if raw.size < 0:
        raise InvalidInput(f"{what} refused: blob {raw.digest} has a negative size")
    platform = None
    if raw.platform is not None:
        platform = normalise(
            Platform(raw.platform.os, raw.platform.architecture, raw.platform.variant or "")
        )
    annotations = tuple(sorted((raw.annotations or {}).items()))
    return Descriptor(raw.mediaType, raw.digest, raw.size, platform, annotations)


def parse(data: bytes, media_type: str = "", *, what: str = "manifest") -> Manifest | Index:
    """The manifest or index ``data``; InvalidInput for everything else.

    ``media_type`` is what the registry said; the document's own word counts more,
    and a contradiction is refused (OCI image spec 1.1, CVE-2021-41190: one
    document must not be readable both as a manifest and as an index).
    """
    if len(data) > MAX_MANIFEST:
        raise InvalidInput(f"{what} refused: it is larger than {MAX_MANIFEST} bytes")
    try:
        raw = msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} refused: {error}") from error
    media_type = media_type.partition(";")[0].strip()
    if raw.schemaVersion == 1 or raw.fsLayers is not None or media_type.startswith(_SCHEMA1):
        raise InvalidInput(
            f"{what} refused: Docker image manifest version 1 is not supported",
            hint="push the image again with a current tool",
        )
    if raw.schemaVersion != 2:
        raise InvalidInput(f"{what} refused: unknown schema version {raw.schemaVersion}")
    kind = _kind(raw, media_type, what)
    if kind in (OCI_INDEX, DOCKER_LIST):
        return _index(raw, kind, what)
    return _manifest(raw, kind, what)


def _kind(raw: _Document, media_type: str, what: str) -> str:
    """The document's media type, checked against its form and the registry's word."""
    is_index = raw.manifests is not None
    if is_index and (raw.config is not None or raw.layers is not None):
        raise InvalidInput(f"{what} refused: it is a manifest and an index at once")
    known = {OCI_INDEX: True, DOCKER_LIST: True, OCI_MANIFEST: False, DOCKER_MANIFEST: False}
    own = raw.mediaType
    if own and own not in known:
        raise InvalidInput(f"{what} refused: unsupported media type '{own[:100]}'")
    if own and media_type in known and own != media_type:
        raise InvalidInput(f"{what} refused: it was served as {media_type} but says it is {own}")
    kind = own or (media_type if media_type in known else "")
    if not kind:
        kind = OCI_INDEX if is_index else OCI_MANIFEST
    if known[kind] != is_index:
        raise InvalidInput(f"{what} refused: its content does not fit its media type {kind}")
    return kind


def _index(raw: _Document, kind: str, what: str) -> Index:
    entries = raw.manifests or []
    if len(entries) > _MAX_ENTRIES:
        raise InvalidInput(f"{what} refused: it has more than {_MAX_ENTRIES} entries")
    return Index(kind, tuple(_descriptor(entry, what) for entry in entries))


def _manifest(raw: _Document, kind: str, what: str) -> Manifest:
    if raw.config is None:
        raise InvalidInput(f"{what} refused: it names no config")
    if len(raw.layers or ()) > MAX_LAYERS:
        raise InvalidInput(f"{what} refused: it has more than {MAX_LAYERS} layers")
    config = _descriptor(raw.config, what)
    if config.media_type not in _CONFIGS:
        raise InvalidInput(
            f"{what} refused: it is not a container image (its config is "
            f"'{config.media_type[:100]}')"
        )
    layers = tuple(_descriptor(layer, what) for layer in raw.layers or ())
    for layer in layers:
        if layer.media_type not in _LAYERS:
            raise InvalidInput(
                f"{what} refused: layer {layer.digest} has the unsupported media type "
                f"'{layer.media_type[:100]}'"
            )
    return Manifest(kind, config, layers, tuple(sorted((raw.annotations or {}).items())))


def choose(index: Index, wanted: Platform, *, what: str = "image") -> Descriptor:
    """The entry of ``index`` for ``wanted``; NotFound with what there is instead."""
    candidates = [entry for entry in index.manifests if _is_image(entry)]
    for platform in preference(wanted):
        for entry in candidates:
            if entry.platform == platform:
                return entry
    named = [str(entry.platform) for entry in candidates if entry.platform is not None]
    if not named and len(candidates) == 1:
        return candidates[0]
    raise NotFound(
        f"no matching manifest for {wanted} in the manifest list entries of {what}",
        hint=f"available: {', '.join(named)}" if named else "the index names no platform",
    )


def _is_image(entry: Descriptor) -> bool:
    """BuildKit's attestations have the platform unknown/unknown."""
    attestation = any(key == "vnd.docker.reference.type" for key, _ in entry.annotations)
    return not attestation and entry.media_type in (OCI_MANIFEST, DOCKER_MANIFEST)


def references(document: Manifest | Index) -> tuple[str, ...]:
    """The digests ``document`` needs, for garbage collection."""
    if isinstance(document, Index):
        return tuple(entry.digest for entry in document.manifests)
    return (document.config.digest, *(layer.digest for layer in document.layers))


def _json(descriptor: Descriptor) -> dict[str, object]:
    body: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        body["annotations"] = dict(descriptor.annotations)
    if descriptor.platform is not None:
        platform = {
            "architecture": descriptor.platform.architecture,
            "os": descriptor.platform.os,
        }
        if descriptor.platform.variant:
            platform["variant"] = descriptor.platform.variant
        body["platform"] = platform
    return body


def encode(document: Manifest | Index) -> bytes:
    """``document`` as JSON; the same value gives the same bytes."""
    body: dict[str, object] = {"schemaVersion": 2, "mediaType": document.media_type}
    if isinstance(document, Index):
        body["manifests"] = [_json(entry) for entry in document.manifests]
    else:
        body["config"] = _json(document.config)
        body["layers"] = [_json(layer) for layer in document.layers]
        if document.annotations:
            body["annotations"] = dict(document.annotations)
    return msgspec.json.encode(body)
