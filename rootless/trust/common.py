"""What the commands of signatures share: the registry as the daemon reaches it, keys, names."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rootless import publickeys
from rootless.client import clientconfig
from rootless.daemon.commandline import default_config_file
from rootless.daemon.sources import Flags, load
from rootless.errors import InvalidInput
from rootless.images import manifest as manifests
from rootless.images import reference as references
from rootless.images.reference import Reference
from rootless.images.registry import credentials
from rootless.images.registry.client import Repository
from rootless.images.registry.settings import RegistrySettings
from rootless.publickeys import PublicKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def settings() -> RegistrySettings:
    """How registries are reached, by the user's daemon.json."""
    config = load(Flags(config_file=default_config_file(os.environ)), os.environ)
    return RegistrySettings(
        insecure=config.insecure_registries,
        proxies=config.proxies,
        docker_config=Path(clientconfig.path()),
    )


def read_file(path: str, limit: int) -> bytes:
    """A key file's content; InvalidInput above ``limit`` bytes, OSError when it is not there."""
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidInput(f"{path} is no key: it has more than {limit} bytes")
    return data


def public_key(path: str) -> PublicKey:
    """The public key in a file."""
    try:
        text = read_file(path, publickeys.MAX_PEM).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not usable: it is not a PEM file") from None
    return publickeys.from_pem(text, path)


def opened(text: str, *, push: bool = False) -> AbstractAsyncContextManager[Repository]:
    """The repository of a reference, spoken to with the credentials of ``docker login``."""
    return _opened(references.parse(text).with_default_tag(), push=push)


@asynccontextmanager
async def _opened(reference: Reference, *, push: bool) -> AsyncIterator[Repository]:
    found = settings()
    login = await credentials.lookup(reference.domain, found.docker_config)
    async with Repository(reference, found, login, push=push) as repository:
        await repository.ping()
        yield repository


async def digest_in(repository: Repository) -> str:
    """The digest that the registry has under the repository's reference, an image's."""
    reference = repository.reference
    served = await repository.manifest(reference.selector)
    manifests.parse(served.data, served.media_type, what=f"manifest of {reference.familiar}")
    return served.digest
