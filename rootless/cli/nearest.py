"""The word that was probably meant: only a real slip of the keys is taken for one.

Similarity by common letters (difflib) finds ``--gpus`` in ``--bogus``; a wrong
suggestion is worse than none. Imported for a message only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORT = 5
"""Up to here one slip, above it two: a word of five letters is two slips from too many others."""
_PREFIX = 3


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` begins, or that is a slip or two away; None when none is."""
    words = sorted(known)
    if len(word) >= _PREFIX:
        begun = [found for found in words if found.startswith(word)]
        if begun:
            return min(begun, key=len)
    most = 1 if len(word) <= _SHORT else 2
    slips = [(_distance(word, found), found) for found in words if abs(len(found) - len(word)) <= 2]
    best = min(slips, default=(most + 1, ""))
    # A word of one letter is one slip from every other.
    return best[1] if best[0] <= most and best[0] < len(word) else None


def _distance(left: str, right: str) -> int:
    """Letters left out, added, replaced or swapped (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
