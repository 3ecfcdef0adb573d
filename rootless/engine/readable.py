"""A pipe as the archive readers want it."""

from __future__ import annotations

import os

from rootless.errors import InvalidInput


class Readable:
    """Reads a pipe whose end may come too early."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._whole = True

    def __enter__(self) -> Readable:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def cut(self) -> None:
        """The end of the pipe will not be the end of what was to come through it."""
        self._whole = False

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; b'' at the end."""
        data = os.read(self._fd, size)
        if not data and not self._whole:
            raise InvalidInput("the archive ends early: its sender went away")
        return data
