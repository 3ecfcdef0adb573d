"""Where signatures are: in an OCI manifest beside the image, under a tag made of its digest.

Each layer of media type ``application/vnd.dev.cosign.simplesigning.v1+json`` is one payload,
and its annotation ``dev.cosignproject.cosign/signature`` the base64 of the signature over it
(cosign, specs/SIGNATURE_SPEC.md).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rootless.errors import InvalidInput
from rootless.ids import is_digest
from rootless.images.content import digest_of
from rootless.images.manifest import (
    ACCEPT,
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    encode,
)
from rootless.images.signatures.payload import MAX_PAYLOAD, strict_json

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
MAX_SIGNATURES = 64
"""Of one image. Whoever can write to the repository can add some."""
_MAX_SIGNATURE = 1024
"""Bytes; ECDSA P-256 has at most 72, Ed25519 64."""
_KINDS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))


@dataclass(frozen=True, slots=True)
class Signed:
    """Bytes and what may be a signature over them: nothing is checked yet."""

    payload: bytes
    signature: bytes


def tag_of(digest: str) -> str:
    """The tag under which signatures of a manifest or index are found."""
    return f"{digest.replace(':', '-')}.sig"


def signature_of(layer: Descriptor) -> bytes:
    """The signature in a layer's annotation, b'' when there is none that can be read."""
    text = dict(layer.annotations).get(ANNOTATION, "")
    if len(text) > _MAX_SIGNATURE * 2:
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _layer(raw: object, what: str) -> Descriptor:
    if not isinstance(raw, dict):
        raise InvalidInput(f"{what} refused: a layer is no object")
    kind, digest, size = raw.get("mediaType"), raw.get("digest"), raw.get("size")
    notes = raw.get("annotations") or {}
    if not isinstance(kind, str) or not isinstance(digest, str) or not is_digest(digest):
        raise InvalidInput(f"{what} refused: a layer has no media type or no sha256 digest")
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidInput(f"{what} refused: layer {digest} has no size")
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise InvalidInput(f"{what} refused: layer {digest} has annotations that are not text")
    return Descriptor(kind, digest, size, annotations=tuple(sorted(notes.items())))


def parse(data: bytes, media_type: str, what: str) -> tuple[Descriptor, ...]:
    """Every layer of a manifest of signatures; InvalidInput when it is something else."""
    served = media_type.partition(";")[0].strip()
    if len(data) > MAX_MANIFEST:
        raise InvalidInput(f"{what} refused: it is larger than {MAX_MANIFEST} bytes")
    try:
        body = strict_json(data)
    except ValueError as error:
        raise InvalidInput(f"{what} refused: it is not understood: {error}") from error
    own = body.get("mediaType", served) if isinstance(body, dict) else ""
    if own not in _KINDS or (served in ACCEPT and own != served):
        raise InvalidInput(f"{what} refused: it is no image manifest (but '{str(own)[:100]}')")
    if body.get("schemaVersion") != 2 or "manifests" in body or "fsLayers" in body:
        raise InvalidInput(f"{what} refused: it is something else than an image manifest")
    raw = body.get("layers")
    if not isinstance(raw, list):
        raise InvalidInput(f"{what} refused: it has no layers")
    if len(raw) > MAX_SIGNATURES:
        raise InvalidInput(f"{what} refused: it has more than {MAX_SIGNATURES} signatures")
    return tuple(_layer(each, what) for each in raw)


def signatures(layers: Sequence[Descriptor]) -> tuple[Descriptor, ...]:
    """Those of a manifest's layers that are signatures and not beyond their bound."""
    return tuple(
        layer
        for layer in layers
        if layer.media_type == SIMPLE_SIGNING and layer.size <= MAX_PAYLOAD and signature_of(layer)
    )


def signature_layer(signed: Signed) -> Descriptor:
    """The layer that a signature becomes."""
    text = base64.b64encode(signed.signature).decode()
    return Descriptor(
        SIMPLE_SIGNING,
        digest_of(signed.payload),
        len(signed.payload),
        annotations=((ANNOTATION, text),),
    )


def compose(layers: Sequence[Descriptor], *, docker: bool = False) -> tuple[bytes, bytes]:
    """Config and manifest of an object that holds ``layers``."""
    config = json.dumps(
        {
            "architecture": "",
            "os": "",
            "created": "0001-01-01T00:00:00Z",
            "config": {},
            "history": [{"created": "0001-01-01T00:00:00Z"} for _ in layers],
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        },
        separators=(",", ":"),
    ).encode()
    kind = DOCKER_CONFIG if docker else OCI_CONFIG
    descriptor = Descriptor(kind, digest_of(config), len(config))
    manifest = Manifest(DOCKER_MANIFEST if docker else OCI_MANIFEST, descriptor, tuple(layers))
    return config, encode(manifest)
