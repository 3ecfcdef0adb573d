"""Progress in the vocabulary of Docker's JSON message stream."""

from __future__ import annotations

from collections.abc import Callable

from rootless.ids import short_id
from rootless.units import human_size

Progress = Callable[[dict[str, object]], None]
"""Takes one message, ready to be encoded as a line of JSON."""

_STEP = 512 * 1024
_WIDTH = 50


def nobody(_message: dict[str, object]) -> None:
    """A listener that does not care."""


def status(text: str, identifier: str = "") -> dict[str, object]:
    """``{"status": …, "progressDetail": {}, "id": …}``."""
    if not identifier:
        return {"status": text}
    return {"status": text, "progressDetail": {}, "id": identifier}


def amount(text: str, identifier: str, current: int, total: int) -> dict[str, object]:
    """A message with bytes done and the bar Docker draws."""
    done = min(_WIDTH, _WIDTH * current // total) if total > 0 else 0
    bar = "=" * done + (">" if done < _WIDTH else "") + " " * max(0, _WIDTH - done - 1)
    return {
        "status": text,
        "progressDetail": {"current": current, "total": total},
        "progress": f"[{bar}]  {human_size(current)}/{human_size(total)}",
        "id": identifier,
    }


class Meter:
    """Reports one blob's progress, at most once per half mebibyte."""

    def __init__(self, report: Progress, digest: str, total: int) -> None:
        self._report = report
        self._id = short_id(digest)
        self._total = total
        self._shown = -_STEP

    def status(self, text: str) -> None:
        """A plain status of this blob."""
        self._report(status(text, self._id))

    def at(self, text: str, current: int) -> None:
        """``current`` bytes are done."""
        if current - self._shown >= _STEP or (current >= self._total > self._shown):
            self._shown = current
            self._report(amount(text, self._id, current, self._total))

    def restart(self) -> None:
        """The next report counts from zero again."""
        self._shown = -_STEP
