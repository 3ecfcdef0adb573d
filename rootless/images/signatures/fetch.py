"""Signatures from and to a registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rootless.errors import InvalidInput, NotFound, Unavailable
from rootless.images.content import ContentStore
from rootless.images.manifest import DOCKER_MANIFEST, MAX_MANIFEST, OCI_MANIFEST, Descriptor
from rootless.images.registry.client import Repository
from rootless.images.registry.progress import Meter, nobody
from rootless.images.signatures import attached
from rootless.images.signatures.attached import Signed, signature_layer, signature_of, tag_of
from rootless.images.signatures.payload import MAX_PAYLOAD

_ATTEMPTS = 5
"""How often a signature is added again that another signer's put away meanwhile."""


async def _layers(repository: Repository, digest: str) -> tuple[str, tuple[Descriptor, ...]]:
    """Media type and layers of the object that holds the signatures of ``digest``."""
    what = f"signatures of {repository.reference.familiar_name}@{digest}"
    try:
        served = await repository.manifest(tag_of(digest))
    except NotFound:
        return OCI_MANIFEST, ()
    return served.media_type, attached.parse(served.data, served.media_type, what)


async def fetch(repository: Repository, digest: str) -> tuple[Signed, ...]:
    """What the registry has as signatures of ``digest``; nothing of it is verified."""
    _, layers = await _layers(repository, digest)
    found = []
    payloads: dict[str, bytes] = {}
    for layer in attached.signatures(layers):
        if layer.digest not in payloads:
            data = await repository.small_blob(layer, MAX_PAYLOAD)
            if len(data) != layer.size:
                raise InvalidInput(f"signature {layer.digest} refused: it has another size")
            payloads[layer.digest] = data
        found.append(Signed(payloads[layer.digest], signature_of(layer)))
    return tuple(found)


async def attach(repository: Repository, digest: str, signed: Signed) -> None:
    """Add a signature to those of ``digest``; the others stay.

    Registries have no way to change a tag only if it is as it was, so this looks
    afterwards and begins again when another signer came in between.
    """
    mine = signature_layer(signed)
    with tempfile.TemporaryDirectory(prefix="rootless-sign-") as directory:
        store = ContentStore(Path(directory))
        store.put(signed.payload)
        for _ in range(_ATTEMPTS):
            kind, layers = await _layers(repository, digest)
            if mine in layers:
                return
            if len(layers) >= attached.MAX_SIGNATURES:
                raise InvalidInput(
                    f"{digest} has {len(layers)} signatures already, more are not looked at",
                    hint=f"remove the tag {tag_of(digest)} from the registry and sign again",
                )
            await _put(repository, digest, (*layers, mine), store, docker=DOCKER_MANIFEST in kind)
    _, layers = await _layers(repository, digest)
    if mine not in layers:
        raise Unavailable(
            f"the signature of {digest} was replaced by another signer's each time",
            hint="sign again",
        )


async def _put(
    repository: Repository,
    digest: str,
    layers: tuple[Descriptor, ...],
    store: ContentStore,
    *,
    docker: bool,
) -> None:
    config, manifest = attached.compose(layers, docker=docker)
    if len(manifest) > MAX_MANIFEST:
        raise InvalidInput(f"the signatures of {digest} would have {len(manifest)} bytes")
    for blob, size in ((layers[-1].digest, layers[-1].size), (store.put(config), len(config))):
        if not await repository.has_blob(blob):
            await repository.upload(blob, size, store, Meter(nobody, blob, size))
    kind = DOCKER_MANIFEST if docker else OCI_MANIFEST
    await repository.put_manifest(tag_of(digest), manifest, kind)
