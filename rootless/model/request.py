"""What a client asks for, before defaults and before the policy.

Field for field Docker's create body, in snake case, with the names and units
of the Engine API. ``None`` (or an empty tuple) means the client did not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MountType = Literal["bind", "volume", "tmpfs", "image"]
Propagation = Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"]


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """``test`` is Docker's form (NONE / CMD … / CMD-SHELL …); times in nanoseconds."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


@dataclass(frozen=True, slots=True)
class PortBinding:
    """One published port. ``host_port`` 0 asks for a free one; ``host_ip`` '' for the default."""

    container_port: int
    protocol: Literal["tcp", "udp", "sctp"]
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0
    """Last port of a range to choose from; 0 when there is no range."""


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One of ``Mounts`` or ``Binds`` or ``Tmpfs`` or an image's ``Volumes``."""

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    propagation: Propagation | None = None
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    create_source: bool = False
    """True for ``-v``: a missing bind source is made (Docker does) instead of refused."""
    no_copy: bool = False
    subpath: str = ""
    volume_labels: tuple[tuple[str, str], ...] = ()
    volume_driver: str = ""
    volume_options: tuple[tuple[str, str], ...] = ()
    tmpfs_size: int = 0
    tmpfs_mode: int | None = None
    tmpfs_options: tuple[str, ...] = ()
    relabel: Literal["", "z", "Z"] = ""


@dataclass(frozen=True, slots=True)
class RlimitRequest:
    """One ``--ulimit``; values in the unit of setrlimit(2), -1 for unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One ``--device``."""

    path_on_host: str
    path_in_container: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits as in the API's ``Resources``; bytes, microseconds, nano-CPUs. 0 means not asked."""

    memory: int = 0
    memory_swap: int = 0
    """memory plus swap in bytes; -1 unlimited swap."""
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    """None not asked; 0 or -1 unlimited."""
    blkio_weight: int = 0
    blkio_weight_device: tuple[tuple[str, int], ...] = ()
    blkio_read_bps: tuple[tuple[str, int], ...] = ()
    blkio_write_bps: tuple[tuple[str, int], ...] = ()
    blkio_read_iops: tuple[tuple[str, int], ...] = ()
    blkio_write_iops: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """``name`` is '', no, always, unless-stopped or on-failure."""

    name: str = "no"
    maximum_retry_count: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """A log driver and its options."""

    type: str = ""
    config: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """Settings of one network attachment."""

    network: str
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    mac_address: str = ""
    driver_opts: tuple[tuple[str, str], ...] = ()
    gateway_priority: int = 0


@dataclass(frozen=True, slots=True)
class SubnetRequest:
    """One of ``IPAM.Config`` of a network; ``reserved`` are (name, address)."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    reserved: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkCreation:
    """One request for a network. None asks for the default."""

    name: str
    driver: str = "bridge"
    subnets: tuple[SubnetRequest, ...] = ()
    ipam_driver: str = ""
    ipam_options: tuple[tuple[str, str], ...] = ()
    ipv4: bool | None = None
    ipv6: bool | None = None
    internal: bool = False
    attachable: bool = False
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """The API's ``ContainerConfig``: what the process is. Also an image's ``config``.

    In a request, ``None`` for ``cmd``/``entrypoint`` takes the image's value and
    an empty tuple clears it.
    """

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: tuple[str, ...] = ()
    """As ``80/tcp``."""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    network_disabled: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    stop_timeout: int | None = None
    """Seconds; -1 waits for ever."""
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The API's ``HostConfig``: what the sandbox is."""

    mounts: tuple[MountRequest, ...] = ()
    """Binds, Mounts and Tmpfs, normalised to one list by the dto."""
    binds_raw: tuple[str, ...] = ()
    tmpfs_raw: tuple[tuple[str, str], ...] = ()
    """``Tmpfs`` as it came: target and options."""
    """``Binds`` as the client wrote them, for inspect."""
    volumes_from: tuple[str, ...] = ()
    network_mode: str = ""
    port_bindings: tuple[PortBinding, ...] = ()
    publish_all_ports: bool = False
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    log_config: LogConfig = LogConfig()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    security_opt: tuple[str, ...] = ()
    read_only_rootfs: bool = False
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    ipc_mode: str = ""
    pid_mode: str = ""
    uts_mode: str = ""
    userns_mode: str = ""
    """'' or shared, auto, auto:size=N."""
    cgroupns_mode: str = ""
    cgroup_parent: str = ""
    time_namespace: bool = False
    """Not Docker's: a time namespace of its own (time_namespaces(7))."""
    timeout: int = 0
    """Not Docker's: seconds after which it is stopped; 0 for never."""
    links: tuple[str, ...] = ()
    oom_score_adj: int = 0
    shm_size: int = 0
    sysctls: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[RlimitRequest, ...] = ()
    devices: tuple[DeviceRequest, ...] = ()
    storage_opt: tuple[tuple[str, str], ...] = ()
    storage_driver: str = ""
    """Not Docker's: graph driver for this container; '' is the daemon's choice."""
    init: bool | None = None
    runtime: str = ""
    isolation: str = ""
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    resources: Resources = Resources()
    annotations: tuple[tuple[str, str], ...] = ()
    container_id_file: str = ""
    console_size: tuple[int, int] = (0, 0)
    """Height, width."""


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """One create request. ``platform`` is '' or ``os/arch[/variant]``."""

    name: str = ""
    platform: str = ""
    config: ContainerConfig = ContainerConfig()
    host: HostConfig = HostConfig()
    endpoints: tuple[EndpointRequest, ...] = ()
    warnings: tuple[str, ...] = ()
    """What of the request has no effect, as sentences for the client."""
    default_egress: tuple[str, ...] | None = None
    """The policy's list for a container that has a way out without one."""


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """One exec create request; the API's ``ExecConfig``."""

    cmd: tuple[str, ...]
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    privileged: bool = False
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    console_size: tuple[int, int] = (0, 0)
