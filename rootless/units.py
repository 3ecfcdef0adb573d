"""Sizes, durations and counts as users write them."""

from __future__ import annotations

import re

from rootless.errors import InvalidInput

_SIZE = re.compile(r"(?P<n>\d+(\.\d+)?)\s*(?P<u>[kmgtp]?)i?b?", re.IGNORECASE)
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_size(text: str) -> int:
    """Bytes from ``512``, ``64m``, ``1.5GiB`` (binary factors, as Docker's RAMInBytes)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"invalid size: {text!r}", hint="write a number with b, k, m, g or t")
    return int(float(match["n"]) * _FACTOR[match["u"].lower()])


def parse_duration(text: str) -> int:
    """Nanoseconds from Go's duration format: ``1m30s``, ``500ms``; a bare 0 is allowed."""
    text = text.strip()
    if text == "0":
        return 0
    sign = -1 if text.startswith("-") else 1
    body = text.lstrip("+-")
    total = 0.0
    end = 0
    for match in _DURATION.finditer(body):
        if match.start() != end:
            break
        total += float(match[1]) * _NANOS[match[2]]
        end = match.end()
    if not body or end != len(body):
        raise InvalidInput(f"invalid duration: {text!r}", hint="write for example 1m30s or 500ms")
    return sign * int(total)


def human_size(count: float, *, base: int = 1000) -> str:
    """Docker's short form: ``1.23GB`` with base 1000, ``64MiB`` with base 1024."""
    units = (
        ("B", "kB", "MB", "GB", "TB", "PB")
        if base == 1000
        else ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    )
    value = float(count)
    index = 0
    while value >= base and index < len(units) - 1:
        value /= base
        index += 1
    return f"{value:.4g}{units[index]}" if base == 1024 else f"{value:.3g}{units[index]}"
