"""What an engine reports or is asked for: inspect documents, create bodies, OCI's config.json."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.read import InputDocument, NotUnderstood, Path
from rootless.policy.inputs.unit import Container, FieldPath, Unit

_OCI_NAMESPACES = {"network": "NetworkMode", "ipc": "IpcMode", "pid": "PidMode", "uts": "UTSMode"}
_MACHINERY = frozenset("proc sysfs devpts mqueue cgroup cgroup2 tmpfs devtmpfs overlay".split())


def is_inspect(value: Any) -> bool:
    """Whether a document is what ``inspect`` prints of a container (one, or a list)."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and isinstance(first.get("HostConfig"), dict)


def is_oci(value: Any) -> bool:
    """Whether a document is an OCI runtime configuration."""
    return isinstance(value, dict) and "ociVersion" in value


def inspect_units(document: InputDocument) -> Iterator[Unit]:
    """The containers of an inspect document."""
    several = isinstance(document.value, list)
    entries = document.value if several else [document.value]
    if not entries:
        yield Unit(document, "Container", "", problems=(NotUnderstood("the list is empty"),))
    for index, entry in enumerate(entries):
        home: Path = (index,) if several else ()
        yield _inspect_unit(document, entry, home)


def _inspect_unit(document: InputDocument, entry: Any, home: Path) -> Unit:
    if not isinstance(entry, dict) or not isinstance(entry.get("HostConfig"), dict):
        problem = NotUnderstood("this is not what inspect prints of a container", path=home)
        return Unit(document, "Container", "", problems=(problem,))
    name = entry.get("Name")
    shown = name.lstrip("/") if isinstance(name, str) else ""
    try:
        # No network named means the default bridge, here.
        host = {**entry["HostConfig"], "NetworkMode": mode_of(entry)}
        spec = container_spec({**entry, "HostConfig": host})
    except NotUnderstood as problem:
        found = NotUnderstood(problem.message, path=(*home, *(problem.path or ())))
        return Unit(document, "Container", shown, problems=(found,))
    created = "State" not in entry  # a create body, which somebody wrote
    container = Container(
        shown, spec, home, body_places(entry, home), declared=created, observed=_observed(entry)
    )
    return Unit(document, "Container", shown, (container,))


def mode_of(entry: dict[str, Any]) -> Any:
    """The network mode of a body, which names the default one where it says nothing."""
    return entry["HostConfig"].get("NetworkMode") or "default"


def _observed(entry: dict[str, Any]) -> dict[str, str]:
    observed: dict[str, str] = {}
    profile = entry.get("AppArmorProfile")
    if isinstance(profile, str):
        observed["AppArmorProfile"] = profile
    state = entry.get("State")
    health = state.get("Health") if isinstance(state, dict) else None
    if isinstance(health, dict) and health:
        observed["State.Health"] = str(health.get("Status"))
    return observed


def body_places(entry: dict[str, Any], home: Path) -> dict[FieldPath, Path]:
    """Fields of a body are where their names say."""
    places: dict[FieldPath, Path] = {}
    for area in ("HostConfig", "Config"):
        found = entry.get(area)
        for key in found if isinstance(found, dict) else ():
            places[f"{area}.{key}",] = (*home, area, key)
    if "AppArmorProfile" in entry:
        places["AppArmorProfile",] = (*home, "AppArmorProfile")
    mounts = entry.get("Mounts")
    if isinstance(mounts, list) and mounts:
        places["HostConfig.Mounts",] = (*home, "Mounts")
        for index, mount in enumerate(mounts):
            target = mount.get("Destination") if isinstance(mount, dict) else None
            if isinstance(target, str):
                path = (*home, "Mounts", index)
                places["HostConfig.Mounts", target] = path
                places["HostConfig.Mounts", target, "source"] = (*path, "Source")
                places["HostConfig.Mounts", target, "propagation"] = (*path, "Propagation")
    return places


def oci_units(document: InputDocument) -> Iterator[Unit]:
    """The container of an OCI config.json."""
    try:
        value: dict[str, Any] = document.value
        body, places = _oci_body(value)
        spec = container_spec(body)
        container = Container("", spec, (), places, declared=False)
        yield Unit(document, "OCI", str(value.get("hostname") or ""), (container,))
    except NotUnderstood as problem:
        yield Unit(document, "OCI", "", problems=(problem,))


def _part(value: dict[str, Any], *names: str) -> dict[str, Any]:
    found: Any = value
    for index, name in enumerate(names):
        found = found.get(name)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise NotUnderstood(f"{name} must be an object", path=names[: index + 1])
    return dict(found)


def _items(value: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise NotUnderstood(f"{key} must be a list of objects", path=(*path, key))
    return found


def _oci_body(value: dict[str, Any]) -> tuple[dict[str, Any], dict[FieldPath, Path]]:
    places: dict[FieldPath, Path] = {}
    process, linux = _part(value, "process"), _part(value, "linux")
    if "linux" not in value:
        raise NotUnderstood("there is no linux section: only Linux containers are judged")
    user = _part(value, "process", "user")
    config = {"User": f"{user.get('uid', 0)}:{user.get('gid', 0)}", "Env": process.get("env")}
    places["Config.User",] = ("process", "user")
    host: dict[str, Any] = {"ReadonlyRootfs": bool(_part(value, "root").get("readonly"))}
    places["HostConfig.ReadonlyRootfs",] = ("root", "readonly")
    bounding = _part(value, "process", "capabilities").get("bounding") or []
    host["CapDrop"], host["CapAdd"] = ["ALL"], bounding
    places["HostConfig.CapAdd",] = ("process", "capabilities", "bounding")
    options = (
        ["no-new-privileges"]
        if process.get("noNewPrivileges") is True
        else ["no-new-privileges=false"]
    )
    places["HostConfig.SecurityOpt",] = ("process", "noNewPrivileges")
    options += _oci_filters(value, process, places)
    host["SecurityOpt"] = options
    _oci_namespaces(linux, host, places)
    _oci_mounts(value, host, places)
    _oci_limits(linux, host, places)
    for key, field in (("maskedPaths", "MaskedPaths"), ("readonlyPaths", "ReadonlyPaths")):
        host[field] = linux.get(key) or []
        places[f"HostConfig.{field}",] = ("linux", key)
    host["Sysctls"] = linux.get("sysctl")
    places["HostConfig.Sysctls",] = ("linux", "sysctl")
    host["Devices"] = [
        {"PathOnHost": device.get("path"), "PathInContainer": device.get("path")}
        for device in _items(linux, "devices", ("linux",))
    ]
    places["HostConfig.Devices",] = ("linux", "devices")
    return {"Config": config, "HostConfig": host}, places


def _oci_filters(
    value: dict[str, Any], process: dict[str, Any], places: dict[FieldPath, Path]
) -> list[str]:
    options = []
    seccomp = _part(value, "linux", "seccomp")
    if not seccomp:
        options.append("seccomp=unconfined")
        places["HostConfig.SecurityOpt", "seccomp=unconfined"] = ("linux",)
    elif seccomp.get("defaultAction") in {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG"}:
        text = f'seccomp={{"defaultAction": "{seccomp["defaultAction"]}"}}'
        options.append(text)
        places["HostConfig.SecurityOpt", text] = ("linux", "seccomp", "defaultAction")
    profile = process.get("apparmorProfile")
    options.append(f"apparmor={profile}" if profile else "apparmor=unconfined")
    if process.get("selinuxLabel"):
        options.append(f"label={process['selinuxLabel']}")
    return options


def _oci_namespaces(
    linux: dict[str, Any], host: dict[str, Any], places: dict[FieldPath, Path]
) -> None:
    """A namespace that is not listed is the host's; one with a path is another's."""
    listed = {str(entry.get("type")): entry for entry in _items(linux, "namespaces", ("linux",))}
    for kind, field in _OCI_NAMESPACES.items():
        entry = listed.get(kind)
        path = entry.get("path") if entry else None
        host[field] = "host" if entry is None else f"container:{path}" if path else "private"
        places[f"HostConfig.{field}",] = ("linux", "namespaces")
    if host["NetworkMode"] == "private":
        host["NetworkMode"] = "none"
    cgroup = listed.get("cgroup")
    host["CgroupnsMode"] = "private" if cgroup is not None else "host"
    places["HostConfig.CgroupnsMode",] = ("linux", "namespaces")
    if "user" not in listed:
        host["UsernsMode"] = "host"
        places["HostConfig.UsernsMode",] = ("linux", "namespaces")


def _oci_mounts(value: dict[str, Any], host: dict[str, Any], places: dict[FieldPath, Path]) -> None:
    mounts = []
    for index, mount in enumerate(_items(value, "mounts", ())):
        options = mount.get("options") or []
        if not isinstance(options, list):
            raise NotUnderstood("options must be a list", path=("mounts", index, "options"))
        bind = mount.get("type") == "bind" or "bind" in options or "rbind" in options
        if mount.get("type") in _MACHINERY and not bind:
            continue
        target = str(mount.get("destination") or "")
        spread = [o for o in options if str(o).removeprefix("r") in {"shared", "slave"}]
        mounts.append(
            {
                "Type": "bind" if bind else "volume",
                "Source": str(mount.get("source") or ""),
                "Target": target,
                "ReadOnly": "ro" in options,
                "BindOptions": {"Propagation": spread[-1] if spread else ""},
            }
        )
        places["HostConfig.Mounts", target] = ("mounts", index)
        places["HostConfig.Mounts", target, "source"] = ("mounts", index, "source")
    host["Mounts"] = mounts
    places["HostConfig.Mounts",] = ("mounts",)


def _oci_limits(linux: dict[str, Any], host: dict[str, Any], places: dict[FieldPath, Path]) -> None:
    resources = linux.get("resources") or {}
    if not isinstance(resources, dict):
        raise NotUnderstood("resources must be an object", path=("linux", "resources"))
    for part, key, field in (
        ("memory", "limit", "Memory"),
        ("cpu", "shares", "CpuShares"),
        ("cpu", "quota", "CpuQuota"),
        ("cpu", "period", "CpuPeriod"),
        ("pids", "limit", "PidsLimit"),
    ):
        section = resources.get(part)
        if isinstance(section, dict) and section.get(key) is not None:
            host[field] = section[key]
            places[f"HostConfig.{field}",] = ("linux", "resources", part, key)
