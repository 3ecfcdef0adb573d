"""``--mount``: comma-separated values with Docker's keys."""

from __future__ import annotations

import os

from rootless.cli.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = ("bind", "volume", "tmpfs", "image")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_FLAG_KEYS = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")


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
    def option(group: str) -> dict[str, Any]:
        return options.setdefault(group, {})

    def flag() -> bool:
        return _boolean(key, value, text) if mark else True

    if key == "type":
        if value.lower() not in _TYPES:
            raise UsageError(f"invalid mount type '{value}' (one of {', '.join(_TYPES)})")
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        mount["Source"] = os.path.abspath(value) if value.startswith(".") else value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = flag()
    elif key == "consistency":
        mount["Consistency"] = value
    elif key == "bind-propagation":
        if value.lower() not in _PROPAGATION:
            raise UsageError(f"invalid bind-propagation '{value}'")
        option("BindOptions")["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        option("BindOptions")["NonRecursive"] = flag()
    elif key == "bind-create-src":
        option("BindOptions")["CreateMountpoint"] = flag()
    elif key == "bind-recursive":
        _recursive(mount, option("BindOptions"), value)
    elif key == "volume-subpath":
        option("VolumeOptions")["Subpath"] = value
    elif key == "image-subpath":
        option("ImageOptions")["Subpath"] = value
    elif key == "volume-nocopy":
        option("VolumeOptions")["NoCopy"] = flag()
    elif key == "volume-label":
        name, _, content = value.partition("=")
        option("VolumeOptions").setdefault("Labels", {})[name] = content
    elif key == "volume-driver":
        option("VolumeOptions").setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        name, _, content = value.partition("=")
        driver = option("VolumeOptions").setdefault("DriverConfig", {})
        driver.setdefault("Options", {})[name] = content
    elif key == "tmpfs-size":
        from rootless.errors import InvalidInput
        from rootless.units import parse_size

        try:
            option("TmpfsOptions")["SizeBytes"] = parse_size(value)
        except InvalidInput:
            raise UsageError(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        try:
            option("TmpfsOptions")["Mode"] = int(value, 8)
        except ValueError:
            raise UsageError(f"invalid value for {key}: {value}") from None
    else:
        raise UsageError(f"unknown option '{key}' in '{text}'")


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
