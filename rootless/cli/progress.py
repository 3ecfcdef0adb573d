"""Progress of pulls, pushes and loads: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os

from rootless.cli.plain import clean, control
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO


class Progress:
    """Shows the API's JSON progress messages (``id``, ``status``, ``progressDetail``).

    On a terminal each id has a line that is rewritten in place; elsewhere a line
    is printed when an id's status changes, without the counters.
    """

    __slots__ = ("_lines", "_order", "_out", "_terminal", "_width", "auxiliary")

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._order: list[str] = []
        self._lines: dict[str, str] = {}
        self._width = 80
        if self._terminal:
            try:
                self._width = os.get_terminal_size(out.fileno()).columns or 80
            except OSError:
                self._terminal = False
        self.auxiliary: list[Any] = []

    def show(self, messages: Iterable[Any]) -> None:
        """Print until the stream ends; an error message is raised."""
        for message in messages:
            if not isinstance(message, dict):
                continue
            if "errorDetail" in message or "error" in message:
                detail = message.get("errorDetail") or {}
                text = detail.get("message") or message.get("error") or "unknown error"
                head, mark, tail = str(text).rpartition(" (hint: ")
                hint = tail[:-1] if mark and tail.endswith(")") else message.get("hint")
                raise RootlessError(head if mark else str(text), hint=hint)
            if "aux" in message:
                self.auxiliary.append(message["aux"])
            self._one(message)
        self._out.flush()

    def _one(self, message: dict[str, Any]) -> None:
        if "stream" in message:
            self._out.write(str(message["stream"]))
            self._order.clear()
            return
        status = message.get("status")
        if not status:
            return
        ident = message.get("id")
        if not ident:
            self._out.write(f"{status}\n")
            self._order.clear()
            return
        detail = message.get("progressDetail") or {}
        if not self._terminal:
            if self._lines.get(ident) != status:
                self._lines[ident] = status
                self._out.write(f"{ident}: {status}\n")
            return
        line = f"{ident}: {status}"
        if detail.get("current"):
            line += " " + bar(int(detail["current"]), int(detail.get("total") or 0), self._width)
        self._rewrite(str(ident), line[: self._width - 1])

    def _rewrite(self, ident: str, line: str) -> None:
        if ident not in self._order:
            self._order.append(ident)
            self._out.write("\n")
        up = len(self._order) - self._order.index(ident)
        control(self._out, f"\x1b[{up}A\r\x1b[2K{clean(line)}\r\x1b[{up}B")
        self._out.flush()


def bar(current: int, total: int, width: int) -> str:
    """``[====>    ]  12.3MB/45.6MB``."""
    from rootless.cli.human import size4

    if total <= 0:
        return size4(current)
    room = max(10, min(50, width - 50))
    done = min(room, current * room // total)
    head = "=" * (done - 1) + ">" if 0 < done < room else "=" * done
    return f"[{head:<{room}}] {size4(min(current, total))}/{size4(total)}"
