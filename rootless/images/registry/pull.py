"""Pulling: from a reference to verified blobs in the content store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rootless.errors import InvalidInput, NotFound
from rootless.ids import short_id
from rootless.images import config as image_config
from rootless.images import image as images
from rootless.images import manifest as manifests
from rootless.images.config import ImageConfig
from rootless.images.content import ContentStore
from rootless.images.image import Image, Layer
from rootless.images.manifest import Index, Manifest
from rootless.images.platform import Platform
from rootless.images.reference import Reference
from rootless.images.registry import credentials as logins
from rootless.images.registry.client import Repository, Served
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.progress import Meter, Progress, nobody, status
from rootless.images.registry.settings import RegistrySettings
from rootless.images.registry.threads import in_thread


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pulled image; every blob it names is in the content store."""

    reference: Reference
    """With the tag or digest that was asked for."""
    digest: str
    """What the reference led to (an index or a manifest): the repo digest."""
    image: Image

    @property
    def blobs(self) -> tuple[str, ...]:
        """The digests garbage collection must keep for it."""
        return tuple(sorted({self.digest, *self.image.blobs}))


Inspect = Callable[[Repository, str, Image], Awaitable[None]]
"""Is shown an image before its layers are fetched, with the digest of what the reference led to;
it raises to refuse it."""

Unpack = Callable[[Layer, Meter], Awaitable[None]]
"""Makes a layer usable; awaited while other layers still download."""


async def pull(
    reference: Reference,
    store: ContentStore,
    settings: RegistrySettings,
    *,
    wanted: Platform,
    explicit_platform: bool = False,
    credentials: Credentials | None = None,
    progress: Progress = nobody,
    is_unpacked: Callable[[str], bool] = lambda _diff_id: False,
    unpack: Unpack | None = None,
    inspect: Inspect | None = None,
) -> Pulled:
    """Fetch the image ``reference`` for platform ``wanted``.

    Without ``credentials``, Docker's config file is asked.  ``is_unpacked`` tells
    by diff id which layers need no ``unpack``.  ``explicit_platform`` refuses an
    image of another platform than the user asked for; otherwise it is taken, as
    Docker does.  An interrupted pull leaves partial blobs that the next resumes.
    """
    reference = reference.with_default_tag()
    if credentials is None:
        credentials = await logins.lookup(reference.domain, settings.docker_config)
    async with Repository(reference, settings, credentials) as repository:
        await repository.ping()
        job = _Pull(repository, store, settings, progress)
        top = await repository.manifest(reference.selector)
        progress(status(f"Pulling from {reference.path}", reference.tag or reference.digest))
        served, manifest = await job.resolve(top, wanted)
        config = await job.config(manifest)
        _check_platform(config, wanted, reference, strict=explicit_platform)
        image = images.make(served.digest, manifest, config, what=f"image {reference.familiar}")
        if inspect is not None:
            await inspect(repository, top.digest, image)
        await job.layers(image.layers, is_unpacked, unpack)
        await in_thread(store.put, served.data)
        await in_thread(store.put, top.data)
    progress(status(f"Digest: {top.digest}"))
    return Pulled(reference, top.digest, image)


async def tags_of(
    reference: Reference, settings: RegistrySettings, credentials: Credentials | None
) -> tuple[str, ...]:
    """The tags of a repository, as the registry lists them."""
    if credentials is None:
        credentials = await logins.lookup(reference.domain, settings.docker_config)
    async with Repository(reference, settings, credentials) as repository:
        await repository.ping()
        return await repository.tags()


def final_status(reference: Reference, *, newer: bool) -> dict[str, object]:
    """The last line of a pull."""
    text = "Downloaded newer image for" if newer else "Image is up to date for"
    return status(f"Status: {text} {reference.familiar}")


def _check_platform(
    config: ImageConfig, wanted: Platform, reference: Reference, *, strict: bool
) -> None:
    actual = config.platform
    same = (actual.os, actual.architecture) == (wanted.os, wanted.architecture)
    if strict and not same:
        raise NotFound(
            f"image with reference {reference.familiar} was found but does not match the "
            f"specified platform: wanted {wanted}, actual: {actual}"
        )
    if actual.os != "linux":
        raise InvalidInput(f"image {reference.familiar} is for {actual}, not for linux")


class _Pull:
    def __init__(
        self,
        repository: Repository,
        store: ContentStore,
        settings: RegistrySettings,
        progress: Progress,
    ) -> None:
        self._repository = repository
        self._store = store
        self._slots = asyncio.Semaphore(max(1, settings.max_downloads))
        self._progress = progress

    async def resolve(self, top: Served, wanted: Platform) -> tuple[Served, Manifest]:
        """The manifest for ``wanted`` behind ``top``."""
        what = f"manifest of {self._repository.reference.familiar}"
        document = manifests.parse(top.data, top.media_type, what=what)
        if isinstance(document, Manifest):
            return top, document
        entry = manifests.choose(document, wanted, what=self._repository.reference.familiar)
        served = await self._repository.manifest(entry.digest)
        if len(served.data) != entry.size:
            raise InvalidInput(f"{what} refused: it has another size than its index says")
        inner = manifests.parse(served.data, entry.media_type, what=what)
        if isinstance(inner, Index):
            raise InvalidInput(f"{what} refused: an index inside an index is not supported")
        return served, inner

    async def config(self, manifest: Manifest) -> ImageConfig:
        """The image's config, fetched if need be."""
        descriptor = manifest.config
        if descriptor.size > image_config.MAX_CONFIG:
            raise InvalidInput(f"image config refused: it has {descriptor.size} bytes")
        if not self._store.has(descriptor.digest):
            silent = Meter(nobody, descriptor.digest, descriptor.size)
            await self._repository.fetch(descriptor, self._store, silent)
        data = self._store.read(descriptor.digest, image_config.MAX_CONFIG)
        return image_config.parse(data)

    async def layers(
        self,
        layers: tuple[Layer, ...],
        is_unpacked: Callable[[str], bool],
        unpack: Unpack | None,
    ) -> None:
        """Fetch and unpack all layers; the first failure cancels the others."""
        # One blob may serve several layers (an empty layer, for example).
        first: dict[str, list[Layer]] = {}
        for layer in layers:
            first.setdefault(layer.descriptor.digest, []).append(layer)
        for digest, same in first.items():
            if not self._is_here(same, is_unpacked):
                self._progress(status("Pulling fs layer", short_id(digest)))
        tasks = [
            asyncio.create_task(self._layer(same, is_unpacked, unpack)) for same in first.values()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _is_here(self, same: list[Layer], is_unpacked: Callable[[str], bool]) -> bool:
        have = self._store.has(same[0].descriptor.digest)
        return have and all(is_unpacked(each.diff_id) for each in same)

    async def _layer(
        self, same: list[Layer], is_unpacked: Callable[[str], bool], unpack: Unpack | None
    ) -> None:
        layer = same[0]
        descriptor = layer.descriptor
        meter = Meter(self._progress, descriptor.digest, descriptor.size)
        if self._is_here(same, is_unpacked):
            meter.status("Already exists")
            return
        if not self._store.has(descriptor.digest):
            async with self._slots:
                await self._repository.fetch(descriptor, self._store, meter)
        meter.status("Download complete")
        if unpack is not None:
            for diff_id in {each.diff_id for each in same}:
                if not is_unpacked(diff_id):
                    await unpack(Layer(descriptor, diff_id), meter)
        meter.status("Pull complete")
