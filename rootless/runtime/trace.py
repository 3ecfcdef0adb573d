"""The time line of a start, for ``ci/bench startup``.

Marks are taken always (a clock read and an append, well under a microsecond)
and sent only when the plan asks. Times are CLOCK_MONOTONIC in nanoseconds,
comparable between the processes of one host.
"""

from __future__ import annotations

import time

_marks: list[tuple[str, int]] = []


def mark(name: str) -> None:
    """Note that ``name`` is done now."""
    _marks.append((name, time.monotonic_ns()))


def take() -> tuple[tuple[str, int], ...]:
    """The marks of this process so far, and forget them."""
    marks = tuple(_marks)
    _marks.clear()
    return marks
