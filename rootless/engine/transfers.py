"""Images in and out: pull, push, load, save, import, commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from rootless.archive.limits import Limits
from rootless.engine.core import Core
from rootless.engine.fetching import Fetching
from rootless.engine.filters import Filters
from rootless.engine.image_index import ImageIndex
from rootless.engine.ownership import check_names, of_image
from rootless.engine.piping import consumed, written
from rootless.engine.progress import ProgressStream, Report
from rootless.engine.resolve_process import merge_config
from rootless.engine.unit import Unit
from rootless.engine.unpacking import MeterOf, Unpacker, loading_meters
from rootless.errors import Denied, InvalidInput, NotFound
from rootless.images import manifest as manifests
from rootless.images import platform as platforms
from rootless.images import reference as references
from rootless.images.content import ContentStore
from rootless.images.image import Image
from rootless.images.reference import Reference
from rootless.model.identity import Identity
from rootless.model.image import Voucher
from rootless.model.records import DistributionInfo, RegistryAuth
from rootless.model.request import ContainerConfig
from rootless.model.verbs import EVERYBODYS

if TYPE_CHECKING:
    from rootless.images.registry.credentials import Credentials
    from rootless.images.registry.settings import RegistrySettings
    from rootless.images.save import Saved


class Transfers:
    """See the module. ``lock`` guards the index against collection."""

    def __init__(
        self,
        core: Core,
        content: ContentStore,
        index: ImageIndex,
        unpacker: Unpacker,
        collect: Callable[[], Awaitable[object]],
    ) -> None:
        self._core = core
        self._content = content
        self._index = index
        self._unpacker = unpacker
        self._collect = collect
        self.lock = asyncio.Lock()
        self.running = 0
        """Transfers under way: their blobs and layers have no record yet."""
        self._replaced = False
        """An image came in another form: the blobs of the one before are nobody's."""

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    @asynccontextmanager
    async def _whole(
        self, refusals: tuple[type[BaseException], ...] = (BaseException,)
    ) -> AsyncIterator[None]:
        """Counted; what was brought by one that fails with ``refusals`` is removed at once.

        A pull that lost its connection keeps what it has: the next one goes on there.
        """
        try:
            with self._counted():
                yield
        except refusals:
            await self._collect()
            raise
        if self._replaced:
            self._replaced = False
            await self._collect()

    def event(self, action: str, image: Image, name: str, *, actor: str = "") -> None:
        """What happened to an image, with its labels; ``actor`` is its id unless given."""
        attributes = {**dict(image.config.config.labels), "name": name}
        entry = self._index.get(image.id)
        owners = entry.owners if entry is not None else {""}
        self._core.events.publish(
            "image", action, actor or image.id, attributes, owners=owners or {""}
        )

    async def _record(
        self,
        image: Image,
        names: Sequence[Reference],
        *,
        parent: str = "",
        meter_of: MeterOf | None = None,
        vouchers: Sequence[Voucher] = (),
        identity: Identity | None = None,
    ) -> None:
        """Who brought it is ``identity``; None for what the engine makes for everybody."""
        await self._unpacker.image(image, meter_of)
        await self._unpacker.prove(image, (entry.image for entry in self._index))
        async with self.lock:
            check_names(self._core, self._index, identity, image, names)
            owner = EVERYBODYS if identity is None else identity.key
            before = self._index.get(image.id)
            if before is not None and before.image.manifest_digest != image.manifest_digest:
                self._replaced = True
            self._index.put(image, names, parent=parent, vouchers=vouchers, owner=owner)

    # -- registries --------------------------------------------------------------

    def _settings(self) -> RegistrySettings:
        from rootless.images.registry.settings import RegistrySettings

        settings = self._core.settings
        return RegistrySettings(
            insecure=settings.insecure_registries,
            mirrors=settings.registry_mirrors,
            max_downloads=settings.max_concurrent_downloads,
            max_uploads=settings.max_concurrent_uploads,
            attempts=settings.max_download_attempts,
            proxies=settings.proxies,
        )

    async def pull(
        self,
        identity: Identity,
        reference: str,
        *,
        platform: str,
        auth: RegistryAuth | None,
        all_tags: bool = False,
    ) -> ProgressStream:
        """Fetch and unpack an image; the stream's first message comes before this returns.

        ``all_tags`` fetches every tag of a reference that names none.
        """
        asked = references.parse(reference)
        if asked.familiar_name == "scratch":
            raise Denied("'scratch' is a reserved name")
        every = all_tags and not (asked.tag or asked.digest)
        if not every:
            self._core.policy.admit_image(identity, "pull", str(asked.with_default_tag()))
        wanted = platforms.parse(platform)

        from rootless.images.builtin import NAME

        async def work(report: Report) -> None:
            async with self._whole((InvalidInput, Denied)):
                names = [asked.with_default_tag()]
                if every:
                    names = await self._every_tag(identity, asked, auth)
                for name in names:
                    if name.familiar == NAME:
                        await self._make_builtin(name, wanted, report)
                        continue
                    await self._pull(
                        identity, name, wanted, report, explicit=bool(platform), auth=auth
                    )

        return await ProgressStream(work).begun()

    async def _make_builtin(
        self, name: Reference, wanted: platforms.Platform, report: Report
    ) -> None:
        """What a registry has under this name is somebody else's."""
        from rootless.images.registry import pull as pulling

        if not platforms.same(platforms.host(), wanted):
            raise NotFound(
                f"no matching manifest for {wanted}: {name.familiar} is made on this machine, "
                f"for {platforms.host()}"
            )
        newer = self._index.by_name(name) is None
        await self.builtin()
        report(pulling.final_status(name, newer=newer))

    async def _every_tag(
        self, identity: Identity, asked: Reference, auth: RegistryAuth | None
    ) -> list[Reference]:
        """Every tag that the registry lists; all must be allowed before the first is fetched."""
        from rootless.images.registry import pull as pulling

        self._core.policy.admit_action(identity, "image.pull", asked.familiar_name)
        tags = await pulling.tags_of(asked, self._settings(), credentials_of(auth))
        if not tags:
            raise NotFound(f"repository {asked.familiar_name} has no tags")
        names = [asked.with_tag(tag) for tag in tags]
        for name in names:
            self._core.policy.admit_image(identity, "pull", str(name))
        return names

    async def _pull(
        self,
        identity: Identity,
        name: Reference,
        wanted: platforms.Platform,
        report: Report,
        *,
        explicit: bool,
        auth: RegistryAuth | None,
    ) -> None:
        from rootless.images.registry.pull import final_status

        pulled, vouchers = await Fetching(
            self._core, self._content, self._unpacker, self._settings()
        ).fetch(
            identity,
            name,
            report,
            wanted=wanted,
            explicit=explicit,
            credentials=credentials_of(auth),
        )
        before = self._index.by_name(name)
        newer = before is None or before.image.id != pulled.image.id
        names = [name.with_digest(pulled.digest)]
        if name.tag:
            names.append(name.with_tag(name.tag))
        await self._record(pulled.image, names, vouchers=vouchers, identity=identity)
        report(final_status(name, newer=newer))
        self.event("pull", pulled.image, name.familiar_name, actor=name.familiar)

    async def push(
        self, identity: Identity, reference: str, *, auth: RegistryAuth | None
    ) -> ProgressStream:
        """Upload an image under one of its names; every tag of a name that has none."""
        asked = references.parse(reference)
        try:
            found = self._index.select(reference)
        except NotFound:
            others = any(tag.name == asked.name for entry in self._index for tag in entry.tags)
            if others:
                raise NotFound(f"tag does not exist: {asked.familiar}") from None
            raise NotFound(
                f"An image does not exist locally with the tag: {asked.familiar_name}"
            ) from None
        for entry, _ in found:
            absent = NotFound(
                f"An image does not exist locally with the tag: {asked.familiar_name}"
            )
            subject = of_image(entry)
            self._core.policy.admit_sight(identity, "image.push", reference, subject, absent)
        chosen = [(entry, name) for entry, tags in found for name in tags or (asked,)]
        for _, name in chosen:
            self._core.policy.admit_image(identity, "push", str(name))

        async def work(report: Report) -> None:
            with self._counted():
                for entry, name in chosen:
                    await self._push(identity, entry.image, name, report, auth=auth)

        return await ProgressStream(work).begun()

    async def _push(
        self,
        identity: Identity,
        image: Image,
        name: Reference,
        report: Report,
        *,
        auth: RegistryAuth | None,
    ) -> None:
        from rootless.images.registry import push as pushing

        pushed = await pushing.push(
            name,
            self._content.read(image.manifest_digest, manifests.MAX_MANIFEST),
            self._content,
            self._settings(),
            credentials=credentials_of(auth),
            progress=report,
        )
        await self._record(image, [name.with_digest(pushed.digest)], identity=identity)
        self.event("push", image, name.familiar_name, actor=name.familiar)

    async def distribution(
        self, identity: Identity, reference: str, *, auth: RegistryAuth | None
    ) -> DistributionInfo:
        """What the registry has under a name. Who may not pull it may not ask either."""
        from rootless.images.registry import distribution

        name = references.parse(reference).with_default_tag()
        self._core.policy.admit_image(identity, "pull", str(name))
        found, platforms_found = await distribution.look_up(
            name, self._settings(), credentials_of(auth)
        )
        rows = tuple((p.os, p.architecture, p.variant) for p in platforms_found)
        return DistributionInfo(found.media_type, found.digest, found.size, rows)

    async def search(
        self, term: str, limit: int, filters: Filters, auth: RegistryAuth | None
    ) -> Sequence[Mapping[str, object]]:
        """What a registry's index has."""
        from rootless.engine.searching import search

        return await search(term, limit, filters, self._settings(), credentials_of(auth))

    async def check_login(self, auth: RegistryAuth) -> tuple[str, str]:
        """Ask the registry whether the credentials are right; (status, identity token)."""
        from rootless.images.registry.credentials import Credentials
        from rootless.images.registry.login import login

        domain = auth.server_address.removeprefix("https://").removeprefix("http://")
        domain = domain.partition("/")[0] or references.DEFAULT_DOMAIN
        if domain in ("index.docker.io", "registry-1.docker.io"):
            domain = references.DEFAULT_DOMAIN
        return await login(domain, credentials_of(auth) or Credentials(), self._settings()), ""

    def _limits(self) -> Limits:
        settings = self._core.settings
        return Limits.of_layer(settings.max_layer_size, settings.max_layer_ratio)

    # -- archives ----------------------------------------------------------------

    async def save(self, identity: Identity, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """A docker-archive (and OCI layout) of images."""
        from rootless.images import save as saving

        if not refs:
            raise InvalidInput("no image names given")
        items: dict[str, saving.Saved] = {}
        for ref in refs:
            self._core.policy.admit_action(identity, "image.save", ref)
            for entry, tags in self._index.select(ref):
                absent, subject = NotFound(f"No such image: {ref}"), of_image(entry)
                self._core.policy.admit_sight(identity, "image.save", ref, subject, absent)
                before = items.get(entry.image.id)
                known = before.tags if before is not None else ()
                merged = tuple(dict.fromkeys((*known, *tags)))
                items[entry.image.id] = saving.Saved(entry.image, merged)
                for digest in entry.image.blobs:
                    self._content.size(digest)
        for item in items.values():
            self.event("save", item.image, item.image.id)
        return self._saved(list(items.values()))

    async def _saved(self, items: Sequence[Saved]) -> AsyncIterator[bytes]:
        from rootless.images import save as saving

        archive = written(lambda out: saving.save(items, self._content, out))
        with self._counted():
            async with aclosing(archive) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def load(
        self, identity: Identity, body: AsyncIterator[bytes], *, platform: str = ""
    ) -> ProgressStream:
        """Images of an archive, those for ``platform`` when one is given."""
        self._core.policy.admit_action(identity, "image.load")
        from rootless.images import load as loading

        limits = self._limits()
        wanted = platforms.parse(platform) if platform else None

        async def work(report: Report) -> None:
            async with self._whole():
                loaded = await consumed(
                    body,
                    lambda file: loading.load(file, self._content, wanted=wanted, limits=limits),
                )
                for one in loaded:
                    await self._record(
                        one.image, one.tags, meter_of=loading_meters(report), identity=identity
                    )
                    self.event("load", one.image, one.image.id)
                for message in loading.messages(loaded):
                    report(message)

        return await ProgressStream(work).begun()

    async def import_(
        self,
        identity: Identity,
        body: AsyncIterator[bytes],
        *,
        name: Reference | None,
        message: str,
        changes: Sequence[str],
        platform: str,
    ) -> ProgressStream:
        """An image of one layer."""
        self._core.policy.admit_action(identity, "image.import")
        from rootless.images.commit import import_archive

        async def work(report: Report) -> None:
            async with self._whole():
                image = await consumed(
                    body,
                    lambda file: import_archive(
                        self._content,
                        file,
                        created_ns=time.time_ns(),
                        platform=platforms.parse(platform),
                        message=message,
                        changes=changes,
                        limits=self._limits(),
                    ),
                )
                names = [name] if name is not None else []
                await self._record(image, names, identity=identity)
            self.event("import", image, image.id)
            if name is not None:
                self.event("tag", image, name.familiar)
            report({"status": image.id})

        return await ProgressStream(work).begun()

    async def commit(
        self,
        unit: Unit,
        diff: AsyncIterator[bytes],
        *,
        identity: Identity,
        repo: str,
        tag: str,
        comment: str,
        author: str,
        changes: Sequence[str],
        config: ContainerConfig | None,
    ) -> str:
        """An image of a container's changes."""
        from rootless.images import commit as committing

        record = unit.record
        parent = self._index.get(record.spec.image.id)
        if parent is None:
            raise NotFound(
                f"No such image: {record.spec.image.id}",
                hint="the container's image was removed; export the container instead",
            )
        name = parse_target(repo, tag) if repo else None
        async with self._whole():
            layer = await consumed(diff, lambda file: committing.store_layer(self._content, file))
            image = await asyncio.to_thread(
                committing.commit,
                self._content,
                parent.image,
                layer if layer.entries else None,
                merge_config(config, record.config) if config is not None else record.config,
                created_ns=time.time_ns(),
                author=author,
                comment=comment,
                created_by=" ".join(record.spec.process.args),
                changes=changes,
            )
            names = [name] if name is not None else []
            await self._record(image, names, parent=parent.image.id, identity=identity)
        self.event("create", image, image.id)
        if name is not None:
            self.event("tag", image, name.familiar)
        return image.id

    async def builtin(self) -> str:
        """Make the built-in image when it is not there; its name."""
        from rootless.images import builtin

        name = references.parse(builtin.NAME).with_default_tag()
        if self._index.by_name(name) is None:
            with self._counted():
                image, _ = await asyncio.to_thread(builtin.build, self._content)
                await self._record(image, [name])
        return name.familiar


def credentials_of(auth: RegistryAuth | None) -> Credentials | None:
    """The images package's form of credentials; None asks Docker's config file."""
    if auth is None:
        return None
    from rootless.images.registry.credentials import Credentials

    return Credentials(auth.username, auth.password, auth.identity_token, auth.registry_token)


def parse_target(repo: str, tag: str) -> Reference:
    """The name of ``tag``, ``commit`` and ``import``."""
    name = references.parse(repo)
    if name.digest:
        raise InvalidInput("refusing to create a tag with a digest reference")
    if name.familiar_name == "sha256":
        raise InvalidInput("refusing to create an ambiguous tag using digest algorithm as name")
    return (name.with_tag(tag) if tag else name).with_default_tag()
