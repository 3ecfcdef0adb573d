"""Platforms: ``os/arch[/variant]``, this host's, and which image fits it best."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from rootless.errors import InvalidInput
from rootless.units import whole_number

_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i686": "386",
    "armv7l": "arm",
    "armv6l": "arm",
    "loongarch64": "loong64",
}

_NEWEST = 9
"""No variant of ARM or level of amd64 is higher: bounds the list of what is older."""

_SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1"))
_KNOWN = frozenset(
    "386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x".split()
)
"""Architectures of images; with a system's name beside it any other is taken as well."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Go's names for operating system and architecture."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        tail = f"/{self.variant}" if self.variant else ""
        return f"{self.os}/{self.architecture}{tail}"


def normalise(platform: Platform) -> Platform:
    """The canonical spelling, as containerd's platforms package."""
    arch = platform.architecture.lower()
    variant = platform.variant.lower()
    if arch == "armel" and not variant:
        variant = "v6"
    arch = _ARCHITECTURES.get(arch, arch)
    if arch == "arm64" and variant in ("8", "v8"):
        variant = ""
    if arch == "arm":
        variant = {"5": "v5", "6": "v6", "7": "v7", "8": "v8", "": "v7"}.get(variant, variant)
    if arch == "amd64" and variant == "v1":
        variant = ""
    return Platform(platform.os.lower(), arch, variant)


def host() -> Platform:
    """The platform of this machine."""
    return normalise(Platform("linux", os.uname().machine, ""))


def parse(text: str) -> Platform:
    """``linux/arm64/v8``, ``arm64`` or ``linux``; '' is the host's."""
    if not text:
        return host()
    parts = text.split("/")
    if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidInput(
            f"invalid platform '{text[:100]}'", hint="write os/architecture[/variant]"
        )
    if len(parts) == 1:
        alone = parts[0].lower()
        if alone == "linux":
            return host()
        found = normalise(Platform("linux", alone, ""))
        if alone not in _SYSTEMS and found.architecture not in _KNOWN:
            raise InvalidInput(
                f'"{text}": unknown operating system or architecture: invalid argument',
                hint="write os/architecture[/variant]",
            )
        return Platform(alone, host().architecture, "") if alone in _SYSTEMS else found
    if len(parts) == 2 and parts[0].lower() not in _SYSTEMS:
        return normalise(Platform("linux", parts[0], parts[1]))
    return normalise(Platform(parts[0], parts[1], parts[2] if len(parts) == 3 else ""))


def same(left: Platform, right: Platform) -> bool:
    """True when system and architecture agree, and the variant where both name one."""
    if (left.os, left.architecture) != (right.os, right.architecture):
        return False
    return not (left.variant and right.variant) or left.variant == right.variant


def preference(wanted: Platform) -> tuple[Platform, ...]:
    """What runs on ``wanted``, best first: an older variant of ARM or amd64 does as well."""
    choices = [wanted]
    level = min(whole_number(wanted.variant[1:]) or 1, _NEWEST)
    if wanted.architecture == "arm":
        choices += [Platform(wanted.os, "arm", f"v{n}") for n in range(level - 1, 4, -1)]
    if wanted.architecture == "amd64":
        older = [f"v{n}" if n > 1 else "" for n in range(level - 1, 0, -1)]
        choices += [Platform(wanted.os, "amd64", variant) for variant in older]
    if wanted.architecture == "arm64" and wanted.variant:
        choices.append(Platform(wanted.os, "arm64", ""))
    return tuple(choices)
