"""Docker's list filters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from rootless.errors import InvalidInput
from rootless.units import parse_duration

Filters = Mapping[str, Sequence[str]]


def check_filters(filters: Filters, known: frozenset[str]) -> None:
    """Refuse a filter nobody would apply: ignoring it would widen a prune."""
    for key in filters:
        if key not in known:
            raise InvalidInput(
                f"invalid filter '{key}'", hint=f"known filters: {', '.join(sorted(known))}"
            )


def match_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """True when every ``key`` or ``key=value`` of ``wanted`` holds (labels are and-ed)."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def match_name(name: str, wanted: Sequence[str]) -> bool:
    """True when one of the regular expressions is found in ``name``, or when there is none."""
    for text in wanted:
        try:
            if text == name or re.search(text, name):
                return True
        except re.error:
            continue  # only an equal name fits what is none (Docker)
    return not wanted


def single_bool(filters: Filters, key: str, *, default: bool) -> bool:
    """A filter that takes one boolean, such as ``dangling``."""
    values = filters.get(key, ())
    if not values:
        return default
    answers = {_bool(key, v) for v in values}
    if len(answers) != 1:
        raise InvalidInput(f"invalid filter '{key}={list(values)}': contradicting values")
    return answers.pop()


def _bool(key: str, text: str) -> bool:
    lowered = text.lower()
    if lowered in ("1", "t", "true"):
        return True
    if lowered in ("0", "f", "false"):
        return False
    raise InvalidInput(f"invalid filter '{key}={text}'", hint="use true or false")


def until(filters: Filters, *, now_ns: int) -> int:
    """The ``until`` filter as Unix nanoseconds, 0 when absent.

    A duration (``24h``) before now, Unix seconds, or a time as RFC 3339 writes it.
    """
    values = filters.get("until", ())
    if not values:
        return 0
    if len(values) > 1:
        raise InvalidInput("more than one until filter specified")
    return parse_moment(values[0], now_ns=now_ns)


def parse_moment(text: str, *, now_ns: int) -> int:
    """Unix nanoseconds of ``10m`` (ago), ``1700000000.5`` or ``2026-01-02T03:04:05``."""
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]+)?", text):
        seconds, _, rest = text.partition(".")
        return int(seconds) * 10**9 + int(rest.ljust(9, "0")[:9])
    try:
        return now_ns - parse_duration(text)
    except InvalidInput:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InvalidInput(
                f"invalid time: {text!r}", hint="write 24h, Unix seconds or an RFC 3339 time"
            ) from None
    return int(moment.astimezone().timestamp()) * 10**9 + moment.microsecond * 1000
