"""The mounts of a compose service."""

from __future__ import annotations

from typing import Any

from rootless.policy.inputs.read import NotUnderstood, Path
from rootless.policy.inputs.unit import FieldPath

_TYPES = frozenset("bind volume tmpfs image npipe cluster".split())
_WINDOWS = 2
"""Letters of a drive and its colon: ``C:\\data:/data``."""


def volumes(
    service: dict[str, Any],
    declared: dict[str, Any],
    home: Path,
    host: dict[str, Any],
    places: dict[FieldPath, Path],
) -> None:
    """``volumes``, ``tmpfs`` and the API's socket as mounts of ``host``."""
    written = service.get("volumes")
    places["HostConfig.Mounts",] = (*home, "volumes")
    mounts = []
    if written is not None and not isinstance(written, list):
        raise NotUnderstood("volumes must be a list", path=(*home, "volumes"))
    for index, entry in enumerate(written or ()):
        path = (*home, "volumes", index)
        try:
            mount = _long(entry) if isinstance(entry, dict) else _short(entry)
        except NotUnderstood as problem:
            raise NotUnderstood(problem.message, path=path) from problem
        _from_device(mount, declared)
        key = ("HostConfig.Mounts", mount["Target"])
        places[key] = path
        if isinstance(entry, dict):
            places[*key, "source"] = (*path, "source") if "source" in entry else path
            places[*key, "propagation"] = (*path, "bind", "propagation")
        mounts.append(mount)
    if service.get("use_api_socket") in (True, "true"):
        mounts.append(
            {"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/var/run/docker.sock"}
        )
        places["HostConfig.Mounts", "/var/run/docker.sock"] = (*home, "use_api_socket")
    host["Mounts"] = mounts
    tmpfs = service.get("tmpfs")
    targets = [tmpfs] if isinstance(tmpfs, str) else tmpfs or []
    if not isinstance(targets, list) or not all(isinstance(item, str) for item in targets):
        raise NotUnderstood("tmpfs must be a list of paths", path=(*home, "tmpfs"))
    host["Tmpfs"] = {item.partition(":")[0]: item.partition(":")[2] for item in targets}


def _from_device(mount: dict[str, Any], declared: dict[str, Any]) -> None:
    """A named volume whose driver binds a directory of the host is that directory."""
    volume = declared.get(mount.get("Source", "")) if mount["Type"] == "volume" else None
    options = volume.get("driver_opts") if isinstance(volume, dict) else None
    if isinstance(options, dict):
        kind = str(options.get("o") or "")
        device = options.get("device")
        if isinstance(device, str) and "bind" in kind and device.startswith("/"):
            mount["VolumeOptions"] = {"DriverConfig": {"Options": {"device": device}}}


def _split(text: str) -> list[str]:
    parts = text.split(":")
    if len(parts[0]) == 1 and parts[0].isalpha() and len(parts) > 1 and parts[1][:1] in "\\/":
        parts[:_WINDOWS] = [":".join(parts[:_WINDOWS])]
    return parts


def _short(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, str) or not entry:
        raise NotUnderstood("a volume must be a string or a mapping")
    parts = _split(entry)
    if len(parts) == 1:
        return {"Type": "volume", "Source": "", "Target": parts[0]}
    options = parts[2].split(",") if len(parts) > 2 else []
    path = parts[0][:1] in {"/", ".", "~"} or (len(parts[0]) > 1 and parts[0][1] == ":")
    shares = [o for o in options if o.removeprefix("r") in {"shared", "slave", "private"}]
    return {
        "Type": "bind" if path else "volume",
        "Source": parts[0],
        "Target": parts[1],
        "ReadOnly": "ro" in options,
        "BindOptions": {"Propagation": shares[0] if shares else ""},
    }


def _long(entry: dict[str, Any]) -> dict[str, Any]:
    kind = entry.get("type") or ("bind" if "bind" in entry else "volume")
    target = entry.get("target")
    if kind not in _TYPES:
        raise NotUnderstood(f"{kind!r} is not a type of volume")
    if not isinstance(target, str):
        raise NotUnderstood("a volume needs a target")
    bind = entry.get("bind") if isinstance(entry.get("bind"), dict) else {}
    source = entry.get("source")
    if source is not None and not isinstance(source, str):
        raise NotUnderstood("the source of a volume must be a string")
    return {
        "Type": kind,
        "Source": source or "",
        "Target": target,
        "ReadOnly": entry.get("read_only") in (True, "true", "yes", "on"),
        "BindOptions": {"Propagation": str((bind or {}).get("propagation") or "")},
    }
