"""Times as Docker's API writes and reads them."""

from __future__ import annotations

import calendar
import re
import time

from rootless.errors import InvalidInput
from rootless.units import whole_number

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: what has not happened."""

_SECOND = 10**9
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?"
    r"(?:([Zz])|([+-])(\d\d):(\d\d))?"
)


def rfc3339(ns: int) -> str:
    """RFC 3339 with as many digits of a second as needed (Go's RFC3339Nano)."""
    if not ns:
        return ZERO
    seconds, rest = divmod(ns, _SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else f"{text}Z"


def rfc3339_fixed(ns: int) -> str:
    """RFC 3339 with nine digits, so that lines of a log align."""
    seconds, rest = divmod(ns, _SECOND)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def parse_query_time(name: str, text: str) -> int:
    """Unix nanoseconds of ``seconds[.fraction]`` or RFC 3339; 0 for an empty text."""
    if not text or text == "0":
        return 0
    whole, _, fraction = text.partition(".")
    seconds, rest = whole_number(whole.removeprefix("-")), whole_number(fraction[:9].ljust(9, "0"))
    if seconds is not None and rest is not None and (fraction.isdigit() or not fraction):
        return (-seconds if whole.startswith("-") else seconds) * _SECOND + rest
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"invalid value {text!r} for parameter {name}",
            hint="give Unix seconds or a time such as 2024-01-31T10:00:00Z",
        )
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        # The tuple must be a real date, which timegm does not check.
        time.strptime(f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}", "%Y-%m-%d %H:%M")
    except ValueError:
        raise InvalidInput(f"invalid value {text!r} for parameter {name}: no such date") from None
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if match[9]:
        offset = int(match[10]) * 3600 + int(match[11]) * 60
        seconds += -offset if match[9] == "+" else offset
    return seconds * _SECOND + int((match[7] or "").ljust(9, "0"))
