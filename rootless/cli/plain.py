"""What others wrote is shown on a terminal as text, never obeyed by it.

Names, labels, paths and error messages come from images, containers, registries
and daemons. On a terminal an escape sequence in them could retitle the window,
hide lines or answer for the user; written to a file or a pipe they stay as they
are. Output of containers (run, logs, attach, exec) does not come this way.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

_CONTROLS = (
    *(code for code in range(32) if chr(code) not in "\t\n"),
    *range(0x7F, 0xA0),
    # Marks that reorder the text around them (Unicode TR 36, bidirectional spoofing).
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_SHOWN = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _CONTROLS}


def clean(text: str) -> str:
    """The text with its control characters spelled out."""
    return text.translate(_SHOWN)


class Plain:
    """A terminal's stream that shows control characters instead of sending them."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, cleaned."""
        return self._stream.write(clean(text))

    def control(self, text: str) -> int:
        """Write what we made ourselves, escape sequences and all."""
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def control(stream: TextIO, text: str) -> None:
    """Write our own escape sequences to ``stream``, guarded or not."""
    if isinstance(stream, Plain):
        stream.control(text)
    else:
        stream.write(text)


def guard() -> None:
    """Guard standard output and error where they are terminals."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream.isatty():
            setattr(sys, name, Plain(stream))
