"""Patterns of paths, and lists of them that merge exactly.

``*`` and ``?`` stay within one component, ``**`` crosses them. ``A & B`` means what
both match: so the meet of two lists is a list again.
"""

from __future__ import annotations

import re
from functools import lru_cache

_AND = " & "
_TOKENS = re.compile(r"\*\*|\*|\?|[^*?]+")
_WORDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


def is_glob(text: str) -> bool:
    """Whether it is one pattern of absolute paths, or several with ``&`` between."""
    return all(
        part.startswith("/") and "\0" not in part and ".." not in part.split("/")
        and (part == "/" or not part.endswith("/"))
        for part in text.split(_AND)
    )  # fmt: skip


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    words = (_WORDS.get(token) or re.escape(token) for token in _TOKENS.findall(glob))
    return re.compile("".join(words), re.DOTALL)


def matches(path: str, globs: frozenset[str]) -> bool:
    """Whether a resolved path matches one of the list."""
    return any(all(_pattern(part).fullmatch(path) for part in glob.split(_AND)) for glob in globs)


def canonical(globs: frozenset[str]) -> frozenset[str]:
    """Each conjunction in one order, without those that another one includes."""
    terms = {frozenset(glob.split(_AND)) for glob in globs}
    least = (term for term in terms if not any(other < term for other in terms))
    return frozenset(_AND.join(sorted(term)) for term in least)


def both(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    """What both lists match."""
    return canonical(frozenset(_AND.join({*x.split(_AND), *y.split(_AND)}) for x in a for y in b))


def either(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    """What one of both matches."""
    return canonical(a | b)
