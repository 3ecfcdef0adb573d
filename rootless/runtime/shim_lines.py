"""A stream's bytes as records: runs of whole lines, and parts of lines longer than 16 KiB."""

from __future__ import annotations

import time
from typing import Protocol

PART = 16 << 10
Piece = tuple[int, bytes]
"""Nanoseconds since the epoch and text: whole lines, each with its newline, or a part without."""


def cut(data: bytes) -> tuple[list[bytes], int]:
    """Runs of whole lines and parts of longer ones, and where the unfinished line begins."""
    found: list[bytes] = []
    start, size = 0, len(data)
    while start < size:
        end = start
        while (newline := data.rfind(b"\n", end, end + PART + 1)) >= 0:
            end = newline + 1
        if end > start:
            found.append(data if end - start == size else data[start:end])
            start = end
        if size - start <= PART:
            break
        stop = start + PART
        while stop > start + PART - 4 and data[stop] & 0xC0 == 0x80:
            stop -= 1  # between characters: half of one would be no UTF-8
        found.append(data[start:stop])
        start = stop
    return found, start


class Lines:
    """Cuts the streams of one process. All parts of a line have the time of the first."""

    __slots__ = ("_began", "_rest")

    def __init__(self) -> None:
        self._rest: dict[int, bytes] = {}
        self._began: dict[int, int] = {}

    def feed(self, stream: int, data: bytes, now_ns: int) -> list[Piece]:
        """What can be recorded of ``stream`` now that ``data`` came at ``now_ns``."""
        data = self._rest.pop(stream, b"") + data
        texts, start = cut(data)
        if start < len(data):
            self._rest[stream] = data[start:]
        if stream not in self._began and ((len(texts) == 1 and texts[0][-1] == 10) or not texts):
            return [(now_ns, text) for text in texts]
        return self._timed(stream, texts, now_ns)

    def _timed(self, stream: int, texts: list[bytes], now_ns: int) -> list[Piece]:
        began = self._began.pop(stream, 0)
        pieces: list[Piece] = []
        for text in texts:
            end = text.find(b"\n") + 1
            if not end:
                began = began or now_ns
                pieces.append((began, text))
                continue
            if began:
                pieces.append((began, text[:end]))
                began = 0
            else:
                end = 0
            if end < len(text):
                pieces.append((now_ns, text[end:]))
        if began:
            self._began[stream] = began
        return pieces

    def finish(self, now_ns: int) -> list[tuple[int, Piece]]:
        """The unfinished lines, with their streams: nothing follows."""
        pieces = [
            (stream, (self._began.get(stream, now_ns), rest))
            for stream, rest in sorted(self._rest.items())
        ]
        self._rest.clear()
        self._began.clear()
        return pieces


class Log(Protocol):
    """Where output is recorded."""

    def write(self, stream: int, data: bytes) -> bool:
        """Record ``data`` of stream 1 or 2; True when it takes no more until it says so.

        (``Pump.log_ready``)
        """

    def relent(self) -> None:
        """Lose records rather than let anybody wait any longer."""

    def close(self) -> None:
        """Finish."""


class LineLog:
    """A :class:`Log` of whole lines; drivers say how a piece is kept."""

    __slots__ = ("_lines",)

    _lines: Lines | None

    def write(self, stream: int, data: bytes) -> bool:
        """Log ``data`` of ``stream``; an unfinished line waits for its end.

        True when the log can take no more for now.
        """
        full = False
        if self._lines is None:  # a silent container needs none
            self._lines = Lines()
        for piece in self._lines.feed(stream, data, time.time_ns()):
            full = self.put(stream, piece)
        return full

    def put(self, stream: int, piece: Piece) -> bool:
        """Log one piece; True when the log can take no more for now."""
        raise NotImplementedError

    def relent(self) -> None:
        """Let nobody wait any longer; a log that never makes anybody wait has nothing to do."""

    def finish(self) -> None:
        """Log unfinished lines as they are."""
        for stream, piece in self._lines.finish(time.time_ns()) if self._lines else ():
            self.put(stream, piece)
