"""Values of compose files as compose casts them."""

from __future__ import annotations

from typing import Any

from rootless.errors import InvalidInput
from rootless.policy.inputs.read import NotUnderstood
from rootless.units import parse_size

_YES = frozenset("true yes on y 1 t".split())
_NO = frozenset(["false", "no", "off", "n", "0", "f", ""])


def text(value: Any, what: str) -> str:
    """A string; numbers that YAML made of one are written out again."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise NotUnderstood(f"{what} must be a string")
    return str(value)


def flag(value: Any, what: str) -> bool:
    """A boolean as compose casts it."""
    word = text(value, what).lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise NotUnderstood(f"{what} must be true or false")


def texts(value: Any, what: str) -> list[str]:
    """A list of strings, or one string."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise NotUnderstood(f"{what} must be a list")
    return [text(item, what) for item in value]


def pairs(value: Any, what: str) -> dict[str, str]:
    """A mapping, or a list of ``key=value``."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return {str(key): text(found, what) for key, found in value.items()}
    return {item.partition("=")[0]: item.partition("=")[2] for item in texts(value, what)}


def size(value: Any, what: str) -> int:
    """Bytes of ``512m``; 0 when there is none."""
    written = text(value, what)
    if written in {"", "-1"}:
        return 0
    try:
        return parse_size(written)
    except InvalidInput as error:
        raise NotUnderstood(f"{what}: {error.message}") from error


def number(value: Any, what: str) -> float:
    """A number, 0 when there is none."""
    written = text(value, what).strip()
    try:
        found = float(written or 0)
    except ValueError:
        raise NotUnderstood(f"{what} must be a number") from None
    if not -(1 << 62) < found < 1 << 62:
        raise NotUnderstood(f"{what} is out of range")
    return found
