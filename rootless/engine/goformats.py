"""Numbers as Go's strconv and Docker's go-units read them, with their complaints."""

from __future__ import annotations

import re

from rootless.errors import InvalidInput
from rootless.units import MAX_NUMBER

_TRUE = frozenset("1 t T TRUE true True".split())
_FALSE = frozenset("0 f F FALSE false False".split())
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_SIZE = re.compile(r"(\d{1,19}(?:\.\d{0,19})?|\.\d{1,19}) ?([A-Za-z]*)", re.ASCII)
_SUFFIX = re.compile(r"b|[kmgtp](?:b|ib)?", re.IGNORECASE)


def boolean(text: str) -> bool | None:
    """What ParseBool makes of ``text``; None when it is neither."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def required_boolean(text: str) -> bool:
    """:func:`boolean`, or InvalidInput."""
    value = boolean(text)
    if value is None:
        raise InvalidInput(f'strconv.ParseBool: parsing "{text[:100]}": invalid syntax')
    return value


def integer(text: str) -> int:
    """A number with or without a sign, of at most 64 bits (Atoi)."""
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise InvalidInput(f'strconv.Atoi: parsing "{text[:100]}": invalid syntax')
    if len(text) > 19 or abs(int(text)) > MAX_NUMBER:
        raise InvalidInput(f'strconv.Atoi: parsing "{text[:100]}": value out of range')
    return int(text)


def decimal_size(text: str) -> int:
    """Bytes from ``10m``, ``1.5GB``: powers of 1000, as the size of a log file is given."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"invalid size: '{text[:100]}'")
    suffix = match[2].lower()
    if suffix and not _SUFFIX.fullmatch(suffix):
        raise InvalidInput(f"invalid suffix: '{suffix[:100]}'")
    size = int(float(match[1]) * _DECIMAL.get(suffix[:1], 1))
    if size > MAX_NUMBER:
        raise InvalidInput(f"invalid size: '{text[:100]}'")
    return size
