"""Containers as list and inspect show them."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterable

import msgspec

from rootless.api.dto.binds import parse_bind
from rootless.api.dto.config import from_config
from rootless.api.dto.host_config import from_host_config
from rootless.api.dto.network import container_networks, default_place
from rootless.api.dto.ports import port_list, port_map
from rootless.api.dto.times import rfc3339
from rootless.engine import links
from rootless.ids import short_id
from rootless.model.mounts import MountSpec
from rootless.model.records import ContainerRecord, ContainerState, ContainerView, Health
from rootless.model.request import HostConfig
from rootless.units import human_duration

_encode = msgspec.json.Encoder().encode


def status_text(state: ContainerState, now_ns: int) -> str:
    """The STATUS column: ``Up 3 minutes (healthy)``, ``Exited (0) 2 hours ago``."""
    up = human_duration(now_ns - state.started_ns)
    if state.status == "paused":
        return f"Up {up} (Paused)"
    if state.status == "restarting":
        ago = human_duration(now_ns - state.finished_ns)
        return f"Restarting ({state.exit_code}) {ago} ago"
    if state.status == "running":
        health = state.health
        if health is None:
            return f"Up {up}"
        text = "health: starting" if health.status == "starting" else health.status
        return f"Up {up} ({text})"
    if state.status == "removing":
        return "Removal In Progress"
    if state.status == "dead":
        return "Dead"
    if not state.started_ns or not state.finished_ns:
        return "Created"
    return f"Exited ({state.exit_code}) {human_duration(now_ns - state.finished_ns)} ago"


def _mount(mount: MountSpec, mode: str, volumes: str, image: str) -> dict[str, object]:
    # A volume with options of driver local is mounted as what the options say, and is a volume.
    named = bool(mount.volume_name)
    body: dict[str, object] = {"Type": "volume" if named else mount.type}
    if named:
        body["Name"] = mount.volume_name
        body["Source"] = f"{volumes}/{mount.volume_name}/_data"
    else:
        if mount.type == "image":
            body["Name"] = image
        body["Source"] = mount.source
    body["Destination"] = mount.target
    if named:
        body["Driver"] = "local"
    body["Mode"] = mode
    body["RW"] = not mount.read_only
    body["Propagation"] = mount.propagation if body["Type"] == "bind" else ""
    return body


def _modes(record: ContainerRecord) -> dict[str, str]:
    """What the client wrote for each target; Docker has ``z`` for a volume without anything."""
    modes = {}
    for mount in record.spec.request.host.mounts:
        modes[mount.target] = "z" if mount.type == "volume" else ""
    for text in record.spec.request.host.binds_raw:
        mount = parse_bind(text)
        options = text.removeprefix(f"{mount.source}:").partition(":")[2]
        modes[mount.target] = options or modes.get(mount.target, "")
    return modes


def mount_points(record: ContainerRecord) -> list[dict[str, object]]:
    """``Mounts``: what users mounted, but for ``Tmpfs`` and the sandbox's own file systems."""
    asked = record.spec.request.host.mounts
    plain = {posixpath.normpath(target) for target, _ in record.spec.request.host.tmpfs_raw}
    tmpfs = {m.target for m in asked if m.type == "tmpfs"} - plain
    images = {m.target: m.source for m in asked if m.type == "image"}
    modes = _modes(record)
    volumes = f"{record.directory.rpartition('/containers/')[0]}/volumes"
    return [
        _mount(mount, modes.get(mount.target, ""), volumes, images.get(mount.target, ""))
        for mount in record.spec.mounts
        if mount.volume_name or mount.type in ("bind", "image") or mount.target in tmpfs
    ]


def _command(record: ContainerRecord) -> tuple[str, ...]:
    entrypoint = record.config.entrypoint or ()
    return (*entrypoint, *(record.config.cmd or ())) or record.spec.process.args


def _host_summary(record: ContainerRecord) -> dict[str, object]:
    body: dict[str, object] = {"NetworkMode": record.spec.network.shown_mode}
    if record.spec.annotations:
        body["Annotations"] = dict(record.spec.annotations)
    return body


def summary(view: ContainerView, now_ns: int | None = None) -> dict[str, object]:
    """One entry of ``GET /containers/json``."""
    record = view.record
    state = record.state
    now = time.time_ns() if now_ns is None else now_ns
    ports = record.network.ports
    body: dict[str, object] = {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": record.spec.image.id if view.image_renamed else record.spec.image.reference,
        "ImageID": record.spec.image.id,
        "Command": " ".join(f"'{a}'" if " " in a else a for a in _command(record)),
        "Created": record.spec.created_ns // 10**9,
        "Ports": port_list(ports, record.config.exposed_ports if state.running else ()),
        "Labels": dict(record.config.labels),
        "State": state.status,
        "Status": status_text(state, now),
        "HostConfig": _host_summary(record),
        "NetworkSettings": {"Networks": container_networks(record)},
        "Mounts": mount_points(record),
    }
    if view.size_rw is not None:
        body["SizeRw"] = view.size_rw
    if view.size_root_fs is not None:
        body["SizeRootFs"] = view.size_root_fs
    return body


def summaries(views: Iterable[ContainerView]) -> list[msgspec.Raw]:
    """``GET /containers/json``: each entry as JSON.

    Clients poll it. What a record says is encoded once; only the text that tells
    how long ago something happened is made each time.
    """
    now = time.time_ns()
    return [msgspec.Raw(_summary_json(view, now)) for view in views]


def _summary_json(view: ContainerView, now_ns: int) -> bytes:
    status = _encode(status_text(view.record.state, now_ns))
    if view.size_rw is not None:
        return _encode(summary(view, now_ns))
    before = view.memo.get("summary")
    told = (view.record, view.image_renamed)
    if not (isinstance(before, tuple) and before[0] is told[0] and before[1] is told[1]):
        body = summary(view, now_ns)
        del body["Status"]
        before = view.memo["summary"] = (*told, _encode(body)[:-1] + b',"Status":')
    head: bytes = before[2]
    return head + status + b"}"


def _health(health: Health) -> dict[str, object]:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": rfc3339(probe.start_ns),
                "End": rfc3339(probe.end_ns),
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            }
            for probe in health.log
        ],
    }


def _state(state: ContainerState) -> dict[str, object]:
    body: dict[str, object] = {
        "Status": state.status,
        "Running": state.running or state.status == "restarting",
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_ns),
        "FinishedAt": rfc3339(state.finished_ns),
    }
    if state.health is not None:
        body["Health"] = _health(state.health)
    return body


def _network_settings(record: ContainerRecord) -> dict[str, object]:
    network, place = record.network, default_place(record)
    exposed = record.config.exposed_ports if record.state.running else ()
    return {
        "Bridge": "",
        "SandboxID": record.id if record.state.running else "",
        "SandboxKey": f"/proc/{record.state.pid}/ns/net" if record.state.pid else "",
        "Ports": port_map(network.ports, exposed),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": place.id,
        "Gateway": place.ipv4_gateway,
        "GlobalIPv6Address": place.ipv6_address,
        "GlobalIPv6PrefixLen": place.ipv6_prefix,
        "IPAddress": place.ipv4_address,
        "IPPrefixLen": place.ipv4_prefix,
        "IPv6Gateway": place.ipv6_gateway,
        "MacAddress": place.mac_address,
        "Networks": container_networks(record),
    }


def _security(record: ContainerRecord) -> dict[str, object]:
    """What the sandbox really is: Docker has no place for it, so it has its own key."""
    spec = record.spec
    return {
        "Policy": record.decision.policy,
        "Weakened": list(record.decision.weakened),
        "Findings": [str(finding) for finding in record.decision.findings],
        "Capabilities": list(spec.privileges.capabilities),
        "NoNewPrivileges": spec.privileges.no_new_privileges,
        "Seccomp": spec.seccomp.kind,
        "Timeout": spec.timeout,
        "EndsAt": rfc3339(record.state.ends_ns),
        "UserNamespace": {
            "Mode": spec.userns.mode,
            "Maps": [[m.inside, m.outside, m.size] for m in spec.userns.maps],
        },
    }


def _paths(host: HostConfig, paths: tuple[str, ...]) -> list[str] | None:
    """Null for a privileged container, which has none by definition."""
    return None if host.privileged and not paths else list(paths)


def inspect(view: ContainerView) -> dict[str, object]:
    """The answer of ``GET /containers/{id}/json``."""
    record = view.record
    spec = record.spec
    args = _command(record)
    files = {name: f"{record.directory}/{name}" if record.directory else "" for name in
             ("resolv.conf", "hostname", "hosts")}  # fmt: skip
    host = from_host_config(spec.request.host)
    host |= {
        "NetworkMode": spec.network.shown_mode,
        "ShmSize": spec.shm_size,
        "MaskedPaths": _paths(spec.request.host, spec.masked_paths),
        "ReadonlyPaths": _paths(spec.request.host, spec.readonly_paths),
        "LogConfig": {"Type": spec.log.type, "Config": dict(spec.log.config)},
        "Links": list(links.shown(record)) or None,
    }
    host["Runtime"] = host["Runtime"] or "rootless"
    body: dict[str, object] = {
        "Id": record.id,
        "Created": rfc3339(spec.created_ns),
        "Path": args[0] if args else "",
        "Args": list(args[1:]),
        "State": _state(record.state),
        "Image": spec.image.id,
        "ResolvConfPath": files["resolv.conf"],
        "HostnamePath": files["hostname"],
        "HostsPath": files["hosts"],
        "LogPath": record.log_path,
        "Name": f"/{record.name}",
        "RestartCount": record.state.restart_count,
        "Driver": spec.rootfs.driver,
        "Platform": "linux",
        "MountLabel": spec.selinux.mount,
        "ProcessLabel": spec.selinux.process,
        "AppArmorProfile": "",
        "ExecIDs": list(view.exec_ids) or None,
        "HostConfig": host,
        "GraphDriver": {"Name": spec.rootfs.driver, "Data": _graph(record)},
        "Mounts": mount_points(record),
        "Config": {
            **from_config(record.config),
            "Hostname": spec.hostname,
            "Domainname": spec.domainname,
        },
        "NetworkSettings": _network_settings(record),
        "Rootless": _security(record),
    }
    if record.image_digest:
        body["ImageManifestDescriptor"] = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": record.image_digest,
            "size": 0,
        }
    if view.size_rw is not None:
        body["SizeRw"] = view.size_rw
    if view.size_root_fs is not None:
        body["SizeRootFs"] = view.size_root_fs
    return body


def _graph(record: ContainerRecord) -> dict[str, str] | None:
    rootfs = record.spec.rootfs
    if rootfs.driver == "vfs":
        return {"RootDir": rootfs.upper}
    return {
        "LowerDir": ":".join(rootfs.lowers),
        "UpperDir": rootfs.upper,
        "WorkDir": rootfs.work,
        "ID": short_id(record.id),
    }
