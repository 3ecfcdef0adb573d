"""The engine as the API sees it.

Every call takes the :class:`Identity` of the caller first. Containers, images,
volumes and execs are named by ``ref``: an id, an unambiguous prefix of one, or a
name. Filters are Docker's (``{"label": ["a=b"], "status": ["running"]}``); an
unknown filter is :class:`~rootless.errors.InvalidInput`. Calls that stream are
awaited first, so that errors come before the first byte, and then iterated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Literal, NoReturn, Protocol

from rootless.model.build import BuildSpec
from rootless.model.certificate import Renewed
from rootless.model.decision import Decision
from rootless.model.event import Event
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.network import Denial
from rootless.model.records import (
    Change,
    ContainerView,
    DiskUsage,
    DistributionInfo,
    ExecRecord,
    ImageDeletion,
    ImageHistoryEntry,
    ImageRecord,
    LogEntry,
    NetworkView,
    PathStat,
    PlanReport,
    ProcessTable,
    Progress,
    PruneReport,
    RegistryAuth,
    Stats,
    SystemInfo,
    VersionInfo,
    VolumeRecord,
    WaitCondition,
    WaitResult,
)
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    EndpointRequest,
    ExecRequest,
    NetworkCreation,
    Resources,
    RestartPolicy,
)

Filters = Mapping[str, Sequence[str]]
Bytes = AsyncIterator[bytes]


class AttachStreams(Protocol):
    """Both directions of an attached container or exec.

    Iterating yields ``(1 | 2, bytes)`` for stdout and stderr (always 1 with a
    terminal) and ends when the process ended, its output was closed, or the
    client detached with the detach keys. A container that has not started yet
    may be attached; iteration waits for its start.
    """

    tty: bool

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]: ...
    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    async def resize(self, height: int, width: int) -> None: ...
    async def close(self) -> None: ...


class Containers(Protocol):
    """Containers."""

    async def plan(self, identity: Identity, request: ContainerRequest) -> PlanReport: ...
    async def create(
        self, identity: Identity, request: ContainerRequest
    ) -> tuple[str, tuple[str, ...]]:
        """The new id and warnings."""
        ...

    async def list(
        self,
        identity: Identity,
        *,
        filters: Filters,
        all: bool = False,
        limit: int = 0,
        size: bool = False,
    ) -> Sequence[ContainerView]: ...
    async def inspect(
        self, identity: Identity, ref: str, *, size: bool = False, verb: str = "inspect"
    ) -> ContainerView:
        """``verb`` is what is looked at for, as the policy knows it."""
        ...

    async def start(self, identity: Identity, ref: str, *, detach_keys: str = "") -> None:
        """Raises NotModified when it runs already, StartFailed when its process cannot start."""
        ...

    async def stop(
        self, identity: Identity, ref: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        """``timeout`` in seconds, -1 waits for ever. Raises NotModified when it does not run."""
        ...

    async def kill(self, identity: Identity, ref: str, *, signal: str = "KILL") -> None: ...
    async def restart(
        self, identity: Identity, ref: str, *, timeout: int | None = None, signal: str = ""
    ) -> None: ...
    async def pause(self, identity: Identity, ref: str) -> None: ...
    async def unpause(self, identity: Identity, ref: str) -> None: ...
    async def rename(self, identity: Identity, ref: str, name: str) -> None: ...
    async def update(
        self,
        identity: Identity,
        ref: str,
        *,
        resources: Resources,
        restart_policy: RestartPolicy | None,
    ) -> tuple[str, ...]:
        """Warnings. Fields of ``resources`` that are not set keep their value."""
        ...

    async def remove(
        self, identity: Identity, ref: str, *, force: bool = False, volumes: bool = False
    ) -> None: ...
    async def wait(
        self, identity: Identity, ref: str, *, condition: WaitCondition = "not-running"
    ) -> Awaitable[WaitResult]:
        """Registers the wait, then returns what to await; so a start after it is not missed."""
        ...

    async def top(self, identity: Identity, ref: str, *, ps_args: str = "-ef") -> ProcessTable: ...
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
    ) -> AsyncIterator[Sequence[LogEntry]]: ...
    async def stats(
        self, identity: Identity, ref: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncIterator[Stats]: ...
    async def changes(self, identity: Identity, ref: str) -> Sequence[Change]: ...
    async def export(self, identity: Identity, ref: str) -> Bytes: ...
    async def prune(self, identity: Identity, *, filters: Filters) -> PruneReport: ...
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
    ) -> AttachStreams: ...
    async def resize(self, identity: Identity, ref: str, *, height: int, width: int) -> None: ...
    async def archive_stat(self, identity: Identity, ref: str, path: str) -> PathStat: ...
    async def archive_get(
        self, identity: Identity, ref: str, path: str
    ) -> tuple[PathStat, Bytes]: ...
    async def archive_put(
        self,
        identity: Identity,
        ref: str,
        path: str,
        body: Bytes,
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        """``body`` is a tar archive, plain or compressed; ``path`` an existing directory."""
        ...

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
        """The new image's id. ``changes`` are Dockerfile instructions."""
        ...


class Execs(Protocol):
    """Processes run in containers after their start."""

    async def create(self, identity: Identity, ref: str, request: ExecRequest) -> str: ...
    async def start(
        self,
        identity: Identity,
        exec_id: str,
        *,
        detach: bool,
        console_size: tuple[int, int] = (0, 0),
    ) -> AttachStreams | None:
        """Streams unless detached. Raises StartFailed as ``start`` of a container does."""
        ...

    async def inspect(
        self, identity: Identity, exec_id: str, *, verb: str = "inspect"
    ) -> ExecRecord: ...
    async def resize(
        self, identity: Identity, exec_id: str, *, height: int, width: int
    ) -> None: ...


class Images(Protocol):
    """Images."""

    async def list(
        self, identity: Identity, *, filters: Filters, all: bool = False, shared_size: bool = False
    ) -> Sequence[ImageRecord]: ...
    async def inspect(self, identity: Identity, ref: str) -> ImageRecord: ...
    async def facts(self, identity: Identity, ref: str) -> ImageFacts:
        """What policies look at in an image."""
        ...

    async def history(self, identity: Identity, ref: str) -> Sequence[ImageHistoryEntry]: ...
    async def pull(
        self,
        identity: Identity,
        reference: str,
        *,
        platform: str = "",
        auth: RegistryAuth | None = None,
        all_tags: bool = False,
    ) -> AsyncIterator[Progress]: ...
    async def push(
        self, identity: Identity, reference: str, *, auth: RegistryAuth | None = None
    ) -> AsyncIterator[Progress]: ...
    async def build(self, identity: Identity, asked: BuildSpec) -> NoReturn:
        """Judged by the policy, and refused: this engine does not build yet."""
        ...

    async def distribution(
        self, identity: Identity, reference: str, *, auth: RegistryAuth | None = None
    ) -> DistributionInfo: ...
    async def tag(self, identity: Identity, ref: str, *, repo: str, tag: str) -> None: ...
    async def remove(
        self, identity: Identity, ref: str, *, force: bool = False, prune_parents: bool = True
    ) -> Sequence[ImageDeletion]: ...
    async def prune(self, identity: Identity, *, filters: Filters) -> PruneReport: ...
    async def save(self, identity: Identity, refs: Sequence[str]) -> Bytes: ...
    async def load(
        self, identity: Identity, body: Bytes, *, platform: str = ""
    ) -> AsyncIterator[Progress]: ...
    async def import_(
        self,
        identity: Identity,
        body: Bytes,
        *,
        repo: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> AsyncIterator[Progress]: ...
    async def search(
        self,
        identity: Identity,
        term: str,
        *,
        limit: int = 0,
        filters: Filters,
        auth: RegistryAuth | None = None,
    ) -> Sequence[Mapping[str, object]]: ...


class Volumes(Protocol):
    """Volumes."""

    async def create(
        self,
        identity: Identity,
        *,
        name: str = "",
        driver: str = "local",
        options: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> VolumeRecord: ...
    async def list(self, identity: Identity, *, filters: Filters) -> Sequence[VolumeRecord]: ...
    async def inspect(self, identity: Identity, name: str) -> VolumeRecord: ...
    async def remove(self, identity: Identity, name: str, *, force: bool = False) -> None: ...
    async def prune(self, identity: Identity, *, filters: Filters) -> PruneReport: ...


class Networks(Protocol):
    """Networks."""

    async def create(self, identity: Identity, wanted: NetworkCreation) -> tuple[str, str]:
        """The new id and a warning, '' for none."""
        ...

    async def list(self, identity: Identity, *, filters: Filters) -> Sequence[NetworkView]: ...
    async def inspect(self, identity: Identity, ref: str) -> NetworkView: ...
    async def remove(self, identity: Identity, ref: str) -> None: ...
    async def prune(self, identity: Identity, *, filters: Filters) -> Sequence[str]:
        """Names of the networks that were removed."""
        ...

    async def denied(
        self, identity: Identity, *, network: str = "", container: str = "", since_ns: int = 0
    ) -> Sequence[Denial]:
        """What egress lists denied since a time, the latest last; '' and 0 for all."""
        ...

    async def connect(
        self, identity: Identity, ref: str, container: str, wanted: EndpointRequest
    ) -> None: ...
    async def disconnect(self, identity: Identity, ref: str, container: str) -> None: ...


class System(Protocol):
    """The engine itself."""

    async def ping(self) -> Literal["OK"]: ...
    async def can(
        self, identity: Identity, verb: str, target: str = "", *, asked: str = ""
    ) -> tuple[Identity, Decision]:
        """Whom it is about (``asked``, or the caller), and what the policy says to ``verb``."""
        ...

    async def renew(self, identity: Identity, request: str) -> Renewed:
        """The next certificate for the caller, whose own is in force; ``request`` is PKCS #10.

        InvalidInput when this engine has no authority, or the caller no certificate.
        """
        ...

    async def info(self, identity: Identity) -> SystemInfo: ...
    async def version(self, identity: Identity) -> VersionInfo: ...
    async def disk_usage(self, identity: Identity) -> DiskUsage: ...
    async def events(
        self, identity: Identity, *, filters: Filters, since_ns: int = 0, until_ns: int = 0
    ) -> AsyncIterator[Event]:
        """Past events since ``since_ns`` (0: none), then live ones until ``until_ns`` (0: ever)."""
        ...

    async def auth(self, identity: Identity, auth: RegistryAuth) -> tuple[str, str]:
        """(status line, identity token). Raises Unauthorized."""
        ...


class Engine(Protocol):
    """Everything the API needs, one attribute per noun."""

    @property
    def containers(self) -> Containers: ...
    @property
    def execs(self) -> Execs: ...
    @property
    def images(self) -> Images: ...
    @property
    def volumes(self) -> Volumes: ...
    @property
    def networks(self) -> Networks: ...
    @property
    def system(self) -> System: ...
