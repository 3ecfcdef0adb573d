"""Certificate profiles: what each kind of certificate may be used for, and for how long.

They are YAML files in ``pki/`` beside the package; this module reads them strictly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Literal

from rootless.errors import InvalidInput, RootlessError
from rootless.resources import resource_path

Kind = Literal["root", "intermediate", "server", "client"]
KINDS: tuple[Kind, ...] = ("root", "intermediate", "server", "client")

KEY_USAGES = ("digitalSignature", "keyCertSign", "cRLSign")
PURPOSES = ("serverAuth", "clientAuth")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_LONGEST = timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of certificate (RFC 5280, section 4.2)."""

    kind: Kind
    lifetime: timedelta
    longest: timedelta
    """What ``--lifetime`` may ask for."""
    backdate: timedelta
    """How long before now it is valid: clocks differ."""
    ca: bool
    path_length: int | None
    key_usage: tuple[str, ...]
    purposes: tuple[str, ...]
    """extendedKeyUsage; empty for an authority."""
    warn: timedelta
    """Before its end ``status`` warns and ``renew --due`` renews it."""


def parse_duration(text: str) -> timedelta:
    """``30d``, ``24h``, ``1d12h``, ``90m``; InvalidInput for anything else, zero included."""
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        raise InvalidInput(f"invalid duration: {text!r}", hint="write for example 24h, 30d or 90m")
    try:
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        total = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (OverflowError, ValueError):
        total = _LONGEST + timedelta(1)
    if not timedelta() < total <= _LONGEST:
        raise InvalidInput(
            f"invalid duration: {text!r}", hint="it is more than 0 and at most 100 years"
        )
    return total


_SCHEMA: dict[str, Any] = {
    "lifetime": {"type": "string", "required": True},
    "longest": {"type": "string", "required": True},
    "backdate": {"type": "string", "required": True},
    "warn": {"type": "string", "required": True},
    "keyUsage": {"type": "list", "required": True, "allowed": list(KEY_USAGES)},
    "extendedKeyUsage": {"type": "list", "required": True, "allowed": list(PURPOSES)},
    "basicConstraints": {
        "type": "dict",
        "required": True,
        "schema": {
            "ca": {"type": "boolean", "required": True},
            "pathLength": {"type": "integer", "nullable": True, "min": 0, "required": True},
        },
    },
}


@cache
def profile(kind: Kind) -> Profile:
    """The shipped profile of a kind."""
    import yaml
    from cerberus import Validator

    path = resource_path("pki", f"{kind}.yaml")
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    validator = Validator(_SCHEMA)
    if not validator.validate(data):
        raise RootlessError(f"{path}: {validator.errors}", hint="install rootless again")
    return Profile(
        kind=kind,
        lifetime=parse_duration(data["lifetime"]),
        longest=parse_duration(data["longest"]),
        backdate=parse_duration(data["backdate"]),
        warn=parse_duration(data["warn"]),
        ca=data["basicConstraints"]["ca"],
        path_length=data["basicConstraints"]["pathLength"],
        key_usage=tuple(data["keyUsage"]),
        purposes=tuple(data["extendedKeyUsage"]),
    )
