"""Sizes, durations and counts as users write them."""

from __future__ import annotations

import re

from rootless.errors import InvalidInput

MAX_NUMBER = (1 << 63) - 1
"""What fits where the kernel and Docker's API have 64 bits with a sign."""

_SIZE = re.compile(r"(?P<n>\d{1,19}(\.\d{1,19})?)\s*(?P<u>[kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATION = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)(ns|us|µs|ms|s|m|h)")
_DAYS = re.compile(r"([0-9]{1,9})([dw])")
_NANOS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def whole_number(text: str) -> int | None:
    """The number that ``text`` writes in plain digits; None when it is none or above 64 bits.

    ``str.isdigit`` alone will not do: it takes ``²``, which int() refuses, and
    numbers of more than 4300 digits, which int() refuses as well.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    value = int(text)
    return value if value <= MAX_NUMBER else None


def parse_size(text: str) -> int:
    """Bytes from ``512``, ``64m``, ``1.5GiB`` (binary factors, as Docker's RAMInBytes)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"invalid size: {text!r}", hint="write a number with b, k, m, g or t")
    size = int(float(match["n"]) * _FACTOR[match["u"].lower()])
    if size > MAX_NUMBER:
        raise InvalidInput(f"invalid size: {text!r} is more than 64 bits can count")
    return size


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
    if not body or end != len(body) or total > MAX_NUMBER:
        raise InvalidInput(f"invalid duration: {text!r}", hint="write for example 1m30s or 500ms")
    return sign * int(total)


def parse_seconds(text: str) -> int:
    """Whole seconds from days and weeks (``90d``, ``2w``) or Go's duration format (``36h``)."""
    match = _DAYS.fullmatch(text.strip())
    if match is None:
        seconds = parse_duration(text) // 10**9
    else:
        seconds = int(match[1]) * (7 if match[2] == "w" else 1) * 86_400
    if seconds > MAX_NUMBER // 10**9:
        raise InvalidInput(f"invalid duration: {text!r} is more than 64 bits can count")
    return seconds


def go_duration(ns: int) -> str:
    """Nanoseconds as Go prints a duration: ``50ms``, ``1.5s``, ``1m30s``, ``1h0m0s``."""
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 10**6)):
        if abs(ns) < size * 1000:
            return f"{ns / size:.15g}{unit}"
    minutes, rest = divmod(ns, 60 * 10**9)
    seconds = f"{rest / 10**9:.15g}s"
    if minutes < 60:
        return f"{minutes}m{seconds}" if minutes else seconds
    return f"{minutes // 60}h{minutes % 60}m{seconds}"


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


def human_duration(ns: int) -> str:
    """Docker's rough length of time: ``Less than a second``, ``3 minutes``, ``2 weeks``."""
    seconds = max(ns, 0) // 10**9
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600 / 24 / 365)} years"


_QUANTITY = re.compile(
    r"([+-]?[0-9]{1,19}(?:\.[0-9]{0,19})?|\.[0-9]{1,19})([a-zA-Z]{0,2}|[eE][+-]?[0-9]{1,3})"
)
_QUANTITY_FACTORS = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "E": 1e18, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
    "Ei": 2.0**60,
}  # fmt: skip


def parse_quantity(text: str) -> float | None:
    """A Kubernetes quantity (``100m``, ``1.5Gi``, ``2e3``); None when it is none."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return None
    number, suffix = match[1], match[2]
    if suffix in _QUANTITY_FACTORS:
        return float(number) * _QUANTITY_FACTORS[suffix]
    found = float(number + suffix) if len(suffix) > 1 and suffix[0] in "eE" else None
    return found if found is not None and found <= MAX_NUMBER else None
