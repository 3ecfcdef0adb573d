"""An engine in memory: it keeps state and streams bytes, but runs no process.

A container's command decides what it does when attached: ``cat`` echoes its
input, ``flood N`` writes N bytes, ``sink`` counts its input and reports it,
``silent`` writes nothing until it is killed, anything else prints its words.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from rootless.engine.networks import check_creation, predefined
from rootless.errors import Conflict, Denied, InvalidInput, NotFound, NotModified, StartFailed
from rootless.ids import new_id
from rootless.model.build import BuildSpec
from rootless.model.certificate import Renewed
from rootless.model.decision import Decision, Finding
from rootless.model.event import Event
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.mounts import IdMap, MountSpec, RootfsMount
from rootless.model.network import Denial, Endpoint, NetworkRecord, Subnet
from rootless.model.records import (
    Change,
    ContainerRecord,
    ContainerView,
    CpuSample,
    DiskUsage,
    ExecRecord,
    ImageDeletion,
    ImageHistoryEntry,
    ImageRecord,
    LogEntry,
    NetworkSample,
    NetworkState,
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
    WaitResult,
)
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    EndpointRequest,
    ExecRequest,
    NetworkCreation,
)
from rootless.model.spec import (
    ContainerSpec,
    ImageSpec,
    NamespacesSpec,
    NetworkSpec,
    PrivilegesSpec,
    ProcessSpec,
    SeccompSpec,
    UsernsSpec,
)

IMAGE_ID = "sha256:" + "ab" * 32
CHUNK = 256 << 10


def make_spec(request: ContainerRequest, container_id: str, name: str) -> ContainerSpec:
    """A plausible spec for a request."""
    words = (*(request.config.entrypoint or ()), *(request.config.cmd or ()))
    return ContainerSpec(
        id=container_id,
        name=name,
        created_ns=1_700_000_000_123_456_789,
        image=ImageSpec(IMAGE_ID, request.config.image, ("sha256:" + "1" * 64,)),
        process=ProcessSpec(
            args=words, env=(), cwd="/", user="", terminal=request.config.tty,
            open_stdin=request.config.open_stdin,
        ),
        hostname=container_id[:12],
        domainname="",
        userns=UsernsSpec("shared", (IdMap(0, 1, 65536),), 1),
        rootfs=RootfsMount("overlay", ("/l1",), "/u", "/w"),
        mounts=tuple(
            MountSpec(
                type=m.type, target=m.target, source=m.source or "/v", read_only=m.read_only,
                volume_name=m.source if m.type == "volume" else "",
            )
            for m in request.host.mounts
        ),
        masked_paths=("/proc/kcore",),
        readonly_paths=("/proc/sys",),
        namespaces=NamespacesSpec(),
        privileges=PrivilegesSpec(("CAP_CHOWN",)),
        seccomp=SeccompSpec("default", "{}"),
        network=NetworkSpec("slirp4netns", ports=request.host.port_bindings),
        resources=request.host.resources,
        request=request,
        labels=request.config.labels,
    )  # fmt: skip


class FakeStreams:
    """What an attached command says and hears."""

    def __init__(self, words: tuple[str, ...], *, tty: bool) -> None:
        self.tty = tty
        self.words = words
        self.size = (0, 0)
        self.closed = False
        self.received = 0
        self.stdin_closed = asyncio.Event()
        self.ended = asyncio.Event()
        self._input: asyncio.Queue[bytes] = asyncio.Queue(4)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        command = self.words[0] if self.words else ""
        if command == "cat":
            while data := await self._input.get():
                if self.tty and data == b"\x10\x11":
                    return
                yield 1, data
        elif command == "sink":
            while data := await self._input.get():
                self.received += len(data)
            yield 1, f"{self.received}".encode()
        elif command == "flood":
            left = int(self.words[1])
            block = bytes(range(256)) * (CHUNK // 256)
            while left:
                data = block[:left]
                left -= len(data)
                yield 1, data
                await asyncio.sleep(0)
        elif command == "silent":
            await self.ended.wait()
        elif command == "both":
            yield 1, b"out\n"
            yield 2, b"err\n"
        else:
            yield 1, (" ".join(self.words) + "\n").encode()

    @property
    def full(self) -> bool:
        return self._input.full()

    async def write(self, data: bytes) -> None:
        await self._input.put(data)

    async def close_stdin(self) -> None:
        self.stdin_closed.set()
        await self._input.put(b"")

    async def resize(self, height: int, width: int) -> None:
        self.size = (height, width)

    async def close(self) -> None:
        self.closed = True


class FakeContainers:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.records: dict[str, ContainerRecord] = {}
        self.waits: dict[str, list[asyncio.Future[WaitResult]]] = {}
        self.attached: list[FakeStreams] = []
        self.streams: dict[str, FakeStreams] = {}
        self.uploads: list[bytes] = []
        self.calls: list[tuple[str, Any]] = []
        self.open_streams = 0
        self.log: list[LogEntry] = []
        self.requests: list[ContainerRequest] = []

    def find(self, ref: str) -> ContainerRecord:
        for record in self.records.values():
            if record.name == ref or record.id.startswith(ref):
                return record
        raise NotFound(f"No such container: {ref}")

    def put(self, ref: str, **changes: Any) -> ContainerRecord:
        record = self.find(ref)
        record = replace(record, state=replace(record.state, **changes))
        self.records[record.id] = record
        return record

    async def plan(self, identity: Identity, request: ContainerRequest) -> PlanReport:
        spec = make_spec(request, new_id(), request.name or "dry")
        return PlanReport(
            spec,
            Decision(True, "builtin"),
            ("careful", *request.warnings),
            (("mount", "mount /proc"),),
        )

    async def create(
        self, identity: Identity, request: ContainerRequest
    ) -> tuple[str, tuple[str, ...]]:
        self.requests.append(request)
        if request.host.privileged:
            findings = [
                Finding("privileges.privileged", "HostConfig.Privileged", "true", "no", "drop it"),
                Finding("capabilities.add", "HostConfig.CapAdd", "ALL", "too many", "name them"),
            ]
            raise Denied("denied by policy builtin", context={"findings": findings})
        if request.config.image == "missing":
            raise NotFound("No such image: missing:latest")
        name = request.name or f"name{len(self.records)}"
        if any(r.name == name for r in self.records.values()):
            raise Conflict(f'Conflict. The container name "/{name}" is already in use')
        container_id = new_id()
        warnings = request.warnings
        self.records[container_id] = ContainerRecord(
            spec=make_spec(request, container_id, name),
            config=request.config,
            identity=identity,
            decision=Decision(True, "builtin"),
            directory=f"/data/containers/{container_id}",
            log_path=f"/data/containers/{container_id}/container.log",
        )
        return container_id, warnings

    async def list(
        self, identity: Identity, *, filters: Mapping[str, Sequence[str]], all: bool = False,
        limit: int = 0, size: bool = False,
    ) -> list[ContainerView]:  # fmt: skip
        self.calls.append(("list", (dict(filters), all, limit, size)))
        found = [r for r in self.records.values() if all or r.state.running]
        return [ContainerView(r, size_rw=1 if size else None) for r in found]

    async def inspect(
        self, identity: Identity, ref: str, *, size: bool = False, verb: str = "inspect"
    ) -> ContainerView:
        self.calls.append(("inspect", identity))
        return ContainerView(self.find(ref), size_rw=10 if size else None)

    async def start(self, identity: Identity, ref: str, *, detach_keys: str = "") -> None:
        record = self.find(ref)
        if record.state.running:
            raise NotModified("already started")
        if record.config.cmd and record.config.cmd[0] == "missing-program":
            raise StartFailed(
                'exec: "missing-program": executable file not found in $PATH',
                step="execve", exit_code=127,
            )  # fmt: skip
        record = self.put(
            record.id, status="running", pid=4242, started_ns=time.time_ns() - 180 * 10**9
        )
        self.records[record.id] = replace(
            record,
            network=NetworkState(
                ip_address="10.0.2.100", ip_prefix_length=24, gateway="10.0.2.2",
                ports=record.spec.network.ports,
            ),
        )  # fmt: skip
        streams = self.streams.get(record.id)
        if streams is None or streams.words[:1] != ("silent",):
            asyncio.get_running_loop().call_soon(self.end, record.id, 3)

    def end(self, ref: str, code: int) -> None:
        record = self.put(ref, status="exited", pid=0, exit_code=code, finished_ns=time.time_ns())
        for waiter in self.waits.pop(record.id, []):
            if not waiter.done():
                waiter.set_result(WaitResult(code))
        if record.id in self.streams:
            self.streams[record.id].ended.set()

    async def stop(
        self, identity: Identity, ref: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        self.calls.append(("stop", (timeout, signal)))
        if not self.find(ref).state.running:
            raise NotModified("not running")
        self.end(ref, 143)

    async def kill(self, identity: Identity, ref: str, *, signal: str = "KILL") -> None:
        if not self.find(ref).state.running:
            raise Conflict(f"cannot kill container: {ref}: container {ref} is not running")
        self.calls.append(("kill", signal))
        self.end(ref, 137)

    async def restart(
        self, identity: Identity, ref: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        self.calls.append(("restart", (timeout, signal)))
        self.find(ref)

    async def pause(self, identity: Identity, ref: str) -> None:
        self.put(ref, status="paused")

    async def unpause(self, identity: Identity, ref: str) -> None:
        self.put(ref, status="running")

    async def rename(self, identity: Identity, ref: str, name: str) -> None:
        record = self.find(ref)
        self.records[record.id] = replace(record, spec=replace(record.spec, name=name))

    async def update(
        self, identity: Identity, ref: str, *, resources: Any, restart_policy: Any
    ) -> tuple[str, ...]:
        self.find(ref)
        self.calls.append(("update", (resources, restart_policy)))
        return ("engine warning",)

    async def remove(
        self, identity: Identity, ref: str, *, force: bool = False, volumes: bool = False
    ) -> None:
        del self.records[self.find(ref).id]
        self.calls.append(("remove", (force, volumes)))

    async def wait(
        self, identity: Identity, ref: str, *, condition: str = "not-running"
    ) -> Awaitable[WaitResult]:
        record = self.find(ref)
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not record.state.running:
            future.set_result(WaitResult(record.state.exit_code))
        self.waits.setdefault(record.id, []).append(future)
        self.engine.registered.set()
        return future

    async def top(self, identity: Identity, ref: str, *, ps_args: str = "-ef") -> ProcessTable:
        self.find(ref)
        return ProcessTable(("PID", "CMD"), (("1", f"top {ps_args}"),))

    async def logs(
        self, identity: Identity, ref: str, **query: Any
    ) -> AsyncIterator[Sequence[LogEntry]]:
        self.find(ref)
        self.calls.append(("logs", query))
        return self._logs(query["follow"])

    async def _logs(self, follow: bool) -> AsyncIterator[Sequence[LogEntry]]:
        self.open_streams += 1
        try:
            if self.log:
                yield self.log
            if follow:
                self.engine.registered.set()
                await asyncio.get_running_loop().create_future()
        finally:
            self.open_streams -= 1
            self.engine.released.set()

    async def stats(
        self, identity: Identity, ref: str, *, stream: bool = True, one_shot: bool = False
    ) -> AsyncIterator[Stats]:
        record = self.find(ref)
        return self._stats(record, 3 if stream else 1)

    async def _stats(self, record: ContainerRecord, count: int) -> AsyncIterator[Stats]:
        for number in range(count):
            yield Stats(
                record.id, record.name, read_ns=time.time_ns(), pids=number + 1,
                cpu=CpuSample(total_ns=5, system_ns=10, online_cpus=2), memory_usage=100,
                memory_limit=1000, memory=(("anon", 50),),
                networks=(NetworkSample("eth0", rx_bytes=1),),
            )  # fmt: skip

    async def changes(self, identity: Identity, ref: str) -> list[Change]:
        self.find(ref)
        return [Change("/etc", 0), Change("/etc/new", 1)]

    async def export(self, identity: Identity, ref: str) -> AsyncIterator[bytes]:
        self.find(ref)
        return self.engine.blocks(8 << 20)

    async def prune(self, identity: Identity, *, filters: Any) -> PruneReport:
        return PruneReport(deleted=("one",), space_reclaimed=7)

    async def attach(self, identity: Identity, ref: str, **options: Any) -> FakeStreams:
        record = self.find(ref)
        self.calls.append(("attach", options))
        words = record.config.cmd or ()
        streams = FakeStreams(words, tty=record.config.tty)
        self.attached.append(streams)
        self.streams[record.id] = streams
        return streams

    async def resize(self, identity: Identity, ref: str, *, height: int, width: int) -> None:
        self.find(ref)
        self.calls.append(("resize", (height, width)))

    async def archive_stat(self, identity: Identity, ref: str, path: str) -> PathStat:
        self.find(ref)
        if path == "/absent":
            raise NotFound(f"Could not find the file {path} in container {ref}")
        return PathStat("etc", 4096, 0o041777, 1_700_000_000 * 10**9)

    async def archive_get(
        self, identity: Identity, ref: str, path: str
    ) -> tuple[PathStat, AsyncIterator[bytes]]:
        stat = await self.archive_stat(identity, ref, path)
        if path == "/broken":
            return stat, self.engine.broken()
        return stat, self.engine.blocks(4 << 20)

    async def archive_put(
        self, identity: Identity, ref: str, path: str, body: AsyncIterator[bytes], **options: Any
    ) -> None:
        self.find(ref)
        self.calls.append(("archive_put", (path, options)))
        self.uploads.append(b"".join([chunk async for chunk in body]))

    async def commit(self, identity: Identity, ref: str, **options: Any) -> str:
        self.find(ref)
        self.calls.append(("commit", options))
        return IMAGE_ID


class FakeExecs:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.records: dict[str, ExecRecord] = {}
        self.streams: list[FakeStreams] = []

    async def create(self, identity: Identity, ref: str, request: ExecRequest) -> str:
        record = self.engine.containers.find(ref)
        exec_id = new_id()
        self.records[exec_id] = ExecRecord(exec_id, record.id, request, 1)
        return exec_id

    async def start(self, identity: Identity, exec_id: str, **options: Any) -> FakeStreams | None:
        record = await self.inspect(identity, exec_id)
        if record.request.cmd[0] == "missing-program":
            self.records[exec_id] = replace(record, exit_code=127)
            raise StartFailed(
                'exec: "missing-program": executable file not found in $PATH',
                step="execve", exit_code=127,
            )  # fmt: skip
        self.records[exec_id] = replace(record, exit_code=5)
        if options["detach"]:
            return None
        streams = FakeStreams(record.request.cmd, tty=record.request.tty)
        self.streams.append(streams)
        return streams

    async def inspect(
        self, identity: Identity, exec_id: str, *, verb: str = "inspect"
    ) -> ExecRecord:
        if exec_id not in self.records:
            raise NotFound(f"No such exec instance: {exec_id}")
        return self.records[exec_id]

    async def resize(self, identity: Identity, exec_id: str, *, height: int, width: int) -> None:
        await self.inspect(identity, exec_id)


class FakeImages:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.calls: list[tuple[str, Any]] = []
        self.uploaded = 0
        self.image = ImageRecord(
            id=IMAGE_ID, created_ns=1_700_000_000 * 10**9, architecture="amd64", os="linux",
            config=ContainerConfig(cmd=("sh",), env=("PATH=/bin",), labels=(("a", "b"),)),
            diff_ids=("sha256:" + "1" * 64,), size=4_000_000, repo_tags=("busybox:latest",),
            repo_digests=("busybox@sha256:" + "2" * 64,),
        )  # fmt: skip

    async def list(self, identity: Identity, **options: Any) -> list[ImageRecord]:
        return [self.image]

    async def inspect(self, identity: Identity, ref: str) -> ImageRecord:
        if not (ref.startswith(("busybox", "registry.example/a/b")) or ref in IMAGE_ID):
            raise NotFound(f"No such image: {ref}")
        return self.image

    async def facts(self, identity: Identity, ref: str) -> ImageFacts:
        await self.inspect(identity, ref)
        return ImageFacts("docker.io/library/busybox:latest", 10**18, 5, (), ("/bin/su",))

    async def history(self, identity: Identity, ref: str) -> list[ImageHistoryEntry]:
        await self.inspect(identity, ref)
        return [ImageHistoryEntry(IMAGE_ID, 10**18, "/bin/sh", 5, tags=("busybox:latest",))]

    async def pull(self, identity: Identity, reference: str, **options: Any) -> Any:
        self.calls.append(("pull", (reference, options)))
        if "missing" in reference:
            raise NotFound(f"pull access denied for {reference}")
        return self._pull(reference)

    async def _pull(self, reference: str) -> AsyncIterator[Progress]:
        yield Progress(status="Pulling from library/busybox", id="latest")
        yield Progress(status="Downloading", id="abc", current=5, total=10)
        if "broken" in reference:
            raise InvalidInput("layer abc has the wrong digest")
        yield Progress(status="Status: Downloaded newer image")

    async def push(self, identity: Identity, reference: str, **options: Any) -> Any:
        self.calls.append(("push", (reference, options)))
        return self._pull(reference)

    async def build(self, identity: Identity, asked: BuildSpec) -> NoReturn:
        self.calls.append(("build", (asked,)))
        raise InvalidInput("building images is not supported yet")

    async def tag(self, identity: Identity, ref: str, *, repo: str, tag: str) -> None:
        await self.inspect(identity, ref)
        self.calls.append(("tag", (ref, repo, tag)))

    async def remove(self, identity: Identity, ref: str, **options: Any) -> list[ImageDeletion]:
        await self.inspect(identity, ref)
        return [ImageDeletion(untagged="busybox:latest"), ImageDeletion(deleted=IMAGE_ID)]

    async def prune(self, identity: Identity, *, filters: Any) -> PruneReport:
        return PruneReport(images=(ImageDeletion(deleted=IMAGE_ID),), space_reclaimed=9)

    async def save(self, identity: Identity, refs: Sequence[str]) -> AsyncIterator[bytes]:
        for ref in refs:
            await self.inspect(identity, ref)
        return self.engine.blocks(self.engine.save_size)

    async def load(
        self, identity: Identity, body: AsyncIterator[bytes], *, platform: str = ""
    ) -> Any:
        self.platform = platform
        return self._load(body)

    async def _load(self, body: AsyncIterator[bytes]) -> AsyncIterator[Progress]:
        async for chunk in body:
            self.uploaded += len(chunk)
        yield Progress(stream=f"Loaded {self.uploaded}\n")

    async def import_(self, identity: Identity, body: AsyncIterator[bytes], **options: Any) -> Any:
        self.calls.append(("import", options))
        return self._load(body)

    async def search(
        self, identity: Identity, term: str, **options: Any
    ) -> list[dict[str, object]]:
        return [{"name": term, "description": "", "star_count": 1, "is_official": False}]


class FakeVolumes:
    def __init__(self) -> None:
        self.volumes: dict[str, VolumeRecord] = {}

    async def create(self, identity: Identity, **options: Any) -> VolumeRecord:
        name = options["name"] or new_id()
        labels = tuple(options["labels"].items())
        self.volumes[name] = VolumeRecord(name, f"/v/{name}/_data", 10**18, labels=labels)
        return self.volumes[name]

    async def list(self, identity: Identity, *, filters: Any) -> list[VolumeRecord]:
        return list(self.volumes.values())

    async def inspect(self, identity: Identity, name: str) -> VolumeRecord:
        if name not in self.volumes:
            raise NotFound(f"get {name}: no such volume")
        return self.volumes[name]

    async def remove(self, identity: Identity, name: str, *, force: bool = False) -> None:
        await self.inspect(identity, name)
        del self.volumes[name]

    async def prune(self, identity: Identity, *, filters: Any) -> PruneReport:
        deleted = tuple(self.volumes)
        self.volumes.clear()
        return PruneReport(deleted=deleted)


class FakeNetworks:
    """The predefined ones, and what was made."""

    def __init__(self) -> None:
        self.records = {record.name: record for record in predefined()}
        self.calls: list[Any] = []

    async def create(self, identity: Identity, wanted: NetworkCreation) -> tuple[str, str]:
        check_creation(wanted)
        subnets = tuple(Subnet(s.subnet, s.gateway) for s in wanted.subnets)
        made = NetworkRecord(new_id(), wanted.name, 10**18, subnets, labels=wanted.labels)
        self.records[wanted.name] = made
        self.calls.append(wanted)
        return made.id, ""

    async def list(self, identity: Identity, *, filters: Any) -> list[NetworkView]:
        drivers = filters.get("driver")
        return [NetworkView(r) for r in self.records.values() if not drivers or r.driver in drivers]

    async def inspect(self, identity: Identity, ref: str) -> NetworkView:
        for record in self.records.values():
            if record.name == ref or record.id.startswith(ref):
                place = Endpoint(record.id, record.name, "e" * 64, "eth0", "02:00:00:00:00:01")
                place = replace(place, ipv4_address="10.0.0.2", ipv4_prefix=24)
                return NetworkView(record, ((new_id(), "box", place),))
        raise NotFound(f"network {ref} not found")

    async def remove(self, identity: Identity, ref: str) -> None:
        record = (await self.inspect(identity, ref)).record
        if record.driver != "bridge":
            raise Denied(f"{record.name} is a pre-defined network and cannot be removed")
        del self.records[record.name]

    async def denied(self, identity: Identity, **asked: Any) -> list[Denial]:
        self.asked = asked
        where = ("tcp", "2001:db8::7", 443)
        return [Denial("c" * 64, "job", "front", "destination", *where, 3, 10**9, 2 * 10**9)]

    async def prune(self, identity: Identity, *, filters: Any) -> list[str]:
        return [name for name, record in self.records.items() if record.driver == "bridge"]

    async def connect(
        self, identity: Identity, ref: str, container: str, wanted: EndpointRequest
    ) -> None:
        self.calls.append((ref, container, wanted))

    async def disconnect(self, identity: Identity, ref: str, container: str) -> None:
        self.calls.append((ref, container))


class FakeSystem:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.crash = False
        self.past: list[Event] = []
        self.calls: list[Any] = []

    async def ping(self) -> Any:
        if self.crash:
            raise ZeroDivisionError("secret detail")
        return "OK"

    async def info(self, identity: Identity) -> SystemInfo:
        return SystemInfo(
            id="id", name="host", server_version="0.1", data_root="/d", exec_root="/r",
            storage_driver="overlay", containers=1, running=1, paused=0, stopped=0, images=1,
            kernel_version="6.1", operating_system="Debian", os_version="12", architecture="x86_64",
            cpus=2, memory_total=1 << 30, cgroup_version=2, cgroup_controllers=(),
            security_options=("name=seccomp,profile=builtin", "name=rootless"),
            warnings=("no controllers are delegated",),
        )  # fmt: skip

    async def version(self, identity: Identity) -> VersionInfo:
        return VersionInfo(
            "0.1",
            "linux",
            "amd64",
            "6.1",
            components=(("slirp4netns", "1.2.0", (("Path", "/x"),)),),
        )

    async def disk_usage(self, identity: Identity) -> DiskUsage:
        views = tuple(ContainerView(r, size_rw=5) for r in self.engine.containers.records.values())
        volume = VolumeRecord("v", "/v", 10**18, size=3, references=1)
        return DiskUsage(100, (self.engine.images.image,), views, (volume,))

    async def events(self, identity: Identity, **options: Any) -> AsyncIterator[Event]:
        self.calls.append(options)
        return self._events(options["until_ns"])

    async def _events(self, until_ns: int) -> AsyncIterator[Event]:
        try:
            for event in self.past:
                yield event
            if not until_ns:
                self.engine.registered.set()
                await asyncio.get_running_loop().create_future()
        finally:
            self.engine.released.set()

    async def can(
        self, identity: Identity, verb: str, target: str = "", *, asked: str = ""
    ) -> tuple[Identity, Decision]:
        return identity, Decision(True, "default")

    async def renew(self, identity: Identity, request: str) -> Renewed:
        return Renewed(request, identity.uri or "", "1", "2030-12-31T00:00:00Z")

    async def auth(self, identity: Identity, auth: RegistryAuth) -> tuple[str, str]:
        return "Login Succeeded", ""


class FakeEngine:
    """All nouns; ``registered`` and ``released`` tell tests where a stream is."""

    def __init__(self) -> None:
        self.registered = asyncio.Event()
        self.released = asyncio.Event()
        self.save_size = 4 << 20
        self.containers = FakeContainers(self)
        self.execs = FakeExecs(self)
        self.images = FakeImages(self)
        self.volumes = FakeVolumes()
        self.networks = FakeNetworks()
        self.system = FakeSystem(self)

    async def blocks(self, size: int) -> AsyncIterator[bytes]:
        """``size`` bytes in big pieces."""
        block = bytes(range(256)) * (CHUNK // 256)
        while size:
            piece = block[:size]
            size -= len(piece)
            yield piece

    async def broken(self) -> AsyncIterator[bytes]:
        """A stream that fails on the way."""
        yield b"x" * 100
        raise Conflict("the container went away")
