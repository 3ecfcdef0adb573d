"""Detach keys: the sequence that leaves an attached terminal without stopping it."""

from __future__ import annotations

from rootless.errors import InvalidInput

DEFAULT = b"\x10\x11"
"""ctrl-p, ctrl-q."""

_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """The bytes of ``ctrl-p,ctrl-q`` or ``a,b`` or ``DEL``; the default for ''."""
    if not text:
        return DEFAULT
    return bytes(_key(name) for name in text.split(","))


def _key(name: str) -> int:
    if len(name) == 1 and name.isascii():
        return ord(name)
    if name == "DEL":
        return 127
    control = name.removeprefix("ctrl-")
    if control != name and len(control) == 1:
        if "a" <= control <= "z":
            return ord(control) - ord("a") + 1
        if control in _CONTROL:
            return _CONTROL[control]
    raise InvalidInput(
        f"invalid detach keys: unknown key {name!r}",
        hint="a comma-separated list of characters, ctrl-LETTER or DEL, such as ctrl-p,ctrl-q",
    )


class DetachScanner:
    """Finds the sequence in what a client types, across chunks.

    Bytes that may begin the sequence are held back until the next byte decides.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What the process gets, and whether the client detached."""
        data = self._held + data
        at = data.find(self._keys)
        if at >= 0:
            self._held = b""
            return data[:at], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if self._keys.startswith(data[-length:]):
                self._held = data[-length:]
                return data[:-length], False
        self._held = b""
        return data, False

    def rest(self) -> bytes:
        """What was held back when the input ended."""
        held, self._held = self._held, b""
        return held
