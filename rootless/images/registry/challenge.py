"""WWW-Authenticate: what a registry wants (RFC 7235, section 2.1 and 4.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAX_HEADER = 8192
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_WORD})(?=\s|,|$)")
_PARAMETER = re.compile(
    rf'\s*,?\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))'  # value quoted or a token
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme (lower case) and its parameters (lower-case names)."""

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """The parameter ``name``, or ''."""
        return next((value for key, value in self.parameters if key == name), "")


def parse(header: str) -> tuple[Challenge, ...]:
    """The challenges of one header value; what cannot be read ends the list."""
    found: list[Challenge] = []
    at = 0
    header = header[:_MAX_HEADER]
    while at < len(header):
        scheme = _SCHEME.match(header, at)
        if scheme is None:
            break
        at = scheme.end()
        parameters: list[tuple[str, str]] = []
        while parameter := _PARAMETER.match(header, at):
            at = parameter.end()
            quoted = parameter[2]
            value = parameter[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.append((parameter[1].lower(), value))
        found.append(Challenge(scheme[1].lower(), tuple(parameters)))
    return tuple(found)
