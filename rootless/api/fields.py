"""What becomes of each field and parameter of a request.

The rows of ``routes/`` say it of query parameters, the structs of ``dto/`` of body
fields. The checks here and in ``dto/decode.py`` act on it and docs/api.md is made
from it, so that what is written and what happens cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rootless.errors import InvalidInput

_NO = frozenset(("", "0", "no", "false", "none"))
_TOLD = 16
"""So many warnings go into a header; more are counted."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a field is taken, and why or within which limits.

    ``supported``: it has its effect. ``ignored``: the request goes on and the client is
    warned, unless the field ``beside`` it, which asks for the same, is given as well.
    ``refused``: 400, unless the value asks for nothing. Clients of a version
    before ``since`` do not mean it.
    """

    how: Literal["supported", "ignored", "refused"]
    note: str = ""
    since: tuple[int, int] = (0, 0)
    beside: str = ""


SUPPORTED = Treatment("supported")
Query = Mapping[str, Treatment]


def limited(note: str) -> Treatment:
    """Supported, with something to know about it."""
    return Treatment("supported", note)


def since(major: int, minor: int, note: str = "") -> Treatment:
    """Supported from an API version on."""
    return Treatment("supported", note, (major, minor))


def ignored(why: str, *, beside: str = "") -> Treatment:
    """Taken without effect; the answer warns, unless the field ``beside`` is there too."""
    return Treatment("ignored", why, beside=beside)


def refused(why: str) -> Treatment:
    """An error when it asks for anything."""
    return Treatment("refused", why)


def query(*names: str, **others: Treatment) -> Query:
    """The parameters of a row; underscores in keywords stand for dashes."""
    found = dict.fromkeys(names, SUPPORTED)
    found.update((name.replace("_", "-"), treatment) for name, treatment in others.items())
    return found


def says_no(value: str) -> bool:
    """Docker's rule for booleans of a query: '', 0, no, false and none are false."""
    return value.strip().lower() in _NO


def check_query(
    known: Query, given: Iterable[tuple[str, str]], version: tuple[int, int]
) -> list[str]:
    """Warnings for parameters without effect; raises InvalidInput for a refused one."""
    warnings = []
    for name, value in given:
        treatment = known.get(name)
        if treatment is None:
            warnings.append(f"parameter {name[:80]} is not known and was ignored")
        elif version < treatment.since:
            needed = ".".join(map(str, treatment.since))
            warnings.append(f"parameter {name} needs API v{needed} and was ignored")
        elif treatment.how == "supported" or says_no(value):
            continue
        elif treatment.how == "ignored":
            warnings.append(f"parameter {name} was ignored: {treatment.note}")
        else:
            raise InvalidInput(f"parameter {name} is not supported: {treatment.note}")
    return warnings


def warning_header(warnings: Iterable[str]) -> str:
    """The value of a ``Warning`` header (RFC 7234, 5.5; 299 is "miscellaneous, persistent")."""
    told = list(warnings)
    if len(told) > _TOLD:
        told[_TOLD:] = [f"and {len(told) - _TOLD} more"]
    return ", ".join(f'299 rootless "{_quoted(text)}"' for text in told)


def _quoted(text: str) -> str:
    """The inside of a quoted string; what a client sent may hold anything."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[:300])
    return plain.replace("\\", "\\\\").replace('"', '\\"')
