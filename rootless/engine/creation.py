"""Making a container: allocate, resolve, admit, record, then make its files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from rootless import ids
from rootless.engine import quotas
from rootless.engine.core import Core
from rootless.engine.layout import make_layout
from rootless.engine.lifecycle import Lifecycle
from rootless.engine.logdrivers import log_path
from rootless.engine.ownership import seen_network, seen_unit, sees_unit
from rootless.engine.resolve import Allocation, Resolved, World, resolve
from rootless.engine.resolve_labels import SelinuxHost, choose_categories
from rootless.engine.resolve_mounts import MountedImage
from rootless.engine.resolve_process import numeric_ids
from rootless.engine.resolve_security import parse_userns
from rootless.engine.unit import Unit
from rootless.engine.volumes import Volumes, volume_names
from rootless.errors import Denied, HostUnsupported, InvalidInput, NotFound
from rootless.linux import cgrouplimits
from rootless.linux.selinux import is_valid, level_of, own_label
from rootless.model.decision import Decision, merged
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.mounts import RootfsMount
from rootless.model.records import ContainerRecord, ImageRecord, PlanReport
from rootless.model.request import ContainerRequest
from rootless.model.spec import AdmittedSpec, ImageSpec, UsernsSpec
from rootless.storage import drivers, idranges
from rootless.storage.tree import rootfs_to_json
from rootless.storage.volumes import Volume
from rootless.units import parse_size


class ImageSource(Protocol):
    """Finds the image a container is made from."""

    async def for_container(self, identity: Identity, reference: str, platform: str) -> ImageRecord:
        """The image, every layer of it unpacked; NotFound with Docker's ``No such image``."""
        ...

    def full_name(self, reference: str) -> str:
        """The image's name in full, for the policy."""
        ...

    def descendants(self, reference: str) -> frozenset[str]:
        """Ids of the image and of every one made from it; none when there is no such image."""
        ...

    def is_named(self, reference: str, image_id: str) -> bool:
        """Whether ``reference`` still means the image ``image_id``."""
        ...


def _mounted(request: ContainerRequest) -> tuple[str, ...]:
    """Names of the images that the request mounts."""
    mounts = request.host.mounts
    return tuple(dict.fromkeys(mount.source for mount in mounts if mount.type == "image"))


def _warnings(*decisions: Decision) -> tuple[str, ...]:
    """What the policy found and let pass with a warning."""
    found = [f for decision in decisions for f in decision.findings if f.action == "warn"]
    return tuple(f"policy: {finding}" for finding in merged(found))


class Creator:
    """Creates containers; see the module."""

    def __init__(
        self, core: Core, images: ImageSource, volumes: Volumes, lifecycle: Lifecycle
    ) -> None:
        self._core = core
        self._images = images
        self._volumes = volumes
        self._lifecycle = lifecycle
        self._allocating = asyncio.Lock()
        """Ids, ranges and names are chosen and recorded by one request at a time."""

    async def create(
        self, identity: Identity, request: ContainerRequest
    ) -> tuple[str, tuple[str, ...]]:
        """The new container's id and warnings."""
        image = await self._images.for_container(identity, request.config.image, request.platform)
        shown = await self._shown(identity, request)
        image_facts = await self._admit_images(identity, {request.config.image: image, **shown})
        request = self._with_defaults(identity, request)
        disk = await quotas.disk(self._core, identity)
        async with self._allocating, self._volumes.lock:
            next_id = self._core.spare_cgroup.next_id
            resolved = self._resolve(identity, request, image, shown, id_for=next_id)
            for name in volume_names(resolved.spec):
                self._volumes.check_seen(identity, name)
            spec = resolved.spec
            usage = quotas.for_create(self._core, identity, spec.resources, disk)
            admitted = self._core.policy.admit(identity, spec, usage=usage, image_facts=image_facts)
            unit = self._record(identity, admitted, resolved)
        if spec.network.attachments:
            self._core.network.bridges.expect()
        try:
            await self._make(unit, resolved)
        except BaseException:
            await self._undo(unit, resolved)
            raise
        self._core.registry.publish(unit, "create")
        return unit.id, (*resolved.warnings, *_warnings(admitted.decision))

    async def plan(self, identity: Identity, request: ContainerRequest) -> PlanReport:
        """What :meth:`create` and a start would do; nothing is made."""
        image = await self._images.for_container(identity, request.config.image, request.platform)
        shown = await self._shown(identity, request)
        request = self._with_defaults(identity, request)
        resolved = self._resolve(identity, request, image, shown, id_for=lambda _: ids.new_id())
        try:
            known = {request.config.image: image, **shown}
            image_facts = await self._admit_images(identity, known)
        except Denied as denied:
            return PlanReport(resolved.spec, self._denial(denied), resolved.warnings, ())
        disk = await quotas.disk(self._core, identity)
        usage = quotas.for_create(self._core, identity, resolved.spec.resources, disk)
        decision = self._core.policy.preview(
            identity, resolved.spec, usage=usage, image_facts=image_facts
        )
        if not decision.allowed:
            return PlanReport(resolved.spec, decision, resolved.warnings, ())
        admitted = self._core.policy.admit(
            identity, resolved.spec, usage=usage, image_facts=image_facts
        )
        return PlanReport(
            admitted.spec, admitted.decision, resolved.warnings, self._steps(admitted)
        )

    def _with_defaults(self, identity: Identity, request: ContainerRequest) -> ContainerRequest:
        """The request with what the policy gives where it says nothing."""
        full = self._images.full_name(request.config.image)
        return self._core.policy.with_defaults(identity, request, full)

    async def _admit_images(
        self, identity: Identity, images: Mapping[str, ImageRecord]
    ) -> tuple[ImageFacts, ...]:
        """The images of a request, by reference, as far as they are judged with its container."""
        found = []
        for reference, record in images.items():
            image = self._image_spec(reference, record)
            self._core.policy.admit_action(identity, "image.run", image.name)
            found.append(await self._core.images.facts(image))
        return tuple(found)

    def _image_spec(self, reference: str, image: ImageRecord) -> ImageSpec:
        name = self._images.full_name(reference)
        return ImageSpec(image.id, reference, image.diff_ids, name)

    def _denial(self, denied: Denied) -> Decision:
        found = denied.context.get("findings", ())
        assert isinstance(found, tuple)
        return Decision(allowed=False, policy=self._core.policy.name, findings=found)

    def _steps(self, admitted: AdmittedSpec) -> tuple[tuple[str, str], ...]:
        from rootless.runtime.planner import describe, plan_container

        core, spec = self._core, admitted.spec
        layout = make_layout(core, spec, core.settings.containers_dir / spec.id)
        return describe(plan_container(admitted, core.facts, layout))

    async def _shown(self, identity: Identity, request: ContainerRequest) -> dict[str, ImageRecord]:
        """The images that the request mounts, unpacked, by the name it gives them."""
        try:
            return {
                ref: await self._images.for_container(identity, ref, "")
                for ref in _mounted(request)
            }
        except NotFound as error:
            raise InvalidInput(error.message, hint=error.hint) from None

    def _resolve(
        self,
        identity: Identity,
        request: ContainerRequest,
        image: ImageRecord,
        shown: Mapping[str, ImageRecord],
        *,
        id_for: Callable[[RootfsMount], str],
    ) -> Resolved:
        core, verb = self._core, "container.create"
        mode, size = parse_userns(request.host.userns_mode, default=core.settings.default_userns)
        limited = (request.host.resources.pids_limit or 0) > 0
        if mode == "auto" and not size:
            size = idranges.auto_size(self._highest_id(request, image))
        userns = self._userns(mode, size, limited=limited)
        container_id = id_for(self._rootfs(request, image, "", userns))
        allocation = Allocation(
            id=container_id,
            name=core.registry.claim_name(request.name, partial(sees_unit, core, identity)),
            created_ns=time.time_ns(),
            userns=userns,
            rootfs=self._rootfs(request, image, container_id, userns),
            categories=self._categories() if core.facts.selinux else "",
        )
        world = World(
            settings=core.settings,
            facts=core.facts,
            lookup=lambda ref: seen_unit(core, identity, verb, ref).record,
            networks=lambda ref: seen_network(core, identity, verb, ref),
            volume_path=lambda name: Path(core.volumes.data(name)),
            known_volumes=self._known_volumes(request, image),
            images={ref: self._image_mount(ref, i, userns) for ref, i in shown.items()},
            selinux=SelinuxHost(own_label(), is_valid) if core.facts.selinux else None,
        )
        try:
            resolved = resolve(request, image, allocation, world)
        except NotFound as error:
            # Clients take 404 for an image that is missing, pull it and ask again.
            raise InvalidInput(error.message, hint=error.hint) from error
        named = self._image_spec(request.config.image, image)
        return replace(resolved, spec=replace(resolved.spec, image=named))

    def _categories(self) -> str:
        """A pair that no container has, running or not."""
        labels = (unit.record.spec.selinux.process for unit in self._core.registry)
        return choose_categories({level_of(label) for label in labels if label})

    def _known_volumes(self, request: ContainerRequest, image: ImageRecord) -> dict[str, Volume]:
        if not (request.host.mounts or request.config.volumes or image.config.volumes):
            return {}
        return {volume.name: volume for volume in self._core.volumes.all()}

    def _userns(self, mode: str, size: int, *, limited: bool) -> UsernsSpec:
        plan = idranges.layout(self._core.facts.id_count)
        specs = [unit.record.spec.userns for unit in self._core.registry]
        owner = idranges.common_owner(plan)
        if limited and not cgrouplimits.keeps_pids(self._core.facts.cgroup):
            owner = idranges.allocate_owner(plan, [spec.owner for spec in specs])
        if mode == "shared":
            return UsernsSpec("shared", idranges.shared_maps(plan), owner)
        used = [found for spec in specs if (found := idranges.range_of(spec)) is not None]
        return UsernsSpec("auto", idranges.allocate_auto(plan, used, size), owner)

    def _highest_id(self, request: ContainerRequest, image: ImageRecord) -> int:
        """Highest id that the image's files or the wanted user and groups need."""
        owning = (self._core.layers.get(d).meta.max_id for d in image.diff_ids)
        user = request.config.user or image.config.user
        named = numeric_ids(user, request.host.group_add)
        return max((*owning, *(n for n in named if n != idranges.NOBODY)), default=0)

    def _rootfs(
        self, request: ContainerRequest, image: ImageRecord, container_id: str, userns: UsernsSpec
    ) -> RootfsMount:
        core, host = self._core, request.host
        lowers = [core.layers.get(diff_id).fs for diff_id in reversed(image.diff_ids)]
        auto = userns.mode == "auto"
        wanted = host.storage_driver or core.settings.storage_driver
        driver = drivers.choose(core.facts, wanted, needs_id_maps=auto, layers=len(lowers))
        mount = driver.plan(
            str(core.settings.containers_dir / container_id),
            lowers,
            id_maps=userns.maps if auto else (),
            volatile=host.auto_remove,
            read_only=host.read_only_rootfs,
        )
        limits = dict(host.storage_opt)
        if "size" in limits:
            mount = replace(mount, size_limit=parse_size(limits["size"]))
        return mount

    def _image_mount(self, reference: str, image: ImageRecord, userns: UsernsSpec) -> MountedImage:
        """How the layers of an image become one read-only mount."""
        core, auto = self._core, userns.mode == "auto"
        lowers = tuple(core.layers.get(diff_id).fs for diff_id in reversed(image.diff_ids))
        if not lowers:
            raise InvalidInput(f"image {reference} cannot be mounted: it has no files")
        driver = drivers.choose(core.facts, needs_id_maps=auto, layers=len(lowers))
        if driver.name == "vfs":
            raise HostUnsupported(
                f"image {reference} cannot be mounted: that takes overlay or fuse-overlayfs",
                hint="sudo apt install fuse-overlayfs",
            )
        plan = driver.plan("", lowers, id_maps=userns.maps if auto else ())
        layers = replace(plan, upper="", work="", read_only=True)
        return MountedImage(self._image_spec(reference, image), layers)

    def _record(self, identity: Identity, admitted: AdmittedSpec, resolved: Resolved) -> Unit:
        # What was asked for: each start is told anew how long it may last.
        spec = replace(admitted.spec, timeout=resolved.spec.timeout)
        directory = self._core.settings.containers_dir / spec.id
        config = resolved.config
        record = ContainerRecord(
            spec=spec,
            config=replace(config, hostname=config.hostname or spec.hostname),
            identity=identity,
            decision=admitted.decision,
            directory=str(directory),
            log_path=log_path(spec, directory),
            anonymous_volumes=tuple(use.name for use in resolved.volumes if use.anonymous),
        )
        return self._core.registry.add(record)

    async def _make(self, unit: Unit, resolved: Resolved) -> None:
        """Volumes, the sources ``-v`` is to make, and last the container's directories.

        A crash before leaves a record without a directory, and recovery forgets it.
        """
        core, spec = self._core, unit.record.spec
        for use in resolved.volumes:
            await self._volumes.make(
                use.name,
                driver=use.driver or "local",
                options=dict(use.options),
                labels=dict(use.labels),
                anonymous=use.anonymous,
                identity=unit.record.identity,
            )
        for mount in spec.mounts:
            if mount.type == "volume" and mount.copy_up:
                await core.call(
                    "storage.tree.copy_up",
                    lowers=list(spec.rootfs.lowers),
                    path=mount.target,
                    volume=core.volumes.data(mount.volume_name),
                    subpath=mount.subpath,
                )
        for source in resolved.missing_sources:
            # It belongs to the container's root, as Docker's belongs to root: what
            # the container cannot write would be of no use to it.
            root = spec.userns.maps[0].outside
            await core.call("engine.inside.make_source", path=source, owner=root)
        unit.fresh = core.housekeeping.take(spec.rootfs, unit.directory)
        if not unit.fresh:
            unit.directory.mkdir(mode=0o700)
            # The client's next request overlaps with it; a start waits for it.
            unit.making = core.background(
                core.call("storage.tree.make_container_dirs", mount=rootfs_to_json(spec.rootfs)),
                f"making {unit.record.name}",
            )

    async def _undo(self, unit: Unit, resolved: Resolved) -> None:
        made = [use.name for use in resolved.volumes]
        self._core.discard(unit.directory)
        self._core.registry.remove(unit)
        used = {name for other in self._core.registry for name in volume_names(other.record.spec)}
        for name in made:
            if name not in used and self._core.volumes.lookup(name) is not None:
                await self._volumes.discard(name)

    async def make_again(self, unit: Unit) -> None:
        """Finish a container whose creation a crash cut short (``prepare`` can be repeated)."""
        rootfs = unit.record.spec.rootfs
        await self._core.call("storage.tree.make_container_dirs", mount=rootfs_to_json(rootfs))
