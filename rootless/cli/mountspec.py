"""``--mount``: comma-separated values with Docker's keys."""

from __future__ import annotations

from rootless.cli.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = ("bind", "volume", "tmpfs", "image")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_FLAG_KEYS = {
    "readonly": ("", "ReadOnly"),
    "ro": ("", "ReadOnly"),
    "volume-nocopy": ("VolumeOptions", "NoCopy"),
    "bind-nonrecursive": ("BindOptions", "NonRecursive"),
    "bind-create-src": ("BindOptions", "CreateMountpoint"),
}
_TEXT_KEYS = {
    "target": ("", "Target"),
    "dst": ("", "Target"),
    "destination": ("", "Target"),
    "consistency": ("", "Consistency"),
    "volume-subpath": ("VolumeOptions", "Subpath"),
    "image-subpath": ("ImageOptions", "Subpath"),
}


def split_csv(text: str) -> list[str]:
    """One CSV record (RFC 4180): quotes around a field, doubled inside it."""
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration) as error:
        raise UsageError(f"invalid --mount {text!r}: {error}") from None


def parse_mount(text: str) -> dict[str, Any]:
    """One ``--mount`` as the API's Mount."""
    mount: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {}
    for field in split_csv(text):
        key, mark, value = field.partition("=")
        key = key.strip().lower()
        if not mark and key not in _FLAG_KEYS:
            raise UsageError(f"invalid field '{field}' must be a key=value pair (in {text!r})")
        _apply(mount, options, key, value, mark=bool(mark), text=text)
    _check(mount, options, text)
    mount.update(options)
    return mount


def _apply(
    mount: dict[str, Any],
    options: dict[str, dict[str, Any]],
    key: str,
    value: str,
    *,
    mark: bool,
    text: str,
) -> None:
    if key in _FLAG_KEYS:
        group, name = _FLAG_KEYS[key]
        place = options.setdefault(group, {}) if group else mount
        place[name] = _boolean(key, value, text) if mark else True
    elif key in _TEXT_KEYS:
        group, name = _TEXT_KEYS[key]
        (options.setdefault(group, {}) if group else mount)[name] = value
    elif key == "type":
        if value.lower() not in _TYPES:
            raise UsageError(f"invalid mount type '{value}' (one of {', '.join(_TYPES)})")
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        from os.path import abspath

        mount["Source"] = abspath(value) if value.startswith(".") else value
    elif key == "bind-propagation":
        if value.lower() not in _PROPAGATION:
            raise UsageError(f"invalid bind-propagation '{value}'")
        options.setdefault("BindOptions", {})["Propagation"] = value.lower()
    elif key == "bind-recursive":
        _recursive(mount, options.setdefault("BindOptions", {}), value)
    elif key.startswith("volume-"):
        _volume_option(options.setdefault("VolumeOptions", {}), key, value, text)
    elif key.startswith("tmpfs-"):
        _tmpfs_option(options.setdefault("TmpfsOptions", {}), key, value, text)
    else:
        raise _unknown(key, text)


def _unknown(key: str, text: str) -> UsageError:
    return UsageError(f"unknown option '{key}' in '{text}'")


def _volume_option(volume: dict[str, Any], key: str, value: str, text: str) -> None:
    name, _, content = value.partition("=")
    if key == "volume-label":
        volume.setdefault("Labels", {})[name] = content
    elif key == "volume-driver":
        volume.setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        volume.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = content
    else:
        raise _unknown(key, text)


def _tmpfs_option(tmpfs: dict[str, Any], key: str, value: str, text: str) -> None:
    from rootless.errors import InvalidInput
    from rootless.units import parse_size

    try:
        if key == "tmpfs-size":
            tmpfs["SizeBytes"] = parse_size(value)
        elif key == "tmpfs-mode":
            tmpfs["Mode"] = int(value, 8)
        else:
            raise _unknown(key, text)
    except (InvalidInput, ValueError):
        raise UsageError(f"invalid value for {key}: {value}") from None


def _recursive(mount: dict[str, Any], bind: dict[str, Any], value: str) -> None:
    if value == "disabled":
        bind["NonRecursive"] = True
    elif value == "writable":
        bind["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        bind["ReadOnlyForceRecursive"] = True
        mount.setdefault("ReadOnly", False)
    elif value != "enabled":
        raise UsageError(
            f"invalid bind-recursive '{value}' (one of enabled, disabled, writable, readonly)"
        )


def _check(mount: dict[str, Any], options: dict[str, dict[str, Any]], text: str) -> None:
    kind = mount["Type"]
    if not mount.get("Target"):
        raise UsageError(f"target is required (in --mount {text!r})")
    if not mount["Target"].startswith("/"):
        raise UsageError(f"invalid mount path: '{mount['Target']}' must be absolute")
    if kind in ("bind", "image") and not mount.get("Source"):
        raise UsageError(f"source is required for {kind} mounts (in --mount {text!r})")
    if kind == "tmpfs" and mount.get("Source"):
        raise UsageError("source must not be set for tmpfs mounts")
    for group, owner in (
        ("BindOptions", "bind"),
        ("VolumeOptions", "volume"),
        ("TmpfsOptions", "tmpfs"),
        ("ImageOptions", "image"),
    ):
        if group in options and kind != owner:
            raise UsageError(f"cannot mix '{owner}-*' options with mount type '{kind}'")
    bind = options.get("BindOptions", {})
    if bind.get("ReadOnlyForceRecursive") and not mount.get("ReadOnly"):
        raise UsageError("option 'bind-recursive=readonly' requires 'readonly' to be set")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") not in (None, "rprivate"):
        raise UsageError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate'",
        )


def _boolean(key: str, value: str, text: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise UsageError(f"invalid value for {key}: {value} (in {text!r})")
