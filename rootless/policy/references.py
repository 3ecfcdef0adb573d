"""Where a rule comes from, as reports name it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_CIS = re.compile(r"CIS (?P<ids>.+)")
_PSS = re.compile(r"PSS (baseline|restricted): (?P<ids>.+)")
_NIST = re.compile(r"NIST 800-190 (?P<ids>.+)")


@dataclass(frozen=True, slots=True)
class Reference:
    """``standard`` is pss, cis-docker or nist-800-190; ``id`` its own name for the check."""

    standard: str
    id: str


@lru_cache(maxsize=256)
def parse_references(texts: tuple[str, ...]) -> tuple[Reference, ...]:
    """The references of a rule, taken apart: ``CIS 5.10, 5.16`` are two."""
    found = []
    for text in texts:
        for standard, pattern in (("cis-docker", _CIS), ("pss", _PSS), ("nist-800-190", _NIST)):
            match = pattern.fullmatch(text)
            if match is not None:
                found += [Reference(standard, name) for name in match["ids"].split(", ")]
                break
        else:
            raise ValueError(f"{text!r} is no reference")
    return tuple(found)
