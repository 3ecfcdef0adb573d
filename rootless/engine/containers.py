"""Containers: the facade's noun; each method finds the container and delegates."""

from __future__ import annotations

import posixpath
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from functools import partial

from rootless.engine import listing, quotas, stats, top
from rootless.engine.attach import Attached, parse_detach_keys
from rootless.engine.core import Core
from rootless.engine.creation import Creator, ImageSource
from rootless.engine.files import Files
from rootless.engine.filters import Filters, check_filters, until
from rootless.engine.lifecycle import Lifecycle
from rootless.engine.logdrivers import readable_log
from rootless.engine.logquery import LogQuery
from rootless.engine.logs import follow_log, history, read_log
from rootless.engine.networks import follow_rename
from rootless.engine.ownership import of_unit, seen_unit, sees_unit
from rootless.engine.resolve_limits import resolve_limits
from rootless.engine.restart import check_policy
from rootless.engine.unit import Unit
from rootless.engine.updates import check_update, merge_resources
from rootless.engine.volumes import Volumes
from rootless.errors import Conflict, HostUnsupported, InvalidInput, RootlessError
from rootless.linux import cgrouplimits
from rootless.model.identity import Identity
from rootless.model.records import (
    Change,
    ContainerRecord,
    ContainerState,
    ContainerView,
    LogEntry,
    PathStat,
    PlanReport,
    ProcessTable,
    PruneReport,
    Stats,
    WaitCondition,
    WaitResult,
)
from rootless.model.request import ContainerConfig, ContainerRequest, Resources, RestartPolicy
from rootless.storage.tree import rootfs_to_json


class Containers:
    """See :class:`rootless.engine.interface.Containers`."""

    def __init__(
        self,
        core: Core,
        images: ImageSource,
        volumes: Volumes,
        lifecycle: Lifecycle,
        files: Files,
    ) -> None:
        self._core = core
        self._images = images
        self._lifecycle = lifecycle
        self._files = files
        self.creator = Creator(core, images, volumes, lifecycle)

    def _admit(self, identity: Identity, verb: str, ref: str, *, path: str = "") -> Unit:
        """The container, when the caller may know of it and do ``verb`` (at ``path``) with it."""
        unit = seen_unit(self._core, identity, f"container.{verb}", ref)
        subject = of_unit(unit)
        if path:
            subject = replace(subject, paths=(posixpath.normpath(f"/{path.lstrip('/')}"),))
        self._core.policy.admit_action(identity, f"container.{verb}", ref, subject)
        return unit

    def _seen(self, identity: Identity, verb: str) -> list[Unit]:
        """The containers that ``verb``, which names none, is about for this caller."""
        wanted = self._core.policy.lister(identity, f"container.{verb}", of_unit)
        return [unit for unit in self._core.registry if wanted(unit)]

    @staticmethod
    def _check_running(unit: Unit) -> None:
        state = unit.record.state
        if state.status == "restarting":
            raise Conflict(
                f"Container {unit.id} is restarting, wait until the container is running"
            )
        if not state.running:
            raise Conflict(f"container {unit.id} is not running")

    # -- making and looking ----------------------------------------------------

    async def plan(self, identity: Identity, request: ContainerRequest) -> PlanReport:
        """What a create and start would do."""
        self._core.policy.admit_action(identity, "container.plan", request.name)
        return await self.creator.plan(identity, request)

    async def create(
        self, identity: Identity, request: ContainerRequest
    ) -> tuple[str, tuple[str, ...]]:
        """Make a container."""
        return await self.creator.create(identity, request)

    async def list(
        self,
        identity: Identity,
        *,
        filters: Filters,
        all: bool = False,
        limit: int = 0,
        size: bool = False,
    ) -> Sequence[ContainerView]:
        """Newest first."""
        self._core.policy.admit_action(identity, "container.list")
        records = listing.select(
            (unit.record for unit in self._seen(identity, "list")),
            filters,
            all_states=all,
            limit=limit,
            find=lambda ref: seen_unit(self._core, identity, "container.list", ref).record,
            descendants=self._images.descendants,
        )
        named: dict[tuple[str, str], bool] = {}
        views = [self._view(record, named) for record in records]
        return [await self._sized(view) for view in views] if size else views

    async def inspect(
        self, identity: Identity, ref: str, *, size: bool = False, verb: str = "inspect"
    ) -> ContainerView:
        """One container."""
        unit = self._admit(identity, verb, ref)
        view = self._view(unit.record, {})
        return await self._sized(view) if size else view

    def _view(self, record: ContainerRecord, named: dict[tuple[str, str], bool]) -> ContainerView:
        """``named`` keeps what was found out of images: few have many containers."""
        unit = self._core.registry.get(record.id)
        key = (record.spec.image.reference, record.spec.image.id)
        if key not in named:
            named[key] = self._images.is_named(*key)
        return ContainerView(
            record,
            exec_ids=tuple(sorted(unit.execs)) if unit is not None else (),
            image_renamed=not named[key],
            memo=unit.memo if unit is not None else {},
        )

    async def _sized(self, view: ContainerView) -> ContainerView:
        record = view.record
        own = await self.size_rw(record)
        layers = sum(self._core.layers.get(d).meta.size for d in record.spec.image.diff_ids)
        return replace(view, size_rw=own, size_root_fs=own + layers)

    async def size_rw(self, record: ContainerRecord) -> int:
        """Bytes the container wrote over its image."""
        upper = record.spec.rootfs.upper
        found = await self._core.call("storage.tree.tree_size", path=upper)
        assert isinstance(found, dict)
        return int(found["bytes"])

    # -- life --------------------------------------------------------------------

    async def start(self, identity: Identity, ref: str, *, detach_keys: str = "") -> None:
        """Start it."""
        unit = self._admit(identity, "start", ref)
        parse_detach_keys(detach_keys)
        await self._lifecycle.start(unit, identity)

    async def stop(
        self, identity: Identity, ref: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        """Stop it."""
        unit = self._admit(identity, "stop", ref)
        await self._lifecycle.stop(unit, timeout=timeout, signal_name=signal)

    async def kill(self, identity: Identity, ref: str, *, signal: str = "KILL") -> None:
        """Send it a signal."""
        unit = self._admit(identity, "kill", ref)
        await self._lifecycle.kill(unit, signal)

    async def restart(
        self, identity: Identity, ref: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        """Stop and start it."""
        unit = self._admit(identity, "restart", ref)
        await self._lifecycle.restart(unit, identity, timeout=timeout, signal_name=signal)

    async def pause(self, identity: Identity, ref: str) -> None:
        """Freeze every process of it."""
        unit = self._admit(identity, "pause", ref)
        self._check_running(unit)
        async with unit.lock:
            if unit.record.state.status == "paused":
                raise Conflict(f"Container {unit.id} is already paused")
            if not unit.cgroup:
                raise HostUnsupported(
                    "cannot pause: freezing needs a cgroup of the container's own, "
                    "and no cgroup is delegated to this user",
                    hint="run the daemon as a systemd user service: "
                    "rootless system service install",
                )
            if not await self._lifecycle.set_frozen(unit, frozen=True):
                raise Conflict(f"container {unit.id} is not running")
            self._core.registry.publish(unit, "pause")

    async def unpause(self, identity: Identity, ref: str) -> None:
        """Let it go on."""
        unit = self._admit(identity, "unpause", ref)
        async with unit.lock:
            if unit.record.state.status != "paused":
                raise Conflict(f"Container {unit.id} is not paused")
            if not await self._lifecycle.set_frozen(unit, frozen=False):
                raise Conflict(f"Container {unit.id} is not paused")
            self._core.registry.publish(unit, "unpause")

    async def rename(self, identity: Identity, ref: str, name: str) -> None:
        """Give it another name."""
        unit = self._admit(identity, "rename", ref)
        registry, seen = self._core.registry, partial(sees_unit, self._core, identity)
        if not name:
            raise InvalidInput("Neither old nor new names may be empty")
        async with unit.lock:
            old = unit.record.name
            new = registry.claim_name(name, seen, container_id=unit.id)
            if new == old:
                raise InvalidInput("Renaming a container with the same name as its current name")
            registry.rewrite(unit, replace(unit.record, spec=replace(unit.record.spec, name=new)))
            await follow_rename(self._core, unit)
        registry.publish(unit, "rename", oldName=f"/{old}")

    async def update(
        self,
        identity: Identity,
        ref: str,
        *,
        resources: Resources,
        restart_policy: RestartPolicy | None,
    ) -> tuple[str, ...]:
        """Change limits (at once when it runs) and the restart policy."""
        unit = seen_unit(self._core, identity, "container.update", ref)
        async with unit.lock:
            spec = unit.record.spec
            check_update(unit, resources, restart_policy)
            limits = resolve_limits(merge_resources(spec.resources, resources), self._core.facts)
            policy = spec.restart if restart_policy is None else restart_policy
            check_policy(policy, auto_remove=spec.auto_remove)
            host = replace(spec.request.host, resources=limits, restart_policy=policy)
            # The policy's bounds on limits hold for changed limits too.
            usage = quotas.for_update(self._core, unit, limits)
            self._core.policy.admit_update(identity, spec, limits, usage, restart=restart_policy)
            if unit.cgroup:
                cgrouplimits.write_limits(unit.cgroup, limits, self._core.facts.cgroup)
            changed = replace(
                spec,
                resources=limits,
                restart=policy,
                request=replace(spec.request, host=host),
            )
            self._core.registry.rewrite(unit, replace(unit.record, spec=changed))
        self._core.registry.publish(unit, "update")
        return ()

    async def remove(
        self, identity: Identity, ref: str, *, force: bool = False, volumes: bool = False
    ) -> None:
        """Remove it."""
        unit = self._admit(identity, "remove", ref)
        await self._lifecycle.remove(unit, force=force, volumes=volumes)

    async def prune(self, identity: Identity, *, filters: Filters) -> PruneReport:
        """Remove every container that does not run."""
        self._core.policy.admit_action(identity, "container.prune")
        check_filters(filters, listing.PRUNE_FILTERS)
        bound = until(filters, now_ns=time.time_ns())
        deleted, freed = [], 0
        for unit in self._seen(identity, "prune"):
            if not listing.prunable(unit.record, filters, until_ns=bound):
                continue
            size = await self.size_rw(unit.record)
            try:
                await self._lifecycle.remove(unit, force=False, volumes=False)
            except RootlessError:
                # Started or removed meanwhile: no longer what was to be pruned.
                continue
            deleted.append(unit.id)
            freed += size
        self._core.events.publish("container", "prune", "", {"reclaimed": str(freed)})
        return PruneReport(deleted=tuple(deleted), space_reclaimed=freed)

    async def wait(
        self, identity: Identity, ref: str, *, condition: WaitCondition = "not-running"
    ) -> Awaitable[WaitResult]:
        """What to await; see the interface."""
        unit = self._admit(identity, "wait", ref)
        if condition not in ("not-running", "next-exit", "removed"):
            raise InvalidInput(f'invalid condition: "{condition}"')
        return unit.wait(condition)

    # -- looking inside ------------------------------------------------------------

    async def top(self, identity: Identity, ref: str, *, ps_args: str = "-ef") -> ProcessTable:
        """Its processes as ``ps`` shows them."""
        unit = self._admit(identity, "top", ref)
        self._check_running(unit)
        table = await top.process_table(unit.record.state.pid, ps_args)
        self._core.registry.publish(unit, "top")
        return table

    async def logs(
        self,
        identity: Identity,
        ref: str,
        *,
        stdout: bool,
        stderr: bool,
        follow: bool = False,
        since_ns: int = 0,
        until_ns: int = 0,
        tail: int | None = None,
        details: bool = False,
    ) -> AsyncIterator[Sequence[LogEntry]]:
        """What it wrote."""
        unit = self._admit(identity, "logs", ref)
        if not (stdout or stderr):
            raise InvalidInput("Bad parameters: you must choose at least one stream")
        if unit.record.state.status in ("removing", "dead"):
            raise Conflict("can not get logs from container which is dead or marked for removal")
        query = LogQuery(stdout, stderr, since_ns, until_ns, tail, details)
        return self._log(unit, query, follow=follow)

    def _log(
        self, unit: Unit, query: LogQuery, *, follow: bool
    ) -> AsyncIterator[Sequence[LogEntry]]:
        files = readable_log(unit.record.spec, unit.directory)
        if follow and not unit.ended.is_set():
            return follow_log(files, query, self._core.watcher, unit.ended)
        return read_log(files, query)

    async def stats(
        self, identity: Identity, ref: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncIterator[Stats]:
        """Samples each second, or one."""
        unit = self._admit(identity, "stats", ref)
        return stats.sample_stream(unit, stream=stream, one_shot=one_shot)

    async def changes(self, identity: Identity, ref: str) -> Sequence[Change]:
        """Paths that differ from the image."""
        unit = self._admit(identity, "diff", ref)
        await unit.made()
        found = await self._core.call(
            "storage.tree.changes",
            mount=rootfs_to_json(unit.record.spec.rootfs),
            ignore=list(self._files.made_mount_points(unit)),
        )
        kinds = {"C": 0, "A": 1, "D": 2}
        assert isinstance(found, list | tuple)
        return [Change(path, kinds[kind]) for kind, path in found]  # type: ignore[arg-type]  # pairs, as the worker wrote them

    async def attach(
        self,
        identity: Identity,
        ref: str,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        logs: bool = False,
        stream: bool = True,
        detach_keys: str = "",
    ) -> Attached:
        """Streams; before the start they wait for it."""
        unit = self._admit(identity, "attach", ref)
        keys = parse_detach_keys(detach_keys)
        state = unit.record.state
        if state.status == "paused":
            raise Conflict(f"container {unit.id} is paused, unpause the container before attach")
        if state.status == "restarting":
            raise Conflict(
                f"container {unit.id} is restarting, wait until the container is running"
            )
        files = readable_log(unit.record.spec, unit.directory) if logs else None
        attached = Attached(
            tty=unit.record.spec.process.terminal,
            stdin=stdin and unit.record.spec.process.open_stdin,
            stdout=stdout,
            stderr=stderr,
            detach_keys=keys,
            history=partial(history, files, LogQuery(stdout, stderr)) if files else None,
            stream=stream,
            on_detach=lambda: self._core.registry.publish(unit, "detach"),
            finished=unit.ended if unit.record.spec.seccomp.log else None,
            epilogue=lambda: denied_text(unit.record.state),
        )
        if stream:
            if unit.shim is not None and not unit.ended.is_set():
                await attached.connect(unit.shim)
            else:
                unit.pending.add(attached)
                attached.on_close = lambda: unit.pending.discard(attached)
        self._core.registry.publish(unit, "attach")
        return attached

    async def resize(self, identity: Identity, ref: str, *, height: int, width: int) -> None:
        """Set the terminal's size."""
        unit = self._admit(identity, "resize", ref)
        self._check_running(unit)
        if not unit.record.spec.process.terminal:
            raise InvalidInput(f"container {unit.id} has no terminal")
        if unit.shim is not None:
            await unit.shim.resize(height, width)
        self._core.registry.publish(unit, "resize", height=str(height), width=str(width))

    # -- files -----------------------------------------------------------------------

    async def archive_stat(self, identity: Identity, ref: str, path: str) -> PathStat:
        """What a path is."""
        unit = self._admit(identity, "stat", ref, path=path)
        return await self._files.stat(unit, path)

    async def archive_get(
        self, identity: Identity, ref: str, path: str
    ) -> tuple[PathStat, AsyncIterator[bytes]]:
        """A path as a tar archive."""
        unit = self._admit(identity, "read", ref, path=path)
        found = await self._files.get(unit, path)
        self._core.registry.publish(unit, "archive-path")
        return found

    async def archive_put(
        self,
        identity: Identity,
        ref: str,
        path: str,
        body: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        """Unpack a tar archive into a directory."""
        unit = self._admit(identity, "write", ref, path=path)
        await self._files.put(
            unit,
            path,
            body,
            no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
            copy_uid_gid=copy_uid_gid,
        )
        self._core.registry.publish(unit, "extract-to-dir")

    async def export(self, identity: Identity, ref: str) -> AsyncIterator[bytes]:
        """The whole file system as a tar archive."""
        unit = self._admit(identity, "export", ref)
        stream = await self._files.export(unit)
        self._core.registry.publish(unit, "export")
        return stream

    async def commit(
        self,
        identity: Identity,
        ref: str,
        *,
        repo: str = "",
        tag: str = "",
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
        config: ContainerConfig | None = None,
    ) -> str:
        """An image made of the container."""
        unit = self._admit(identity, "commit", ref)
        frozen = pause and unit.record.state.status == "running" and bool(unit.cgroup)
        async with unit.lock:
            if frozen:
                await self._lifecycle.set_frozen(unit, frozen=True)
            try:
                image_id = await self._files.commit(
                    unit,
                    identity=identity,
                    repo=repo,
                    tag=tag,
                    comment=comment,
                    author=author,
                    changes=changes,
                    config=config,
                )
            finally:
                if frozen:
                    await self._lifecycle.set_frozen(unit, frozen=False)
        self._core.registry.publish(unit, "commit", comment=comment, imageID=image_id)
        return image_id


def denied_text(state: ContainerState) -> bytes:
    """What ``seccomp-log`` tells an attached client at the end; b'' when nothing was denied."""
    if not state.denied_calls:
        return b""
    calls = ", ".join(
        f"{name} ({count} time{'s' if count > 1 else ''})" for name, count in state.denied_calls
    )
    return f"rootless: system calls denied by seccomp: {calls}\r\n".encode()
