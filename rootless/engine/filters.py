"""Docker's list filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rootless.errors import InvalidInput

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
