"""Mounts: binds, volumes, tmpfs and the image's volumes, to their final form (pure but for lstat).

Order of precedence by target, as in Docker: what the request mounts, then
``--volumes-from``, then what the image declares.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rootless import ids
from rootless.errors import InvalidInput, NotFound
from rootless.model.mounts import MountSpec, RootfsMount
from rootless.model.request import MountRequest
from rootless.model.spec import ImageSpec
from rootless.storage import localdriver
from rootless.storage.volumes import Volume, check_name
from rootless.units import MAX_NUMBER, parse_size, whole_number

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_TMPFS_FLAGS = frozenset(
    "rw ro exec noexec suid nosuid dev nodev size mode uid gid nr_inodes sync async dirsync "
    "atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime "
    "mand nomand remount bind rbind unbindable runbindable private rprivate shared rshared "
    "slave rslave defaults tmpcopyup".split()
)


@dataclass(frozen=True, slots=True)
class MountedImage:
    """An image to be mounted, and how its layers are."""

    image: ImageSpec
    layers: RootfsMount


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """A volume a container needs. ``anonymous`` ones are made for it and go with it."""

    name: str
    anonymous: bool
    driver: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedMounts:
    """Final mounts, the volumes they need, and bind sources that ``-v`` is to make.

    ``images`` are those whose files are mounted.
    """

    mounts: tuple[MountSpec, ...]
    volumes: tuple[VolumeUse, ...]
    missing_sources: tuple[str, ...]
    images: tuple[ImageSpec, ...] = ()


def clean_target(target: str) -> str:
    """A canonical absolute path inside the container; refuses the root and relative paths."""
    if not target or not target.startswith("/"):
        raise InvalidInput(
            f"invalid mount config: invalid mount path: '{target}' mount path must be absolute"
        )
    if "\0" in target:
        raise InvalidInput("invalid mount path: NUL byte")
    cleaned = posixpath.normpath("/" + target.lstrip("/"))
    if cleaned == "/":
        raise InvalidInput("invalid specification: destination can't be '/'")
    return cleaned


def _check_target(target: str, kind: str) -> None:
    """Refuse what the launcher would: a link in the image may still lead there, and it looks."""
    if target == "/proc" or target.startswith("/proc/"):
        raise InvalidInput(
            f"mount target {target} is inside /proc, which the sandbox' protection relies on",
            hint="choose a target outside /proc",
        )
    if target == "/dev" and kind == "tmpfs":
        raise InvalidInput(
            "a tmpfs on /dev would hide the container's devices",
            hint="/dev is a tmpfs already; mount below it",
        )


def resolve_mounts(
    requests: Sequence[MountRequest],
    inherited: Sequence[MountSpec],
    image_volumes: Sequence[str],
    *,
    volume_path: Callable[[str], Path],
    known_volumes: Mapping[str, Volume],
    images: Mapping[str, MountedImage] | None = None,
) -> ResolvedMounts:
    """Everything that is mounted; ``inherited`` comes from ``--volumes-from``."""
    mounts: dict[str, MountSpec] = {}
    volumes: dict[str, VolumeUse] = {}
    missing: list[str] = []
    for request in requests:
        target = clean_target(request.target)
        _check_target(target, request.type)
        if target in mounts:
            raise InvalidInput(f"Duplicate mount point: {target}")
        if request.type == "volume":
            mounts[target] = _volume(request, target, volume_path, known_volumes, volumes)
        elif request.type == "bind":
            mounts[target] = _bind(request, target, missing)
        elif request.type == "tmpfs":
            mounts[target] = _tmpfs(request, target)
        else:
            mounts[target] = _image(request, target, images or {})
    for mount in reversed(inherited):  # of several containers the last one counts
        mounts.setdefault(mount.target, replace(mount, copy_up=False))
    for declared in image_volumes:
        target = clean_target(declared)
        if target not in mounts:
            request = MountRequest("volume", target)
            mounts[target] = _volume(request, target, volume_path, known_volumes, volumes)
    fresh = tuple(use for use in volumes.values() if use.name not in known_volumes)
    # Parents before children, so that no mount hides another.
    ordered = sorted(mounts.values(), key=lambda mount: mount.target.count("/"))
    shown = {r.source: (images or {})[r.source].image for r in requests if r.type == "image"}
    return ResolvedMounts(tuple(ordered), fresh, tuple(missing), tuple(shown.values()))


def _volume(
    request: MountRequest,
    target: str,
    volume_path: Callable[[str], Path],
    known: Mapping[str, Volume],
    volumes: dict[str, VolumeUse],
) -> MountSpec:
    anonymous = not request.source
    name = request.source or ids.new_id()
    if not anonymous:
        check_name(name)
        if request.volume_driver not in ("", "local"):
            raise NotFound(
                f"create {name}: error looking up volume plugin {request.volume_driver}: "
                f'plugin "{request.volume_driver}" not found',
                hint="only the local driver exists",
            )
    volumes.setdefault(
        name,
        VolumeUse(
            name, anonymous, request.volume_driver, request.volume_labels, request.volume_options
        ),
    )
    existing = known.get(name)
    options = dict(request.volume_options if existing is None else existing.options)
    backed = localdriver.to_mount(options, target=target, name=name, read_only=request.read_only)
    if backed is not None:
        return stat_source(backed)
    return MountSpec(
        "volume",
        target,
        source=str(volume_path(name)),
        read_only=request.read_only,
        volume_name=name,
        subpath=_subpath(request.subpath),
        copy_up=not request.no_copy,
    )


def _image(request: MountRequest, target: str, images: Mapping[str, MountedImage]) -> MountSpec:
    """The files of an image, read-only whatever is asked for (Docker)."""
    found = images[request.source]
    return MountSpec(
        "image",
        target,
        source=found.layers.lowers[0],
        read_only=True,
        recursive=False,
        subpath=_subpath(request.subpath),
        layers=found.layers,
    )


def _subpath(path: str) -> str:
    if path and (path.startswith("/") or ".." in path.split("/")):
        raise InvalidInput(
            f"invalid mount config: subpath must be a relative path within the volume: {path!r}"
        )
    return path


def _bind(request: MountRequest, target: str, missing: list[str]) -> MountSpec:
    source = request.source
    if not source.startswith("/"):
        raise InvalidInput(
            f"invalid mount config for type \"bind\": invalid mount path: '{source}' "
            "mount path must be absolute"
        )
    propagation = request.propagation or "rprivate"
    if propagation not in _PROPAGATIONS:
        raise InvalidInput(f"invalid propagation mode: {propagation}")
    if not os.path.lexists(source):
        if not request.create_source:
            raise InvalidInput(
                f'invalid mount config for type "bind": bind source path does not exist: {source}'
            )
        missing.append(source)
    return stat_source(
        MountSpec(
            "bind",
            target,
            source=source,
            read_only=request.read_only,
            recursive_read_only=not request.read_only_non_recursive,
            recursive=not request.non_recursive,
            propagation=propagation,
        )
    )


def stat_source(mount: MountSpec) -> MountSpec:
    """The mount with its source's symlinks resolved and the file that is there now pinned.

    The launcher refuses another file than the policy saw, so this runs right
    before each admission: an editor that replaced a bound file is no attack.
    """
    if mount.type not in ("bind", "volume"):
        return mount
    try:
        # Without strict, Python 3.13 takes a symlink that it may not read for a plain name.
        real = os.path.realpath(mount.source, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        real = os.path.realpath(mount.source)
    except OSError as error:
        # A magic link of another user's process (/proc/1/root) that may not be read, a loop.
        why = (error.strerror or "").lower()
        raise InvalidInput(
            f"invalid mount config for type {mount.type!r}: {mount.source}: {why}"
        ) from None
    try:
        found = os.stat(real)
    except OSError:
        return replace(mount, source=real, source_dev=0, source_ino=0)
    return replace(mount, source=real, source_dev=found.st_dev, source_ino=found.st_ino)


def require_sources(mounts: Sequence[MountSpec]) -> None:
    """Refuse, at a start, mounts whose source was not there when the policy decided.

    There was nothing to judge, and whoever can write to the directory could
    still put anything there before the launcher opens it.
    """
    for mount in mounts:
        if mount.type in ("bind", "volume", "image") and not mount.source_ino:
            raise InvalidInput(
                f"invalid mount config for type {mount.type!r}: "
                f"bind source path does not exist: {mount.source}",
                hint="make it, or create the container anew",
            )


def _tmpfs(request: MountRequest, target: str) -> MountSpec:
    size, mode = request.tmpfs_size, request.tmpfs_mode
    noexec, nosuid, nodev, read_only = True, True, True, request.read_only
    rest = []
    for option in request.tmpfs_options:
        key, _, value = option.partition("=")
        if key not in _TMPFS_FLAGS:
            raise InvalidInput(f'invalid tmpfs option ["{option}"]')
        if key == "size":
            size = _tmpfs_size(value)
        elif key == "mode":
            mode = _octal(option, value)
        elif key in ("uid", "gid", "nr_inodes"):
            if whole_number(value) is None:
                raise InvalidInput(f'invalid tmpfs option ["{option}"]')
            rest.append(option)
        else:
            noexec = {"exec": False, "noexec": True}.get(key, noexec)
            nosuid = {"suid": False, "nosuid": True}.get(key, nosuid)
            nodev = {"dev": False, "nodev": True}.get(key, nodev)
            read_only = {"ro": True, "rw": False}.get(key, read_only)
    return MountSpec(
        "tmpfs",
        target,
        read_only=read_only,
        noexec=noexec,
        nosuid=nosuid,
        nodev=nodev,
        size=size,
        mode=0o1777 if mode is None else mode,
        options=tuple(rest),
    )


def _tmpfs_size(value: str) -> int:
    percent = whole_number(value[:-1]) if value.endswith("%") else None
    if percent is None:
        try:
            return parse_size(value)
        except InvalidInput as error:
            raise InvalidInput(f"tmpfs option size: {error.message}", hint=error.hint) from None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total * percent // 100, MAX_NUMBER)


def _octal(option: str, value: str) -> int:
    mode = int(value, 8) if re.fullmatch("[0-7]{1,7}", value) else MAX_NUMBER
    if mode > 0o7777:
        raise InvalidInput(f'invalid tmpfs option ["{option}"]', hint="mode is octal: mode=1777")
    return mode
