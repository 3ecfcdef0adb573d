"""Where a value is in a JSON text, found when a finding needs it."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import lru_cache
from json.decoder import scanstring  # type: ignore[attr-defined]  # the stubs leave it out

_SPACE = re.compile(r"[ \t\r\n]*")
_END = re.compile("\n")
_SCALAR = re.compile(r"[^\s,\]}]+")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _past(text: str, at: int) -> int:
    """The offset behind the value at ``at``; the text is known to be well formed."""
    depth = 0
    while at < len(text):
        char = text[at]
        if char == '"':
            at = scanstring(text, at + 1, False)[1]
        elif char in "{[":
            depth += 1
            at += 1
        elif char in "}]":
            depth -= 1
            at += 1
        elif char in ",: \t\r\n":
            at += 1
            continue
        else:
            found = _SCALAR.match(text, at)
            at = found.end() if found else at + 1
        if depth <= 0:
            return at
    return at


@lru_cache(maxsize=512)
def _children(text: str, at: int) -> dict[str | int, tuple[int, int]]:
    """Offsets of each key (or item) and its value in the object or array at ``at``.

    Remembered, or a long array would be gone through for each finding in it.
    """
    found: dict[str | int, tuple[int, int]] = {}
    opening = text[at]
    at = _skip(text, at + 1)
    while at < len(text) and text[at] not in "}]":
        key_at, step = at, len(found)
        if opening == "{":
            step, at = scanstring(text, at + 1, False)
            at = _skip(text, _skip(text, at) + 1)
        found.setdefault(step, (key_at, at))
        at = _skip(text, _past(text, at))
        if at < len(text) and text[at] == ",":
            at = _skip(text, at + 1)
    return found


@lru_cache(maxsize=4)
def _ends(text: str) -> list[int]:
    """Offsets of the line ends."""
    return [match.start() for match in _END.finditer(text)]


def place_in_json(text: str, offset: int, path: tuple[str | int, ...]) -> tuple[int, int]:
    """Line and column, from 1, of the key or item at ``path``, or of what is nearest above."""
    shown = value = offset
    for step in path:
        if text[value : value + 1] not in ("{", "["):
            break
        found = _children(text, value).get(step)
        if found is None:
            break
        shown, value = found
    ends = _ends(text)
    line = bisect_left(ends, shown)
    return line + 1, shown - (ends[line - 1] if line else -1)
