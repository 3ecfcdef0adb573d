"""``HostConfig`` and ``Resources``: what the sandbox is."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

from typing import Annotated

from rootless.api.dto.binds import parse_bind, parse_tmpfs
from rootless.api.dto.decode import Body
from rootless.api.dto.mounts import Mount, from_mount, to_mount
from rootless.api.dto.ports import HostPort, port_map, to_bindings
from rootless.api.fields import limited, refused
from rootless.errors import InvalidInput
from rootless.model.request import (
    DeviceRequest,
    HostConfig,
    LogConfig,
    MountRequest,
    Resources,
    RestartPolicy,
    RlimitRequest,
)


class Restart(Body, frozen=True):
    """A restart policy."""

    name: str = ""
    maximum_retry_count: int = 0


class Logging(Body, frozen=True):
    """A log driver."""

    type: str = ""
    config: dict[str, str] = {}


class Ulimit(Body, frozen=True):
    """One resource limit."""

    name: str = ""
    soft: int = 0
    hard: int = 0


class Device(Body, frozen=True):
    """One device."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class WeightDevice(Body, frozen=True):
    """A device's share of disk time."""

    path: str = ""
    weight: int = 0


class ThrottleDevice(Body, frozen=True):
    """A device's rate limit."""

    path: str = ""
    rate: int = 0


# A limit that cannot be kept is refused, never taken and forgotten.
_WINDOWS = refused("only Windows has it")
_REAL_TIME = refused("real-time scheduling needs cgroup v1")
_AT_CREATION = refused("it is decided when the container is created")


class Limits(Body, frozen=True):
    """The API's ``Resources``, part of a host config and the body of ``update``."""

    cpu_shares: int = 0
    memory: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] = []
    blkio_device_read_bps: list[ThrottleDevice] = []
    blkio_device_write_bps: list[ThrottleDevice] = []
    blkio_device_read_i_ops: list[ThrottleDevice] = []
    blkio_device_write_i_ops: list[ThrottleDevice] = []
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: Annotated[int, _REAL_TIME] = 0
    cpu_realtime_runtime: Annotated[int, _REAL_TIME] = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[Device] = []
    device_cgroup_rules: Annotated[list[str], refused("device cgroup rules need real root")] = []
    device_requests: Annotated[
        list[dict[str, object]], refused("device requests (GPUs) are not supported")
    ] = []
    kernel_memory: Annotated[int, refused("kernel memory limits left Linux with 5.4")] = 0
    kernel_memory_tcp: Annotated[int, refused("kernel memory limits need cgroup v1")] = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: Annotated[
        int | None, limited("-1: cgroup v2 has no such setting for one cgroup")
    ] = None
    nano_cpus: int = 0
    oom_kill_disable: Annotated[bool, refused("cgroup v2 always ends a process over its limit")] = (
        False
    )
    init: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] = []
    cpu_count: Annotated[int, _WINDOWS] = 0
    cpu_percent: Annotated[int, _WINDOWS] = 0
    io_maximum_i_ops: Annotated[int, _WINDOWS] = 0
    io_maximum_bandwidth: Annotated[int, _WINDOWS] = 0


class UpdateBody(Limits, frozen=True):
    """The body of ``update``: limits of cgroups, and when to restart."""

    cgroup_parent: Annotated[str, _AT_CREATION] = ""
    devices: Annotated[list[Device], _AT_CREATION] = []
    ulimits: Annotated[list[Ulimit], _AT_CREATION] = []
    init: Annotated[bool | None, _AT_CREATION] = None
    restart_policy: Restart | None = None


class Host(Limits, frozen=True):
    """The fields of ``HostConfig``."""

    binds: list[str] = []
    container_id_file: Annotated[
        str, limited("shown by inspect; it is the client that writes the file")
    ] = ""
    log_config: Logging = Logging()
    network_mode: Annotated[
        str,
        limited(
            "bridge (also as default), slirp4netns, none, host, container:NAME, a network's name"
        ),
    ] = ""
    port_bindings: dict[str, list[HostPort]] = {}
    restart_policy: Restart = Restart()
    auto_remove: bool = False
    volume_driver: Annotated[str, limited("local")] = ""
    volumes_from: list[str] = []
    mounts: list[Mount] = []
    console_size: list[int] = []
    annotations: dict[str, str] = {}
    cap_add: list[str] = []
    cap_drop: list[str] = []
    cgroupns_mode: str = ""
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] = []
    group_add: list[str] = []
    ipc_mode: str = ""
    cgroup: Annotated[str, refused("a container has a cgroup of its own")] = ""
    links: list[str] = []
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: Annotated[
        bool, limited("all capabilities of the container's own namespace; no host devices")
    ] = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: Annotated[
        list[str], limited("see the command line's --security-opt; no AppArmor profiles")
    ] = []
    storage_opt: Annotated[dict[str, str], limited("size")] = {}
    tmpfs: dict[str, str] = {}
    uts_mode: str = ""
    userns_mode: Annotated[
        str, limited("shared, auto, auto:size=N; host would make container root you")
    ] = ""
    shm_size: int = 0
    sysctls: dict[str, str] = {}
    runtime: Annotated[
        str,
        limited("the names of this engine's own runtime: rootless, runc, io.containerd.runc.v2"),
    ] = ""
    isolation: Annotated[str, limited("default: the others are for Windows")] = ""
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    # Not Docker's:
    storage_driver: Annotated[str, limited("not Docker's: the driver for this container")] = ""
    time_namespace: Annotated[bool, limited("not Docker's: a time namespace of its own")] = False
    timeout: Annotated[int, limited("not Docker's: seconds until it is stopped")] = 0


def _rates(devices: list[ThrottleDevice]) -> tuple[tuple[str, int], ...]:
    return tuple((device.path, device.rate) for device in devices)


def to_resources(body: Limits) -> Resources:
    """The model's form of the limits."""
    return Resources(
        memory=body.memory,
        memory_swap=body.memory_swap,
        memory_reservation=body.memory_reservation,
        # The CLI sends -1 for "not given".
        memory_swappiness=None if body.memory_swappiness == -1 else body.memory_swappiness,
        oom_kill_disable=body.oom_kill_disable,
        nano_cpus=body.nano_cpus,
        cpu_shares=body.cpu_shares,
        cpu_period=body.cpu_period,
        cpu_quota=body.cpu_quota,
        cpuset_cpus=body.cpuset_cpus,
        cpuset_mems=body.cpuset_mems,
        # Docker's CLI sends 0 for "not given", which unlimited is too.
        pids_limit=body.pids_limit or None,
        blkio_weight=body.blkio_weight,
        blkio_weight_device=tuple((d.path, d.weight) for d in body.blkio_weight_device),
        blkio_read_bps=_rates(body.blkio_device_read_bps),
        blkio_write_bps=_rates(body.blkio_device_write_bps),
        blkio_read_iops=_rates(body.blkio_device_read_i_ops),
        blkio_write_iops=_rates(body.blkio_device_write_i_ops),
    )


def to_restart(body: Restart) -> RestartPolicy:
    """The restart policy; '' is Docker's way to say no, with any count."""
    if not body.name:
        return RestartPolicy("no")
    return RestartPolicy(body.name, body.maximum_retry_count)


def _device(body: Device) -> DeviceRequest:
    permissions = body.cgroup_permissions or "rwm"
    if set(permissions) - set("rwm"):
        raise InvalidInput(
            f"invalid device permissions {permissions!r} for {body.path_on_host}",
            hint="any of r, w and m",
        )
    return DeviceRequest(
        body.path_on_host, body.path_in_container or body.path_on_host, permissions
    )


def _mounts(body: Host) -> tuple[MountRequest, ...]:
    """Binds, Mounts and Tmpfs in one list; two on one target is an error, as in Docker."""
    mounts = [parse_bind(text) for text in body.binds]
    mounts += [to_mount(mount) for mount in body.mounts]
    mounts += [parse_tmpfs(target, options) for target, options in body.tmpfs.items()]
    seen = set()
    for mount in mounts:
        if mount.target in seen:
            raise InvalidInput(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)
    return tuple(mounts)


def _console_size(size: list[int]) -> tuple[int, int]:
    return (size[0], size[1]) if len(size) == 2 else (0, 0)


def to_host_config(body: Host) -> HostConfig:
    """The model's form."""
    if body.shm_size < 0:
        raise InvalidInput("SHM size can not be less than 0")
    if body.isolation not in ("", "default"):
        raise InvalidInput(f"invalid isolation {body.isolation[:80]!r} on linux", hint="default")
    if body.volume_driver not in ("", "local"):
        raise InvalidInput(
            f"Error looking up volume plugin {body.volume_driver[:80]}: "
            f'plugin "{body.volume_driver[:80]}" not found',
            hint="only the local driver exists",
        )
    return HostConfig(
        mounts=_mounts(body),
        binds_raw=tuple(body.binds),
        tmpfs_raw=tuple(body.tmpfs.items()),
        volumes_from=tuple(body.volumes_from),
        network_mode=body.network_mode,
        port_bindings=to_bindings(body.port_bindings),
        publish_all_ports=body.publish_all_ports,
        restart_policy=to_restart(body.restart_policy),
        auto_remove=body.auto_remove,
        log_config=LogConfig(body.log_config.type, tuple(body.log_config.config.items())),
        cap_add=tuple(body.cap_add),
        cap_drop=tuple(body.cap_drop),
        privileged=body.privileged,
        security_opt=tuple(body.security_opt),
        read_only_rootfs=body.readonly_rootfs,
        dns=tuple(body.dns),
        dns_options=tuple(body.dns_options),
        dns_search=tuple(body.dns_search),
        extra_hosts=tuple(body.extra_hosts),
        group_add=tuple(body.group_add),
        ipc_mode=body.ipc_mode,
        pid_mode=body.pid_mode,
        uts_mode=body.uts_mode,
        userns_mode=body.userns_mode,
        cgroupns_mode=body.cgroupns_mode,
        cgroup_parent=body.cgroup_parent,
        time_namespace=body.time_namespace,
        timeout=body.timeout,
        links=tuple(body.links),
        oom_score_adj=body.oom_score_adj,
        shm_size=body.shm_size,
        sysctls=tuple(body.sysctls.items()),
        ulimits=tuple(RlimitRequest(u.name, u.soft, u.hard) for u in body.ulimits),
        devices=tuple(_device(device) for device in body.devices),
        storage_opt=tuple(body.storage_opt.items()),
        storage_driver=body.storage_driver,
        init=body.init,
        runtime=body.runtime,
        isolation=body.isolation,
        masked_paths=None if body.masked_paths is None else tuple(body.masked_paths),
        readonly_paths=None if body.readonly_paths is None else tuple(body.readonly_paths),
        resources=to_resources(body),
        annotations=tuple(body.annotations.items()),
        container_id_file=body.container_id_file,
        console_size=_console_size(body.console_size),
    )


def _throttles(devices: tuple[tuple[str, int], ...]) -> list[dict[str, object]]:
    return [{"Path": path, "Rate": rate} for path, rate in devices]


def from_resources(limits: Resources) -> dict[str, object]:
    """The limits as inspect shows them."""
    return {
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory,
        "NanoCpus": limits.nano_cpus,
        "BlkioWeight": limits.blkio_weight,
        "BlkioWeightDevice": [
            {"Path": path, "Weight": weight} for path, weight in limits.blkio_weight_device
        ],
        "BlkioDeviceReadBps": _throttles(limits.blkio_read_bps),
        "BlkioDeviceWriteBps": _throttles(limits.blkio_write_bps),
        "BlkioDeviceReadIOps": _throttles(limits.blkio_read_iops),
        "BlkioDeviceWriteIOps": _throttles(limits.blkio_write_iops),
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": limits.memory_swap,
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable or None,
        "PidsLimit": limits.pids_limit,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def from_host_config(host: HostConfig) -> dict[str, object]:
    """``HostConfig`` of an inspect; null and empty as Docker gives them."""
    structured = _structured_mounts(host)
    return {
        "Binds": list(host.binds_raw) or None,
        "ContainerIDFile": host.container_id_file,
        "LogConfig": {"Type": host.log_config.type, "Config": dict(host.log_config.config)},
        "NetworkMode": host.network_mode,
        "PortBindings": port_map(host.port_bindings),
        "RestartPolicy": {
            "Name": host.restart_policy.name,
            "MaximumRetryCount": host.restart_policy.maximum_retry_count,
        },
        "AutoRemove": host.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list(host.volumes_from) or None,
        "ConsoleSize": list(host.console_size),
        **({"Annotations": dict(host.annotations)} if host.annotations else {}),
        "CapAdd": list(host.cap_add) or None,
        "CapDrop": list(host.cap_drop) or None,
        "CgroupnsMode": host.cgroupns_mode or "private",
        "Dns": list(host.dns),
        "DnsOptions": list(host.dns_options),
        "DnsSearch": list(host.dns_search),
        "ExtraHosts": list(host.extra_hosts) or None,
        "GroupAdd": list(host.group_add) or None,
        "IpcMode": host.ipc_mode or "private",
        "Cgroup": "",
        "CgroupParent": host.cgroup_parent,
        "Links": list(host.links) or None,
        "OomScoreAdj": host.oom_score_adj,
        "PidMode": host.pid_mode,
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all_ports,
        "ReadonlyRootfs": host.read_only_rootfs,
        "SecurityOpt": list(host.security_opt) or None,
        **({"StorageOpt": dict(host.storage_opt)} if host.storage_opt else {}),
        **({"Tmpfs": dict(host.tmpfs_raw)} if host.tmpfs_raw else {}),
        "UTSMode": host.uts_mode,
        "UsernsMode": host.userns_mode,
        "ShmSize": host.shm_size,
        **({"Sysctls": dict(host.sysctls)} if host.sysctls else {}),
        "Runtime": host.runtime,
        "Isolation": host.isolation,
        **from_resources(host.resources),
        "Devices": [
            {
                "PathOnHost": device.path_on_host,
                "PathInContainer": device.path_in_container,
                "CgroupPermissions": device.permissions,
            }
            for device in host.devices
        ],
        "Ulimits": [
            {"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft} for limit in host.ulimits
        ],
        **({"Mounts": structured} if structured else {}),
        **({"Init": host.init} if host.init is not None else {}),
        "MaskedPaths": None if host.masked_paths is None else list(host.masked_paths),
        "ReadonlyPaths": None if host.readonly_paths is None else list(host.readonly_paths),
    }


def _structured_mounts(host: HostConfig) -> list[dict[str, object]]:
    """``Mounts``; what came from Binds and Tmpfs is shown there."""
    elsewhere = {parse_bind(text).target for text in host.binds_raw}
    elsewhere |= {parse_tmpfs(target, options).target for target, options in host.tmpfs_raw}
    return [from_mount(mount) for mount in host.mounts if mount.target not in elsewhere]
