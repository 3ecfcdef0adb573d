"""API versions: which are spoken, and how they are written."""

from __future__ import annotations

import re

from rootless.errors import InvalidInput

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})")


def _numbers(text: str) -> tuple[int, int]:
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InvalidInput(f"invalid API version {text!r}", hint=f"use for example v{API_VERSION}")
    return int(match[1]), int(match[2])


_MAX = _numbers(API_VERSION)
_MIN = _numbers(MIN_API_VERSION)


def parse_version(text: str) -> tuple[int, int]:
    """The version of a request's path, or Docker's refusal."""
    version = _numbers(text)
    if version < _MIN:
        raise InvalidInput(
            f"client version {text} is too old. Minimum supported API version is "
            f"{MIN_API_VERSION}, please upgrade your client to a newer version"
        )
    if version > _MAX:
        raise InvalidInput(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )
    return version
