"""Where a value is in a JSON text, found when a finding needs it."""

from __future__ import annotations

import re
from json.decoder import scanstring  # type: ignore[attr-defined]

_SPACE = re.compile(r"[ \t\r\n]*")
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


def _child(text: str, at: int, step: str | int) -> tuple[int, int] | None:
    """Offsets of the key (or item) and of the value for one step into the value at ``at``."""
    opening = text[at]
    at = _skip(text, at + 1)
    index = 0
    while at < len(text) and text[at] not in "}]":
        key_at = at
        if opening == "{":
            name, at = scanstring(text, at + 1, False)
            at = _skip(text, _skip(text, at) + 1)
            if name == step:
                return key_at, at
        elif index == step:
            return key_at, at
        index += 1
        at = _skip(text, _past(text, at))
        if at < len(text) and text[at] == ",":
            at = _skip(text, at + 1)
    return None


def place_in_json(text: str, offset: int, path: tuple[str | int, ...]) -> tuple[int, int]:
    """Line and column, from 1, of the key or item at ``path``, or of what is nearest above."""
    shown = value = offset
    for step in path:
        if text[value : value + 1] not in ("{", "["):
            break
        found = _child(text, value, step)
        if found is None:
            break
        shown, value = found
    line = text.count("\n", 0, shown) + 1
    return line, shown - text.rfind("\n", 0, shown)
