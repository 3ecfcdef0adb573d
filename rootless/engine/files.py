"""Files of containers: stat, cp in and out, export, and the diff that commit stores.

The work is done by ``rootless.storage.worker`` inside the engine's user
namespace; archives stream through pipes, so no size is too large.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rootless.engine.core import Core
from rootless.engine.etcfiles import ETC_FILES
from rootless.engine.unit import Unit
from rootless.engine.volume_ranges import VolumeRanges
from rootless.errors import (
    Conflict,
    Denied,
    Exhausted,
    HostUnsupported,
    InvalidInput,
    NotFound,
    RootlessError,
    Unavailable,
)
from rootless.model.identity import Identity
from rootless.model.records import PathStat
from rootless.model.request import ContainerConfig
from rootless.storage.tree import rootfs_to_json

if TYPE_CHECKING:
    from rootless.runtime.launcher_client import Spawned

_CHUNK = 1 << 18
_ERRORS = {
    cls.code: cls
    for cls in (InvalidInput, Denied, NotFound, Conflict, HostUnsupported, Unavailable, Exhausted)
}
_GO_TYPES = (
    (1 << 31, stat.S_IFDIR),
    (1 << 27, stat.S_IFLNK),
    (1 << 21, stat.S_IFCHR),
    (1 << 26, stat.S_IFBLK),
    (1 << 25, stat.S_IFIFO),
    (1 << 24, stat.S_IFSOCK),
)


class ImageMaker(Protocol):
    """Stores a container's changes as an image."""

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
        """The new image's id."""
        ...


@dataclass(slots=True)
class _Job:
    """A running worker; ``report`` reads its answer."""

    spawned: Spawned
    report: int

    async def finish(self) -> object:
        """Its result; raises what it reported."""
        text = b"".join([chunk async for chunk in read_pipe(self.report)])
        await self.spawned.wait()
        if not text:
            raise Unavailable("the file worker ended without an answer")
        answer = json.loads(text)
        raise_reported(answer)
        return answer["result"]

    async def abandon(self) -> None:
        """End it, whatever it does; its answer is of no interest any more."""
        os.close(self.report)
        self.spawned.kill()
        await self.spawned.wait()


class _Produced:
    """A worker's output. Closed early (a client went away), the worker ends and no pipe stays.

    Not a generator: one that was never started runs no clean-up when it is closed.
    """

    def __init__(self, job: _Job, out: int) -> None:
        self._job = job
        self._out = out
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._chunks is None:
            self._chunks = read_pipe(self._out)
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            if not self._ended:
                self._ended = True
                # A worker that failed in the middle must not look like a complete archive.
                await self._job.finish()
            raise

    async def aclose(self) -> None:
        """Stop; nothing happens when the end was reached."""
        if self._ended:
            return
        self._ended = True
        if self._chunks is None:
            os.close(self._out)
        else:
            await self._chunks.aclose()
        await self._job.abandon()


def raise_reported(answer: Mapping[str, object]) -> None:
    """Raise the error that a worker reported, if it is one."""
    if "error" in answer:
        kind = _ERRORS.get(str(answer["code"]), RootlessError)
        hint = answer.get("hint")
        raise kind(str(answer["error"]), hint=str(hint) if hint else None)


async def read_pipe(fd: int) -> AsyncGenerator[bytes, None]:
    """Chunks from a pipe until its end; closes it."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    try:
        while True:
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_reader(fd, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(fd)
                continue
            if not data:
                return
            yield data
    finally:
        os.close(fd)


async def write_pipe(
    fd: int, body: AsyncIterator[bytes], *, on_failure: Callable[[], None] = lambda: None
) -> None:
    """Write all of ``body``; a reader that went away ends it. Closes the pipe.

    ``on_failure`` is called before the reader can take the end of half a body for its end.
    """
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    try:
        async for chunk in body:
            view = memoryview(chunk)
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    ready = loop.create_future()
                    loop.add_writer(fd, _wake, ready)
                    try:
                        await ready
                    finally:
                        loop.remove_writer(fd)
    except BrokenPipeError:
        # The worker ended early; its report says why.
        return
    except BaseException:
        on_failure()
        raise
    finally:
        os.close(fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextmanager
def _closing(*fds: int) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


@contextmanager
def _closed_on_failure(fd: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(fd)
        raise


@contextmanager
def _naming(unit: Unit, path: str) -> Iterator[None]:
    """What is not found is said with the path that was asked for; the API names the container."""
    try:
        yield
    except NotFound as error:
        if not unit.removed and "Could not find" in error.message:
            text = f"Could not find the file {path} in the container"
            raise NotFound(text, hint=error.hint) from None
        raise


class Files:
    """See the module."""

    def __init__(self, core: Core, images: ImageMaker, ranges: VolumeRanges) -> None:
        self._core = core
        self._images = images
        self._ranges = ranges

    def _fields(self, unit: Unit, **more: object) -> dict[str, object]:
        spec = unit.record.spec
        maps = [[m.inside, m.outside, m.size] for m in spec.userns.maps]
        fields: dict[str, object] = {"mount": rootfs_to_json(spec.rootfs), "maps": maps, **more}
        if unit.record.state.running:
            fields["pid"] = unit.record.state.pid
            # With the pid alone the worker might meet a process that took the number since.
            fields["start"] = unit.init_start
        return fields

    @staticmethod
    def _with_volumes(unit: Unit, fields: dict[str, object]) -> dict[str, object]:
        """The volumes of a stopped container are copied to and from as well.

        Not its bind mounts: whether those may be mounted is decided at each start.
        """
        if "pid" not in fields:
            fields["volumes"] = [
                {
                    "source": mount.source,
                    "subpath": mount.subpath,
                    "target": mount.target,
                    "read_only": mount.read_only,
                }
                for mount in unit.record.spec.mounts
                if mount.type == "volume"
            ]
        return fields

    async def _spawn(
        self, operation: str, fields: dict[str, object], *, stdin: int = -1, stdout: int = -1
    ) -> _Job:
        from rootless.storage.worker import REPORT_FD, command

        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        report, theirs = os.pipe2(os.O_CLOEXEC)
        with _closed_on_failure(report), _closing(null, theirs):
            launcher = await self._core.launcher()
            spawned = await launcher.spawn(
                command(operation, fields),
                fds={
                    0: stdin if stdin >= 0 else null,
                    1: stdout if stdout >= 0 else null,
                    2: 2,
                    REPORT_FD: theirs,
                },
            )
        return _Job(spawned, report)

    async def stat(self, unit: Unit, path: str) -> PathStat:
        """What ``path`` in the container is."""
        await unit.made()
        job = await self._spawn("stat", self._with_volumes(unit, self._fields(unit, path=path)))
        with _naming(unit, path):
            return _path_stat(await job.finish())

    async def get(self, unit: Unit, path: str) -> tuple[PathStat, AsyncIterator[bytes]]:
        """``path`` as a tar archive; errors come before the first byte."""
        async with self._ranges.claim_for_copy(unit, path):
            found = await self.stat(unit, path)
            fields = self._with_volumes(unit, self._fields(unit, path=path))
            return found, await self._produce("read", fields)

    async def export(self, unit: Unit) -> AsyncIterator[bytes]:
        """The whole file system."""
        await unit.made()
        fields = self._fields(unit, ignore=list(self.made_mount_points(unit)))
        return await self._produce("export", fields)

    async def diff(self, unit: Unit) -> _Produced:
        """The changes as a layer."""
        await unit.made()
        fields: dict[str, object] = {
            "mount": rootfs_to_json(unit.record.spec.rootfs),
            "ignore": list(self.made_mount_points(unit)),
        }
        return await self._produce("diff", fields)

    async def _produce(self, operation: str, fields: dict[str, object]) -> _Produced:
        out, theirs = os.pipe2(os.O_CLOEXEC)
        with _closed_on_failure(out), _closing(theirs):
            job = await self._spawn(operation, fields, stdout=theirs)
        return _Produced(job, out)

    async def put(
        self,
        unit: Unit,
        path: str,
        body: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None:
        """Unpack ``body`` into directory ``path``."""
        await unit.made()
        async with self._ranges.claim_for_copy(unit, path):
            await self._put(
                unit,
                path,
                body,
                no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
                copy_uid_gid=copy_uid_gid,
            )

    async def _put(
        self,
        unit: Unit,
        path: str,
        body: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool,
        copy_uid_gid: bool,
    ) -> None:
        # As in Docker: of a container that names no user the archive's owners stay.
        user = unit.record.spec.process.user
        owner = {"user": user} if copy_uid_gid and user else {}
        theirs, pipe = os.pipe2(os.O_CLOEXEC)
        with _closed_on_failure(pipe), _closing(theirs):
            job = await self._spawn(
                "write",
                self._with_volumes(
                    unit,
                    self._fields(
                        unit,
                        path=path,
                        no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
                        **owner,
                    ),
                ),
                stdin=theirs,
            )
        try:
            await write_pipe(pipe, body)
        except BaseException:
            await job.abandon()
            raise
        with _naming(unit, path):
            await job.finish()

    async def commit(
        self,
        unit: Unit,
        *,
        identity: Identity,
        repo: str,
        tag: str,
        comment: str,
        author: str,
        changes: Sequence[str],
        config: ContainerConfig | None,
    ) -> str:
        """Make an image."""
        diff = await self.diff(unit)
        try:
            return await self._images.commit(
                unit,
                diff,
                identity=identity,
                repo=repo,
                tag=tag,
                comment=comment,
                author=author,
                changes=changes,
                config=config,
            )
        finally:
            # A wrong name is found before the first byte is read.
            await diff.aclose()

    @staticmethod
    def made_mount_points(unit: Unit) -> Iterator[str]:
        """Paths in the upper directory that exist only because something is mounted there."""
        spec = unit.record.spec
        yield from (
            "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console",
        )  # fmt: skip
        for _, target in ETC_FILES:
            yield target
        for mount in spec.mounts:
            yield mount.target


def _path_stat(result: object) -> PathStat:
    assert isinstance(result, dict)
    return PathStat(
        name=str(result["name"]),
        size=int(result["size"]),
        mode=unix_mode(int(result["mode"])),
        mtime_ns=int(result["mtime_ns"]),
        link_target=str(result["link_target"]),
    )


def unix_mode(go_mode: int) -> int:
    """st_mode of a Go os.FileMode."""
    mode = go_mode & 0o777
    mode |= next((kind for bit, kind in _GO_TYPES if go_mode & bit), stat.S_IFREG)
    mode |= stat.S_ISUID if go_mode & 1 << 23 else 0
    mode |= stat.S_ISGID if go_mode & 1 << 22 else 0
    return mode | (stat.S_ISVTX if go_mode & 1 << 20 else 0)
