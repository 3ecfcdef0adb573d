"""Options of volume driver ``local``, as Docker's ``-o type=… -o device=… -o o=…``.

Pure: they become a :class:`MountSpec` that passes the policy like any other mount.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rootless import units
from rootless.errors import HostUnsupported, InvalidInput
from rootless.model.mounts import MountSpec

_TMPFS_IGNORED = frozenset(("rw", "defaults", "suid", "dev", "exec"))
_KNOWN = frozenset(("type", "device", "o", "size"))


@dataclass(slots=True)
class _Flags:
    read_only: bool = False
    noexec: bool = False
    recursive: bool = False
    size: int = 0
    mode: int | None = None
    tmpfs: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


def check(options: Mapping[str, str]) -> None:
    """Raise for options that cannot be served: InvalidInput, or HostUnsupported for other types."""
    if options:
        _check_keys(options)
        to_mount(options, target="/", name="")


def to_mount(
    options: Mapping[str, str], *, target: str, name: str, read_only: bool = False
) -> MountSpec | None:
    """The mount that volume options stand for; None when the volume has its own directory.

    ``type=tmpfs`` gives a tmpfs, ``o=bind`` (or ``rbind``) with ``device`` a bind mount.
    """
    if not options:
        return None
    kind = options.get("type", "")
    flags = _parse(options.get("o", ""))
    is_bind = kind == "bind" or "bind" in flags.rest
    if is_bind:
        return _bind(options, flags, target=target, name=name, read_only=read_only)
    if kind != "tmpfs":
        raise HostUnsupported(
            f"volume type {kind or 'none'!r} cannot be mounted without root",
            hint="use type=tmpfs, or type=none with o=bind and a device",
        )
    if flags.rest:
        raise InvalidInput(f"invalid tmpfs option for a volume: {flags.rest[0]!r}")
    return MountSpec(
        type="tmpfs",
        target=target,
        read_only=read_only or flags.read_only,
        noexec=flags.noexec,
        size=flags.size,
        mode=flags.mode,
        options=tuple(flags.tmpfs),
        volume_name=name,
    )


def _check_keys(options: Mapping[str, str]) -> None:
    """Known ones, and each with what it needs, as Docker's driver demands it."""
    for key in sorted(options):
        if key not in _KNOWN:
            raise InvalidInput(
                f'invalid option: "{key}"',
                hint="use type, device and o, for example "
                "-o type=tmpfs -o device=tmpfs -o o=size=64m",
            )
    if "size" in options:
        raise InvalidInput(
            "quota size requested but no quota support",
            hint="a size can be kept with -o type=tmpfs -o device=tmpfs -o o=size=64m",
        )
    for key in ("device", "type"):
        if key not in options:
            raise InvalidInput(f'missing required option: "{key}"')


def _bind(
    options: Mapping[str, str], flags: _Flags, *, target: str, name: str, read_only: bool
) -> MountSpec:
    kind: Literal["bind"] = "bind"
    device = options.get("device", "")
    if not device.startswith("/"):
        raise InvalidInput(
            f"device {device!r} of a bind volume is not an absolute path",
            hint="give -o device=/path",
        )
    rest = [word for word in flags.rest if word != "bind"]
    rest += flags.tmpfs
    if rest or flags.size or flags.mode is not None:
        raise InvalidInput(f"invalid option for a bind volume: {(rest or ['size or mode'])[0]!r}")
    return MountSpec(
        type=kind,
        target=target,
        source=device,
        read_only=read_only or flags.read_only,
        recursive=flags.recursive,
        noexec=flags.noexec,
        volume_name=name,
    )


def _parse(text: str) -> _Flags:
    flags = _Flags()
    for word in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = word.partition("=")
        if key == "size":
            flags.size = units.parse_size(value)
        elif key == "mode":
            try:
                flags.mode = int(value, 8)
            except ValueError:
                raise InvalidInput(
                    f"invalid mode of a volume: {value!r}", hint="use octal digits"
                ) from None
        elif key in ("uid", "gid", "nr_inodes") and units.whole_number(value) is not None:
            flags.tmpfs.append(word)
        elif key in ("ro", "noexec", "bind", "rbind"):
            flags.read_only = flags.read_only or key == "ro"
            flags.noexec = flags.noexec or key == "noexec"
            flags.recursive = flags.recursive or key == "rbind"
            if key.endswith("bind"):
                flags.rest.append("bind")
        elif word not in _TMPFS_IGNORED and word not in ("nosuid", "nodev"):
            flags.rest.append(word)
    return flags
