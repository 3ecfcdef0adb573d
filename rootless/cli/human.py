"""Times and sizes as people read them, in Docker's words."""

from __future__ import annotations

import time

from rootless.errors import InvalidInput
from rootless.units import human_duration, human_size, parse_duration

NANO = 10**9


def parse_time(text: str) -> int:
    """RFC 3339 with up to nanoseconds as nanoseconds since 1970; 0 for Go's zero time."""
    if not text or text.startswith("0001-"):
        return 0
    from datetime import datetime

    head, mark, tail = text.partition(".")
    fraction = ""
    if mark:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        fraction, zone = tail[:digits], tail[digits:]
    else:
        zone = head[19:]
        head = head[:19]
    try:
        moment = datetime.fromisoformat(head + (zone if zone not in ("Z", "") else "+00:00"))
    except ValueError:
        return 0
    return int(moment.timestamp()) * NANO + int(fraction[:9].ljust(9, "0") or 0)


def duration(seconds: float) -> str:
    """``About a minute``, ``3 weeks``: go-units' HumanDuration."""
    return human_duration(int(seconds * NANO))


def ago(nanoseconds: int) -> str:
    """How long before now."""
    if nanoseconds <= 0:
        return "N/A"
    return duration(time.time() - nanoseconds / NANO) + " ago"


def local_time(seconds: int) -> str:
    """``2026-11-25 03:09:48 +0000 UTC``, Go's Time.String."""
    moment = time.localtime(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S %z ", moment) + (moment.tm_zone or "UTC")


def size3(count: float) -> str:
    """``4.26MB``: three digits, powers of 1000."""
    return human_size(count, base=1000)


def size4(count: float) -> str:
    """``123.4MB``: go-units' HumanSize, four digits, powers of 1000."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    index = 0
    while count >= 1000 and index < len(units) - 1:
        count /= 1000
        index += 1
    return f"{count:.4g}{units[index]}"


def size_binary(count: float) -> str:
    """``64MiB``: go-units' BytesSize."""
    return human_size(count, base=1024)


def api_time(text: str) -> str:
    """``--since``/``--until``: RFC 3339, Unix seconds, or a duration before now.

    The result is Unix time with nanoseconds, the form every engine takes.
    """
    if text.replace(".", "", 1).isdigit():
        return text
    try:
        before = parse_duration(text)
    except InvalidInput:
        moment = _absolute(text)
        return f"{moment // NANO}.{moment % NANO:09d}"
    moment = time.time_ns() - before
    return f"{moment // NANO}.{moment % NANO:09d}"


def _absolute(text: str) -> int:
    from datetime import datetime

    if text.endswith("Z") or "+" in text or text.count("-") > 2:
        if found := parse_time(text):
            return found
    else:
        try:
            return int(datetime.fromisoformat(text).timestamp() * 10**6) * 1000
        except ValueError:
            pass
    raise InvalidInput(
        f"invalid time: {text!r}",
        hint="write 2013-01-02T13:23:37Z, Unix seconds, or a duration such as 42m",
    )
