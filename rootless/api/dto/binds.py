"""Docker's text forms of mounts: ``Binds`` and ``Tmpfs``."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import Literal, cast

from rootless.errors import InvalidInput
from rootless.model.request import MountRequest, Propagation
from rootless.units import parse_size

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_CONSISTENCY = ("consistent", "cached", "delegated")


def parse_bind(text: str) -> MountRequest:
    """One of ``Binds``: ``[SOURCE:]TARGET[:OPTIONS]``; a source without / names a volume."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts) or not text:
        raise InvalidInput(f"invalid volume specification: '{text}'")
    source, target, options = "", parts[0], ""
    if len(parts) == 2:
        # Docker takes src:dst, and dst:opts only where opts is a mode; a mode is not a path.
        if parts[1].startswith("/") or not _is_options(parts[1]):
            source, target = parts
        else:
            target, options = parts
    elif len(parts) == 3:
        source, target, options = parts
    check_target(target, text)
    is_path = source.startswith("/")
    if source and not is_path and ("/" in source or source.startswith((".", "~"))):
        raise InvalidInput(
            f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
            f"includes invalid characters for a local volume name: '{source}'",
            hint="a host directory needs an absolute path",
        )
    mount = MountRequest(
        type="bind" if is_path else "volume",
        source=posixpath.normpath(source) if is_path else source,
        target=posixpath.normpath(target),
        create_source=is_path,
    )
    return _apply(mount, options, text)


def _is_options(text: str) -> bool:
    known = {"ro", "rw", "z", "Z", "nocopy", "bind-nonrecursive", *_PROPAGATION, *_CONSISTENCY}
    return all(
        option in known or option.startswith("bind-recursive=") for option in text.split(",")
    )


def check_target(target: str, spec: str) -> None:
    """Refuse a destination that is not an absolute path below the root."""
    if not target.startswith("/"):
        raise InvalidInput(
            f"invalid volume specification: '{spec}': invalid mount path: '{target}' "
            "mount path must be absolute"
        )
    if posixpath.normpath(target).strip("/") == "":
        raise InvalidInput(
            f"invalid volume specification: '{spec}': invalid specification: "
            "destination can't be '/'"
        )


def _apply(mount: MountRequest, options: str, spec: str) -> MountRequest:
    """Apply the comma-separated options; each group at most once."""
    seen: set[str] = set()

    def once(group: str) -> None:
        if group in seen:
            raise InvalidInput(f"invalid volume specification: '{spec}': invalid mode: {options}")
        seen.add(group)

    for option in options.split(",") if options else ():
        if option in ("ro", "rw"):
            once("mode")
            mount = replace(mount, read_only=option == "ro")
        elif option in ("z", "Z"):
            once("label")
            mount = replace(mount, relabel=cast(Literal["z", "Z"], option))
        elif option in _PROPAGATION and mount.type == "bind":
            once("propagation")
            mount = replace(mount, propagation=cast(Propagation, option))
        elif option == "nocopy" and mount.type == "volume":
            once("copy")
            mount = replace(mount, no_copy=True)
        elif option in _CONSISTENCY:
            # Meant for file sharing with a virtual machine; a no-op on Linux.
            once("consistency")
        elif option in ("bind-nonrecursive", "bind-recursive=disabled") and mount.type == "bind":
            once("recursive")
            mount = replace(mount, non_recursive=True)
        else:
            raise InvalidInput(f"invalid volume specification: '{spec}': invalid mode: {options}")
    return mount


def parse_tmpfs(target: str, options: str) -> MountRequest:
    """One of ``Tmpfs``: a destination and mount(8) options."""
    check_target(target, target)
    size, mode, read_only = 0, None, False
    others = []
    for option in options.split(",") if options else ():
        key, _, value = option.partition("=")
        if key == "size":
            size = _size(value)
        elif key == "mode":
            mode = _octal(value, option)
        elif option in ("ro", "rw"):
            read_only = option == "ro"
        elif option:
            others.append(option)
    return MountRequest(
        type="tmpfs",
        target=posixpath.normpath(target),
        read_only=read_only,
        tmpfs_size=size,
        tmpfs_mode=mode,
        tmpfs_options=tuple(others),
    )


def _size(value: str) -> int:
    try:
        return parse_size(value)
    except InvalidInput as error:
        raise InvalidInput(f"tmpfs option size: {error.message}", hint=error.hint) from None


def _octal(value: str, option: str) -> int:
    if not re.fullmatch("[0-7]{1,7}", value):
        raise InvalidInput(f"invalid tmpfs option {option!r}", hint="mode is octal: 1777")
    return int(value, 8)
