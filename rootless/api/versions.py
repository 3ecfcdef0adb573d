"""API versions: which are spoken, and how they are written."""

from __future__ import annotations

import re

from rootless.errors import InvalidInput

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
_VERSION = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,3}")


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version; missing ones count as zero, as in Docker."""
    if _VERSION.fullmatch(text) is None:
        raise InvalidInput(f"invalid API version {text[:40]!r}", hint=f"such as v{API_VERSION}")
    found = tuple(map(int, text.split(".")))
    return (*found, 0) if len(found) == 1 else found


_MAX = _numbers(API_VERSION)
_MIN = _numbers(MIN_API_VERSION)


def parse_version(text: str, least: tuple[int, ...] = _MIN) -> tuple[int, int]:
    """The version of a request's path, at least ``least``, or Docker's refusal."""
    version = _numbers(text)
    if version < least:
        raise InvalidInput(
            f"client version {text} is too old. Minimum supported API version is "
            f"{'.'.join(map(str, least))}, please upgrade your client to a newer version"
        )
    major, minor, *rest = version
    if (major, minor) > _MAX or ((major, minor) == _MAX and any(rest)):
        raise InvalidInput(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )
    return major, minor
