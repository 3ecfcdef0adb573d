"""What the engine knows about its objects, as the facade returns it.

Times are Unix nanoseconds, 0 when they have not happened; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rootless.model.decision import Decision
from rootless.model.identity import Identity
from rootless.model.network import Endpoint, NetworkRecord
from rootless.model.pools import AddressPool
from rootless.model.request import ContainerConfig, ExecRequest, PortBinding
from rootless.model.spec import ContainerSpec

ContainerStatus = Literal[
    "created", "running", "paused", "restarting", "exited", "dead", "removing"
]
WaitCondition = Literal["not-running", "next-exit", "removed"]


@dataclass(frozen=True, slots=True)
class HealthProbe:
    """One run of a healthcheck; ``output`` holds at most 4096 characters."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class Health:
    """``log`` holds the last five probes, oldest first."""

    status: Literal["starting", "healthy", "unhealthy"] = "starting"
    failing_streak: int = 0
    log: tuple[HealthProbe, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The part of a container that changes while it lives."""

    status: ContainerStatus = "created"
    pid: int = 0
    """Init's pid in the daemon's pid namespace; 0 when not running."""
    shim_pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_ns: int = 0
    finished_ns: int = 0
    oom_killed: bool = False
    restart_count: int = 0
    stopped_by_user: bool = False
    """Asked to stop: ``unless-stopped`` does not start it again with the daemon."""
    health: Health | None = None
    ends_ns: int = 0
    """When its time is up and it is stopped; 0 for never."""
    denied_calls: tuple[tuple[str, int], ...] = ()
    """System calls that the filter denied and how often (``seccomp-log``)."""

    @property
    def running(self) -> bool:
        """A process of it exists (a paused one counts, as in Docker)."""
        return self.status in ("running", "paused")


@dataclass(frozen=True, slots=True)
class NetworkState:
    """The live network of a running container; empty when it does not run."""

    ip_address: str = ""
    ip_prefix_length: int = 0
    gateway: str = ""
    ipv6_address: str = ""
    ipv6_prefix_length: int = 0
    ipv6_gateway: str = ""
    mac_address: str = ""
    ports: tuple[PortBinding, ...] = ()
    """Published ports with the address and port that were really bound."""
    driver_state: str = ""
    """What the network needs to find its helper again after a restart of the daemon; JSON."""
    endpoints: tuple[Endpoint, ...] = ()
    """On bridge networks; the fields above are of the container's own slirp4netns."""

    def own_endpoint(self, network_id: str, network: str, endpoint_id: str) -> Endpoint:
        """The place on the container's own slirp4netns, in the form of those on bridges."""
        return Endpoint(
            network_id=network_id,
            network=network,
            id=endpoint_id,
            interface="tap0",
            mac_address=self.mac_address,
            ipv4_address=self.ip_address,
            ipv4_prefix=self.ip_prefix_length,
            ipv4_gateway=self.gateway,
            ipv6_address=self.ipv6_address,
            ipv6_prefix=self.ipv6_prefix_length,
            ipv6_gateway=self.ipv6_gateway,
        )


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """One container. ``config`` is the request's config after the image's was merged in."""

    spec: ContainerSpec
    config: ContainerConfig
    identity: Identity
    """Who created it."""
    decision: Decision
    state: ContainerState = ContainerState()
    network: NetworkState = NetworkState()
    directory: str = ""
    """``containers/<id>`` below the data root, absolute."""
    log_path: str = ""
    image_digest: str = ""
    anonymous_volumes: tuple[str, ...] = ()
    """Volumes made for this container; removed with it by ``rm -v`` and ``--rm``."""

    @property
    def id(self) -> str:
        """The full id, 64 hex digits."""
        return self.spec.id

    @property
    def name(self) -> str:
        """The name without a leading slash."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A record as ``list`` and ``inspect`` show it; sizes are ``None`` unless asked for."""

    record: ContainerRecord
    size_rw: int | None = None
    size_root_fs: int | None = None
    exec_ids: tuple[str, ...] = ()
    image_renamed: bool = False
    """The name that the image had at the create means another one by now, or none."""
    memo: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    """Of the container, as long as it lives: what was made of its record before."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network and who is on it: (container's id, its name, its endpoint)."""

    record: NetworkRecord
    containers: tuple[tuple[str, str, Endpoint], ...] = ()


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The answer of a dry run: nothing was made, the decision and what would be done."""

    spec: ContainerSpec
    decision: Decision
    warnings: tuple[str, ...]
    steps: tuple[tuple[str, str], ...]
    """(step, description) in the order of execution; empty when denied."""


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How a container ended; ``error`` is set when waiting itself failed."""

    exit_code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """``docker top``: column titles and one row per process."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs from the image. ``kind``: 0 modified, 1 added, 2 deleted."""

    path: str
    kind: Literal[0, 1, 2]


@dataclass(frozen=True, slots=True)
class PathStat:
    """A path in a container. ``mode`` is st_mode as in inode(7), not Go's encoding."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line (or part of one) a container wrote; ``data`` keeps its newline.

    ``attrs`` are the labels, variables and the tag that log options name.
    """

    stream: Literal["stdout", "stderr"]
    time_ns: int
    data: bytes
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CpuSample:
    """CPU time used by the container and by the whole host at one moment."""

    total_ns: int = 0
    user_ns: int = 0
    kernel_ns: int = 0
    system_ns: int = 0
    online_cpus: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True)
class NetworkSample:
    """Counters of one interface inside the container."""

    interface: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """One sample. Without a cgroup of its own, sums over the container's processes.

    ``previous`` and ``previous_ns`` are the sample before; zero in a one-shot.
    """

    id: str
    name: str
    read_ns: int
    cpu: CpuSample = CpuSample()
    previous_ns: int = 0
    previous: CpuSample = CpuSample()
    pids: int = 0
    pids_limit: int = 0
    """0 for unlimited."""
    memory_usage: int = 0
    memory_limit: int = 0
    memory: tuple[tuple[str, int], ...] = ()
    """memory.stat of cgroup v2 (anon, file, inactive_file, …)."""
    blkio_read: int = 0
    blkio_write: int = 0
    networks: tuple[NetworkSample, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecRecord:
    """One exec. ``exit_code`` is ``None`` until it ended."""

    id: str
    container_id: str
    request: ExecRequest
    created_ns: int
    running: bool = False
    pid: int = 0
    exit_code: int | None = None
    started_ns: int = 0
    finished_ns: int = 0


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image. ``id`` is the digest of its configuration, ``sha256:…``."""

    id: str
    created_ns: int
    architecture: str
    os: str
    config: ContainerConfig
    diff_ids: tuple[str, ...]
    size: int
    """Bytes of its unpacked layers."""
    repo_tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    manifest_digest: str = ""
    manifest_type: str = ""
    manifest_size: int = 0
    content_size: int = 0
    """Bytes of its blobs: manifest, configuration and packed layers."""
    variant: str = ""
    parent: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    last_tagged_ns: int = 0
    containers: int = -1
    """Containers made from it; -1 when not counted."""
    shared_size: int = -1
    """Bytes of its layers that other images have as well; -1 when not counted."""
    used_by: tuple[str, ...] = ()
    """Ids of the containers made from it."""


@dataclass(frozen=True, slots=True)
class ImageHistoryEntry:
    """One line of ``history``, newest first in a listing."""

    id: str
    """The image's id for the newest entry, ``<missing>`` for the others."""
    created_ns: int
    created_by: str
    size: int
    comment: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageDeletion:
    """One line of what ``rmi`` did; exactly one field is set."""

    untagged: str = ""
    deleted: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """One message of a pull, push, load or import, in the shape of Docker's JSON stream.

    ``stream`` is a line to print as it is; ``aux`` a key and value such as the
    digest; ``error`` ends the stream.
    """

    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    stream: str = ""
    aux: tuple[tuple[str, str], ...] = ()
    error: str = ""
    error_code: int = 0


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials a client sent for one registry (``X-Registry-Auth``)."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server_address: str = ""


@dataclass(frozen=True, slots=True)
class DistributionInfo:
    """What a registry has under a name; ``platforms`` as (os, architecture, variant or '')."""

    media_type: str
    digest: str
    size: int
    platforms: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """One volume. ``mountpoint`` is its absolute ``_data`` path on the host."""

    name: str
    mountpoint: str
    created_ns: int
    driver: str = "local"
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False
    size: int | None = None
    references: int | None = None
    """Containers that use it; ``None`` when not counted."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune removed: ids or names, image lines, and the bytes won back."""

    deleted: tuple[str, ...] = ()
    images: tuple[ImageDeletion, ...] = ()
    space_reclaimed: int = 0


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """``system df``. ``layers_size`` counts shared layers once."""

    layers_size: int
    images: tuple[ImageRecord, ...]
    containers: tuple[ContainerView, ...]
    volumes: tuple[VolumeRecord, ...]


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """``info``: the engine and what the host can do."""

    id: str
    name: str
    server_version: str
    data_root: str
    exec_root: str
    storage_driver: str
    containers: int
    running: int
    paused: int
    stopped: int
    images: int
    kernel_version: str
    operating_system: str
    os_version: str
    architecture: str
    cpus: int
    memory_total: int
    cgroup_version: int
    cgroup_controllers: tuple[str, ...]
    security_options: tuple[str, ...]
    """As Docker's: ``name=seccomp,profile=builtin``, ``name=rootless`` …"""
    default_runtime: str = "rootless"
    logging_driver: str = "json-file"
    debug: bool = False
    labels: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    init_binary: str = ""
    policy: str = ""
    """Name and digest of the policy in force."""
    warnings: tuple[str, ...] = ()
    """What this host lacks and what that costs, one sentence each."""
    driver_status: tuple[tuple[str, str], ...] = ()
    events_listeners: int = 0
    descriptors: int = 0
    """Open ones of the daemon."""
    tasks: int = 0
    """Things the daemon does at once: threads, and tasks of its event loop."""
    experimental: bool = False
    live_restore: bool = True
    address_pools: tuple[AddressPool, ...] = ()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """``version``; components are (name, version, details)."""

    version: str
    os: str
    architecture: str
    kernel_version: str
    git_commit: str = ""
    build_time: str = ""
    components: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = ()
