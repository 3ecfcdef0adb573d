"""What a registry has under a name, without fetching the image."""

from __future__ import annotations

from rootless.images import config as image_config
from rootless.images import manifest as manifests
from rootless.images.manifest import Index
from rootless.images.platform import Platform
from rootless.images.reference import Reference
from rootless.images.registry import credentials as logins
from rootless.images.registry.client import Repository
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.settings import RegistrySettings


async def look_up(
    reference: Reference, settings: RegistrySettings, credentials: Credentials | None
) -> tuple[manifests.Descriptor, tuple[Platform, ...]]:
    """The descriptor that ``reference`` leads to, and the platforms there are images for.

    Without ``credentials``, Docker's config file is asked.
    """
    reference = reference.with_default_tag()
    if credentials is None:
        credentials = await logins.lookup(reference.domain, settings.docker_config)
    what = f"image {reference.familiar}"
    async with Repository(reference, settings, credentials) as repository:
        await repository.ping()
        served = await repository.manifest(reference.selector)
        document = manifests.parse(served.data, served.media_type, what=what)
        found = manifests.Descriptor(document.media_type, served.digest, len(served.data))
        if isinstance(document, Index):
            entries = (entry.platform for entry in document.manifests)
            return found, tuple(entry for entry in entries if entry is not None)
        data = await repository.small_blob(document.config, image_config.MAX_CONFIG)
        return found, (image_config.parse(data, what=what).platform,)
