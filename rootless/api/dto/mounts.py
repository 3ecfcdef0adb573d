"""``HostConfig.Mounts``: the structured form of mounts."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

import posixpath
from typing import Annotated, cast

from rootless.api.dto.decode import Body
from rootless.api.fields import limited
from rootless.errors import InvalidInput
from rootless.model.request import MountRequest, MountType, Propagation

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


class BindOptions(Body, frozen=True):
    """Options of a bind mount."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Body, frozen=True):
    """A volume's driver."""

    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Body, frozen=True):
    """Options of a volume."""

    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: DriverConfig = DriverConfig()
    subpath: str = ""


class TmpfsOptions(Body, frozen=True):
    """Options of a tmpfs; ``options`` as ``[["exec"], ["key", "value"]]``."""

    size_bytes: int = 0
    mode: int | None = None
    options: list[list[str]] = []


class ImageOptions(Body, frozen=True):
    """Options of an image mount."""

    subpath: str = ""


class Mount(Body, frozen=True):
    """One of ``Mounts``."""

    target: str = ""
    source: str = ""
    type: str = ""
    read_only: bool = False
    consistency: Annotated[str, limited("means nothing on Linux")] = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


def _wrong(mount: Mount, why: str) -> InvalidInput:
    return InvalidInput(f'invalid mount config for type "{mount.type}": {why}')


def _check(mount: Mount) -> None:
    if mount.type not in ("bind", "volume", "tmpfs", "image"):
        raise InvalidInput(f"mount type unknown: {mount.type!r}", hint="bind, volume or tmpfs")
    if not mount.target:
        raise _wrong(mount, "field Target must not be empty")
    if not mount.target.startswith("/"):
        raise _wrong(mount, f"invalid mount path: '{mount.target}' mount path must be absolute")
    if posixpath.normpath(mount.target).strip("/") == "":
        raise _wrong(mount, "invalid specification: destination can't be '/'")
    owners = {
        "BindOptions": ("bind", mount.bind_options),
        "VolumeOptions": ("volume", mount.volume_options),
        "TmpfsOptions": ("tmpfs", mount.tmpfs_options),
        "ImageOptions": ("image", mount.image_options),
    }
    for name, (kind, options) in owners.items():
        if options is not None and mount.type != kind:
            raise _wrong(mount, f"field {name} must not be specified")
    if mount.type in ("bind", "image") and not mount.source:
        raise _wrong(mount, "field Source must not be empty")
    if mount.type == "bind" and not mount.source.startswith("/"):
        raise _wrong(mount, f"invalid mount path: '{mount.source}' mount path must be absolute")
    if mount.type == "tmpfs" and mount.source:
        raise _wrong(mount, "field Source must not be specified")


def _bind_fields(mount: Mount, options: BindOptions) -> dict[str, object]:
    if options.propagation and options.propagation not in _PROPAGATION:
        raise _wrong(mount, f"invalid propagation mode: {options.propagation}")
    if options.read_only_force_recursive and options.read_only_non_recursive:
        raise _wrong(mount, "ReadOnlyForceRecursive and ReadOnlyNonRecursive contradict each other")
    if options.read_only_force_recursive and not mount.read_only:
        raise _wrong(mount, "ReadOnlyForceRecursive needs ReadOnly")
    return {
        "propagation": cast(Propagation, options.propagation) or None,
        "non_recursive": options.non_recursive,
        "read_only_non_recursive": options.read_only_non_recursive,
        "read_only_force_recursive": options.read_only_force_recursive,
        "create_source": options.create_mountpoint,
    }


def _volume_fields(options: VolumeOptions) -> dict[str, object]:
    return {
        "no_copy": options.no_copy,
        "subpath": options.subpath,
        "volume_labels": tuple(options.labels.items()),
        "volume_driver": options.driver_config.name,
        "volume_options": tuple(options.driver_config.options.items()),
    }


def to_mount(mount: Mount) -> MountRequest:
    """The model's form, checked as Docker checks it."""
    _check(mount)
    more: dict[str, object] = {}
    if mount.bind_options is not None:
        more = _bind_fields(mount, mount.bind_options)
    elif mount.volume_options is not None:
        more = _volume_fields(mount.volume_options)
    elif mount.image_options is not None:
        more = {"subpath": mount.image_options.subpath}
    elif mount.tmpfs_options is not None:
        more = {
            "tmpfs_size": mount.tmpfs_options.size_bytes,
            "tmpfs_mode": mount.tmpfs_options.mode,
            "tmpfs_options": tuple("=".join(pair) for pair in mount.tmpfs_options.options),
        }
    return MountRequest(
        type=cast(MountType, mount.type),
        target=posixpath.normpath(mount.target),
        source=posixpath.normpath(mount.source) if mount.type == "bind" else mount.source,
        read_only=mount.read_only,
        **more,  # type: ignore[arg-type]  # keywords of any field
    )


def from_mount(mount: MountRequest) -> dict[str, object]:
    """``HostConfig.Mounts`` of an inspect."""
    body: dict[str, object] = {"Type": mount.type, "Target": mount.target}
    if mount.source:
        body["Source"] = mount.source
    if mount.read_only:
        body["ReadOnly"] = True
    if mount.type == "bind":
        options = {
            "Propagation": mount.propagation,
            "NonRecursive": mount.non_recursive,
            "CreateMountpoint": mount.create_source,
            "ReadOnlyNonRecursive": mount.read_only_non_recursive,
            "ReadOnlyForceRecursive": mount.read_only_force_recursive,
        }
        body["BindOptions"] = {key: value for key, value in options.items() if value}
    elif mount.type == "tmpfs":
        body["TmpfsOptions"] = {"SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode or 0}
    elif mount.type == "volume":
        volume: dict[str, object] = {"NoCopy": mount.no_copy, "Labels": dict(mount.volume_labels)}
        if mount.subpath:
            volume["Subpath"] = mount.subpath
        if mount.volume_driver:
            volume["DriverConfig"] = {
                "Name": mount.volume_driver,
                "Options": dict(mount.volume_options),
            }
        body["VolumeOptions"] = volume
    elif mount.subpath:
        body["ImageOptions"] = {"Subpath": mount.subpath}
    return body
