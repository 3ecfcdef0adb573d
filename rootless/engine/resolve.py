"""A request becomes a spec: everything the policy will decide on and the planner will execute.

Nothing is made here and no default is applied after it: ``resolve`` is a
function of the request, the image, the settings, the host's facts and what
other containers are (``lookup``).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from rootless import ids
from rootless.engine import (
    links,
    resolve_egress,
    resolve_labels,
    resolve_limits,
    resolve_mounts,
    resolve_network,
    resolve_security,
)
from rootless.engine.logdrivers import check_log
from rootless.engine.logoptions import merge
from rootless.engine.resolve_attachments import (
    Networks,
    final_mode,
    find_attachments,
    is_bridge,
)
from rootless.engine.resolve_labels import SelinuxHost
from rootless.engine.resolve_mounts import MountedImage, VolumeUse
from rootless.engine.resolve_network import Lookup
from rootless.engine.resolve_process import (
    check_health,
    check_hostname,
    merge_config,
    parse_signal,
    resolve_process,
    resolve_ulimits,
)
from rootless.engine.restart import check_policy
from rootless.engine.settings import EngineSettings
from rootless.errors import HostUnsupported, InvalidInput
from rootless.model.facts import HostFacts
from rootless.model.mounts import MountSpec, RootfsMount
from rootless.model.network import BRIDGE, Attachment
from rootless.model.records import ImageRecord
from rootless.model.request import ContainerConfig, ContainerRequest, HostConfig
from rootless.model.spec import (
    ContainerSpec,
    ImageSpec,
    NamespacesSpec,
    SelinuxSpec,
    UsernsSpec,
)
from rootless.resources import resource_path
from rootless.storage.volumes import Volume

_RUNTIMES = ("", "rootless", "runc", "io.containerd.runc.v2")


@dataclass(frozen=True, slots=True)
class World:
    """What exists around the new container."""

    settings: EngineSettings
    facts: HostFacts
    lookup: Lookup
    networks: Networks
    volume_path: Callable[[str], Path]
    known_volumes: Mapping[str, Volume]
    images: Mapping[str, MountedImage] = field(default_factory=dict)
    """Those that the request mounts, by the name it gives them."""
    selinux: SelinuxHost | None = None
    """None where SELinux does not run."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What was chosen for the new container before its spec is made."""

    id: str
    name: str
    created_ns: int
    userns: UsernsSpec
    rootfs: RootfsMount
    categories: str = ""
    """The pair of SELinux categories that is its own, where SELinux runs."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The spec, and what must be made once it is admitted."""

    spec: ContainerSpec
    config: ContainerConfig
    volumes: tuple[VolumeUse, ...]
    missing_sources: tuple[str, ...]
    warnings: tuple[str, ...]


@cache
def default_seccomp_profile(path: str) -> str:
    """The JSON text of the default profile; ``path`` '' is the built-in one."""
    file = Path(path) if path else resource_path("profiles", "seccomp/default.json")
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"cannot read the default seccomp profile {file}: {error.strerror}",
            hint="correct seccomp-profile in daemon.json",
        ) from error


def resolve(
    request: ContainerRequest, image: ImageRecord, allocation: Allocation, world: World
) -> Resolved:
    """The final spec; raises InvalidInput, NotFound, Conflict or HostUnsupported."""
    settings, facts = world.settings, world.facts
    request = with_defaults(request, settings)
    host = request.host
    config = merge_config(request.config, image.config)
    _check(request, config)
    mode = resolve_network.network_mode(host, config, settings, world.lookup)
    if mode.startswith("container:"):
        resolve_network.check_joining(request)
    resolve_network.check_endpoints(request.endpoints, host, settings)
    attachments: tuple[Attachment, ...] = ()
    if mode == BRIDGE or request.endpoints:
        attachments = find_attachments(
            host, request.endpoints, settings, world.networks, world.lookup
        )
        mode = final_mode(mode, host, request.endpoints, attachments)
    if not attachments:
        links.refuse(host.links, mode, world.lookup)
    resolve_network.check_network_host(mode, facts)
    namespaces = resolve_network.resolve_namespaces(host, mode, world.lookup)
    hostname = _hostname(config, allocation.id, mode, namespaces.uts, world.lookup)
    options = resolve_security.parse_security_opt(host.security_opt)
    labels = _labels(options.labels, host, namespaces, allocation, world)
    masked, readonly = resolve_security.resolve_paths(host, options)
    if labels.nested:
        masked = tuple(path for path in masked if path != resolve_labels.SELINUXFS)
    privileges = resolve_security.resolve_privileges(
        host, options, no_new_privileges=settings.no_new_privileges
    )
    mounts = resolve_mounts.resolve_mounts(
        host.mounts,
        _inherited(host.volumes_from, world.lookup, labels),
        config.volumes,
        volume_path=world.volume_path,
        known_volumes=world.known_volumes,
        images=world.images,
    )
    spec = ContainerSpec(
        id=allocation.id,
        name=allocation.name,
        created_ns=allocation.created_ns,
        image=ImageSpec(image.id, request.config.image or image.id, image.diff_ids),
        process=resolve_process(config, host, hostname=hostname, init=_init(host, settings, facts)),
        hostname=hostname,
        domainname=check_hostname(config.domainname, what="domainname"),
        userns=allocation.userns,
        rootfs=replace(
            resolve_labels.label_rootfs(allocation.rootfs, labels),
            nosuid=privileges.no_new_privileges,
        ),
        mounts=resolve_labels.label_mounts(
            mounts.mounts,
            {resolve_mounts.clean_target(m.target): m.relabel for m in host.mounts if m.relabel},
            labels,
        ),
        masked_paths=masked,
        readonly_paths=readonly,
        namespaces=namespaces,
        privileges=privileges,
        seccomp=resolve_security.resolve_seccomp(
            options,
            privileged=host.privileged,
            default_profile=default_seccomp_profile(settings.seccomp_profile),
        ),
        network=resolve_egress.resolve_egress(
            resolve_network.resolve_network(
                host,
                config,
                mode,
                settings,
                mac_address=_mac(request, settings),
                attachments=attachments,
            ),
            [
                endpoint
                for endpoint in request.endpoints
                if not is_bridge(endpoint.network, settings)
            ],
            request.default_egress,
        ),
        resources=resolve_limits.resolve_limits(host.resources, facts),
        rlimits=resolve_ulimits(host.ulimits, settings.ulimits),
        sysctls=resolve_network.resolve_sysctls(host, namespaces, allocation.userns.maps),
        devices=resolve_security.resolve_devices(host),
        shm_size=0 if host.ipc_mode == "none" else _shm_size(host, settings),
        oom_score_adj=_oom_score(host),
        cgroup_parent=resolve_limits.check_cgroup_parent(host, facts) or settings.cgroup_parent,
        stop_signal=parse_signal(config.stop_signal),
        stop_timeout=settings.stop_timeout if config.stop_timeout is None else config.stop_timeout,
        timeout=host.timeout,
        restart=host.restart_policy,
        auto_remove=host.auto_remove,
        log=merge(host.log_config, settings.log_driver, dict(settings.log_options)),
        labels=config.labels,
        annotations=host.annotations,
        healthcheck=config.healthcheck,
        mounted=mounts.images,
        selinux=labels,
        request=request,
    )
    resolve_egress.check_holds(spec)
    enabled = settings.selinux_enabled and facts.selinux
    warnings = (
        *_warnings(request, mode),
        *check_log(spec),
        *resolve_labels.warnings_of(labels, spec.rootfs, enabled=enabled),
    )
    return Resolved(spec, config, mounts.volumes, mounts.missing_sources, warnings)


def with_defaults(request: ContainerRequest, settings: EngineSettings) -> ContainerRequest:
    """The request with the daemon's modes where it names none, as inspect then shows them."""
    host = request.host
    return replace(
        request,
        host=replace(
            host,
            ipc_mode=host.ipc_mode or settings.default_ipc,
            cgroupns_mode=host.cgroupns_mode or settings.default_cgroupns,
        ),
    )


def _check(request: ContainerRequest, config: ContainerConfig) -> None:
    host = request.host
    check_policy(host.restart_policy, auto_remove=host.auto_remove)
    check_health(config.healthcheck)
    if config.stop_timeout is not None and config.stop_timeout < -1:
        raise InvalidInput(f"invalid stop timeout: {config.stop_timeout}")
    if host.timeout < 0:
        raise InvalidInput(f"invalid timeout: {host.timeout}", hint="seconds, 0 for none")
    if host.runtime not in _RUNTIMES:
        raise InvalidInput(f"unknown or invalid runtime name: {host.runtime}")
    for key, _ in host.storage_opt:
        if key != "size":
            raise InvalidInput(f"Unknown option {key}", hint="storage-opt knows size only")
    for text in config.exposed_ports:
        resolve_network.parse_exposed(text)
    if any(not key for key, _ in host.annotations):
        raise InvalidInput(
            "invalid Annotations: the empty string is not permitted as an annotation key"
        )


def _hostname(
    config: ContainerConfig, container_id: str, mode: str, uts: str, lookup: Lookup
) -> str:
    if mode.startswith("container:"):
        return lookup(mode.partition(":")[2]).spec.hostname
    if config.hostname:
        if uts == "host":
            raise InvalidInput("conflicting options: hostname and the UTS mode")
        return check_hostname(config.hostname)
    if mode == "host" or uts == "host":
        return socket.gethostname()
    return ids.short_id(container_id)


def _init(host: HostConfig, settings: EngineSettings, facts: HostFacts) -> str:
    if not (settings.init if host.init is None else host.init):
        return ""
    path = settings.init_path or facts.init_binary
    if not path:
        raise HostUnsupported(
            "--init needs tini or catatonit, neither is installed",
            hint="sudo apt-get install tini",
        )
    return path


def _labels(
    options: Sequence[str],
    host: HostConfig,
    namespaces: NamespacesSpec,
    allocation: Allocation,
    world: World,
) -> SelinuxSpec:
    donor = None
    for mode in (namespaces.ipc, namespaces.pid):
        if mode.startswith("container:"):
            donor = world.lookup(mode.partition(":")[2]).spec.selinux
    return resolve_labels.resolve_labels(
        resolve_labels.parse_options(options),
        host,
        world.selinux,
        enabled=world.settings.selinux_enabled,
        categories=allocation.categories,
        shared_with=donor,
    )


def _inherited(
    volumes_from: Sequence[str], lookup: Lookup, labels: SelinuxSpec
) -> tuple[MountSpec, ...]:
    found: list[MountSpec] = []
    for entry in volumes_from:
        name, _, mode = entry.partition(":")
        if not name:
            raise InvalidInput("volumes-from specification must not be an empty string")
        if not {*mode.split(",")} <= {"", "ro", "rw", "z", "Z"}:
            raise InvalidInput(f"invalid mode for volumes-from: {mode}")
        for mount in lookup(name).spec.mounts:
            if mount.type in ("bind", "volume"):
                read_only = mount.read_only or "ro" in mode.split(",")
                label = resolve_labels.relabel_to(mode, labels) or mount.label
                found.append(replace(mount, read_only=read_only, label=label))
    return tuple(found)


def _mac(request: ContainerRequest, settings: EngineSettings) -> str:
    """Of the container's own slirp4netns."""
    own = (e.mac_address for e in request.endpoints if not is_bridge(e.network, settings))
    return next(filter(None, own), "")


def _shm_size(host: HostConfig, settings: EngineSettings) -> int:
    if host.shm_size < 0:
        raise InvalidInput("SHM size can not be less than 0")
    return host.shm_size or settings.shm_size


def _oom_score(host: HostConfig) -> int:
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidInput(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    return host.oom_score_adj


def _warnings(request: ContainerRequest, mode: str) -> tuple[str, ...]:
    warnings = [*request.warnings]
    if mode == "host" and request.host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    return tuple(warnings)
