"""The engine itself: info, version, disk usage, events, credentials."""

from __future__ import annotations

from typing import Annotated

from rootless.api.dto import compat
from rootless.api.dto.container import summary as container_summary
from rootless.api.dto.decode import Body
from rootless.api.dto.image import summary as image_summary
from rootless.api.dto.times import rfc3339
from rootless.api.dto.volume import volume
from rootless.api.fields import ignored, limited
from rootless.api.versions import API_VERSION, MIN_API_VERSION
from rootless.engine.logoptions import DRIVERS
from rootless.model.event import Event
from rootless.model.records import DiskUsage, RegistryAuth, SystemInfo, VersionInfo


class AuthBody(Body, frozen=True, rename="lower"):
    """``AuthConfig``, also in the X-Registry-Auth header."""

    username: str = ""
    password: str = ""
    auth: Annotated[str, ignored("username and password count")] = ""
    email: Annotated[str, limited("registries no longer ask for it")] = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class RenewalBody(Body, frozen=True):
    """``POST /rootless/certificate``."""

    request: str = ""


def to_auth(body: AuthBody) -> RegistryAuth:
    """The model's form."""
    return RegistryAuth(
        username=body.username,
        password=body.password,
        identity_token=body.identitytoken,
        registry_token=body.registrytoken,
        server_address=body.serveraddress,
    )


def version(
    found: VersionInfo, *, experimental: bool = False, min_version: str = MIN_API_VERSION
) -> dict[str, object]:
    """The answer of ``GET /version``."""
    engine: dict[str, str] = {
        "ApiVersion": API_VERSION,
        "Arch": found.architecture,
        "BuildTime": found.build_time,
        "Experimental": str(experimental).lower(),
        "GitCommit": found.git_commit,
        "KernelVersion": found.kernel_version,
        "MinAPIVersion": min_version,
        "Os": found.os,
    }
    for name, _, details in found.components:
        if name == "Engine":
            engine.update(details)
    components: list[dict[str, object]] = [
        {"Name": "Engine", "Version": found.version, "Details": engine}
    ]
    components += [
        {"Name": name, "Version": number, "Details": dict(details)}
        for name, number, details in found.components
        if name != "Engine"
    ]
    return {
        "Platform": {"Name": "rootless"},
        "Components": components,
        "Version": found.version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": min_version,
        **({"Experimental": True} if experimental else {}),
        "GitCommit": found.git_commit,
        "GoVersion": "",
        "Os": found.os,
        "Arch": found.architecture,
        "KernelVersion": found.kernel_version,
        "BuildTime": found.build_time,
    }


_LOOPBACK = ("::1/128", "127.0.0.0/8")
"""Registries there may be without TLS, as in Docker."""


def _registry(found: SystemInfo) -> dict[str, object]:
    mirrors = [url.rstrip("/") + "/" for url in found.registry_mirrors]
    configs: dict[str, object] = {
        "docker.io": {
            "Name": "docker.io",
            "Mirrors": mirrors,
            "Secure": True,
            "Official": True,
        }
    }
    for name in found.insecure_registries:
        if "/" not in name:
            configs[name] = {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
    cidrs = [*_LOOPBACK, *(name for name in found.insecure_registries if "/" in name)]
    return {
        "InsecureRegistryCIDRs": cidrs,
        "IndexConfigs": configs,
        "Mirrors": mirrors,
    }


def info(found: SystemInfo, now_ns: int) -> dict[str, object]:
    """The answer of ``GET /info``."""
    has = frozenset(found.cgroup_controllers)
    return {
        "ID": found.id,
        "Containers": found.containers,
        "ContainersRunning": found.running,
        "ContainersPaused": found.paused,
        "ContainersStopped": found.stopped,
        "Images": found.images,
        "Driver": found.storage_driver,
        "DriverStatus": [list(pair) for pair in found.driver_status],
        "DockerRootDir": found.data_root,
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null", "slirp4netns"],
            "Authorization": None,
            "Log": list(DRIVERS),
        },
        "MemoryLimit": "memory" in has,
        "SwapLimit": "memory" in has,
        "CpuCfsPeriod": "cpu" in has,
        "CpuCfsQuota": "cpu" in has,
        "CPUShares": "cpu" in has,
        "CPUSet": "cpuset" in has,
        "PidsLimit": True,
        "IPv4Forwarding": True,
        "OomKillDisable": False,
        "Debug": found.debug,
        "NFd": found.descriptors,
        "NGoroutines": found.tasks,
        "SystemTime": rfc3339(now_ns),
        "LoggingDriver": found.logging_driver,
        # The kernel has cgroup v2, mounted or not; "none" is Docker's word for nothing delegated.
        "CgroupDriver": "cgroupfs" if has else "none",
        "CgroupVersion": str(found.cgroup_version or 2),
        "NEventsListener": found.events_listeners,
        "KernelVersion": found.kernel_version,
        "OperatingSystem": found.operating_system,
        "OSVersion": found.os_version,
        "OSType": "linux",
        "Architecture": found.architecture,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registry(found),
        "NCPU": found.cpus,
        "MemTotal": found.memory_total,
        "GenericResources": None,
        "HttpProxy": found.http_proxy,
        "HttpsProxy": found.https_proxy,
        "NoProxy": found.no_proxy,
        "Name": found.name,
        "Labels": list(found.labels),
        "ExperimentalBuild": found.experimental,
        "ServerVersion": found.server_version,
        "Runtimes": {found.default_runtime: {"path": "rootless-oci"}},
        "DefaultRuntime": found.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": found.live_restore,
        "Isolation": "",
        "InitBinary": found.init_binary,
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": list(found.security_options),
        "ProductLicense": "",
        "Warnings": list(found.warnings) or None,
        "CDISpecDirs": [],
        "DefaultAddressPools": [
            {"Base": pool.base, "Size": pool.size} for pool in found.address_pools
        ]
        or None,
        "Rootless": {
            "ExecRoot": found.exec_root,
            "Policy": found.policy,
            "CgroupControllers": list(found.cgroup_controllers),
        },
    }


def disk_usage(
    found: DiskUsage, wanted: frozenset[str], version: tuple[int, int]
) -> dict[str, object]:
    """The answer of ``GET /system/df``; ``wanted`` as its ``type`` parameter, empty for all."""
    body: dict[str, object] = {}
    everything = not wanted
    if everything or "image" in wanted:
        body["LayersSize"] = found.layers_size
        images = [image_summary(image) for image in found.images]
        body["Images"] = [compat.image_size(image, version) for image in images]
    if everything or "container" in wanted:
        body["Containers"] = [container_summary(view) for view in found.containers]
    if everything or "volume" in wanted:
        body["Volumes"] = [volume(record) for record in found.volumes]
    if everything or "build-cache" in wanted:
        body["BuildCache"] = []
    return body


def event(found: Event) -> dict[str, object]:
    """One event, with the fields older clients read."""
    body: dict[str, object] = {}
    if found.type == "container":
        body = {
            "status": found.action,
            "id": found.actor_id,
            "from": dict(found.attributes).get("image", ""),
        }
    elif found.type == "image":
        body = {"status": found.action, "id": found.actor_id}
    return {
        **body,
        "Type": found.type,
        "Action": found.action,
        "Actor": {"ID": found.actor_id, "Attributes": dict(found.attributes)},
        "scope": "local",
        "time": found.time_ns // 10**9,
        "timeNano": found.time_ns,
    }
