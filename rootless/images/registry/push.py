"""Pushing: blobs first, then the manifest that names them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from rootless.ids import short_id
from rootless.images import manifest as manifests
from rootless.images.content import ContentStore, digest_of
from rootless.images.manifest import Descriptor, Manifest
from rootless.images.reference import Reference
from rootless.images.registry import credentials as logins
from rootless.images.registry.client import Repository
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.progress import Meter, Progress, nobody, status
from rootless.images.registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the registry has now."""

    reference: Reference
    digest: str
    size: int
    """Bytes of the manifest."""


async def push(
    reference: Reference,
    manifest_data: bytes,
    store: ContentStore,
    settings: RegistrySettings,
    *,
    credentials: Credentials | None = None,
    progress: Progress = nobody,
    sources: Mapping[str, tuple[Reference, ...]] | None = None,
) -> Pushed:
    """Upload the image whose manifest is ``manifest_data`` to ``reference``.

    Every blob must be in ``store``.  ``sources`` tells, by blob digest, in which
    repositories the blob was seen: those of the same registry are asked for a
    mount instead of an upload.
    """
    reference = reference.with_default_tag()
    document = manifests.parse(manifest_data, what=f"manifest of {reference.familiar}")
    assert isinstance(document, Manifest)
    if credentials is None:
        credentials = await logins.lookup(reference.domain, settings.docker_config)
    mounts = _mounts(reference, document, sources or {})
    others = tuple(sorted(set(mounts.values())))
    progress(status(f"The push refers to repository [{reference.name}]"))
    async with Repository(
        reference, settings, credentials, push=True, mount_from=others
    ) as repository:
        await repository.ping()
        await _blobs(
            repository, document, store, mounts, uploads=settings.max_uploads, progress=progress
        )
        await repository.put_manifest(reference.selector, manifest_data, document.media_type)
    pushed = Pushed(reference, digest_of(manifest_data), len(manifest_data))
    progress(status(f"{reference.selector}: digest: {pushed.digest} size: {pushed.size}"))
    aux = {"Tag": reference.tag, "Digest": pushed.digest, "Size": pushed.size}
    progress({"progressDetail": {}, "aux": aux})
    return pushed


def _mounts(
    reference: Reference, manifest: Manifest, sources: Mapping[str, tuple[Reference, ...]]
) -> dict[str, str]:
    """Blob digest → path of another repository in the same registry that has it."""
    found = {}
    for blob in manifest.layers:
        for source in sources.get(blob.digest, ()):
            if source.domain == reference.domain and source.path != reference.path:
                found[blob.digest] = source.path
                break
    return found


async def _blobs(
    repository: Repository,
    manifest: Manifest,
    store: ContentStore,
    mounts: Mapping[str, str],
    *,
    uploads: int,
    progress: Progress,
) -> None:
    slots = asyncio.Semaphore(max(1, uploads))
    layers = list({layer.digest: layer for layer in manifest.layers}.values())
    for layer in layers:
        progress(status("Preparing", short_id(layer.digest)))

    async def one(blob: Descriptor, report: Progress) -> None:
        async with slots:
            meter = Meter(report, blob.digest, blob.size)
            if await repository.has_blob(blob.digest):
                meter.status("Layer already exists")
                return
            source = mounts.get(blob.digest)
            if source and await repository.mount(blob.digest, source):
                meter.status(f"Mounted from {source}")
                return
            await repository.upload(blob.digest, store.size(blob.digest), store, meter)
            meter.status("Pushed")

    tasks = [asyncio.create_task(one(layer, progress)) for layer in layers]
    tasks.append(asyncio.create_task(one(manifest.config, nobody)))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
