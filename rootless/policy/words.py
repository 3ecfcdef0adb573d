"""What is said about a word that is not known: the nearest one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for a slip, else ''."""
    found = get_close_matches(str(word), [str(item) for item in known], 1, 0.7)
    return f", did you mean {found[0]!r}?" if found else ""
