"""What is said about a word that is not known: the nearest one, and what is not there yet."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NOT_YET = {
    "build": "there are no builds yet, so nothing could be decided on them",
}
"""Fields that a reader of the language may expect: refused with the reason, never ignored."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for a slip, else ''."""
    found = get_close_matches(str(word), [str(item) for item in known], 1, 0.7)
    return f", did you mean {found[0]!r}?" if found else ""


def not_yet(path: tuple[str | int, ...]) -> str:
    """Why a field below ``spec`` is not known, '' when it is merely wrong."""
    if path[:1] != ("spec",):
        return ""
    return NOT_YET.get(".".join(map(str, path[1:])), "")
