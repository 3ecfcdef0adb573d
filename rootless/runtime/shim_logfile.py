"""A log file that is appended to and rotated: ``path.1`` is the youngest of the old ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_QUIET_SECONDS = 10.0
"""A disk that is full now and then is not told of more often."""

Tell = Callable[[str], None]
"""Takes a sentence for the daemon's log."""


class LogFile:
    """Writes whole records. Nothing that fails stops the container.

    What could not be written is lost, counted, and said: once when it begins
    and once when records are written again. ``tell`` hears both.
    """

    __slots__ = (
        "_failing",
        "_lost",
        "_quiet_until",
        "_tell",
        "fd",
        "max_files",
        "max_size",
        "on_open",
        "on_rotate",
        "path",
        "size",
    )  # fmt: skip

    def __init__(self, path: str, max_size: int, max_files: int, tell: Tell | None = None) -> None:
        """``max_size`` in bytes, 0 for no bound."""
        self.path = path
        self.size = 0
        self.max_size = max_size
        self.max_files = max(1, max_files)
        self._tell = tell
        self._failing = False
        self._quiet_until = 0.0
        self._lost = 0
        self.fd = -1
        self.on_open: Callable[[int, int], int] | None = None
        """Mends a file found at the start, by descriptor and size; gives what is left of it."""
        self.on_rotate: Callable[[], None] | None = None

    def open(self) -> bool:
        """Open the file or go on with it; False when that is not possible now."""
        if self.fd >= 0:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self.fd = os.open(self.path, flags, 0o600)
            self.size = os.lseek(self.fd, 0, os.SEEK_END)
            if self.size and self.on_open is not None:
                self.size = self.on_open(self.fd, self.size)
        except OSError as error:
            self._fail(0, error)
            return False
        return True

    def room(self) -> int:
        """Bytes until the file is full."""
        return max(0, self.max_size - self.size)

    def write(self, records: bytes, separator: bytes) -> bool:
        """Append ``records``; of what does not fit the disk stays what ends in ``separator``."""
        if not self.open():
            self._lost += len(records)
            return False
        written = 0
        try:
            while written < len(records):
                written += os.write(self.fd, memoryview(records)[written:])
        except OSError as error:
            kept = records.rfind(separator, 0, written) + 1 if separator else 0
            self._take_back(written, kept)
            self._fail(len(records) - kept, error)
            return False
        self.size += written
        if self._failing:
            self._failing = False
            self._say(f"the log is written again; {self._lost} bytes were lost")
            self._lost = 0
        return True

    def _take_back(self, written: int, kept: int) -> None:
        """Undo what would spoil the next record."""
        try:
            os.ftruncate(self.fd, self.size + kept)
            self.size += kept
        except OSError:
            self.size += written

    def _fail(self, size: int, error: OSError) -> None:
        self._lost += size
        now = time.monotonic()
        if not self._failing and now >= self._quiet_until:
            self._failing = True
            self._quiet_until = now + _QUIET_SECONDS
            reason = os.strerror(error.errno or 0)
            self._say(f"cannot write the log {self.path}: {reason}; output is lost meanwhile")

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(text)

    def rotate(self) -> None:
        """Begin an empty file; whatever fails, records go where they can."""
        self.size = 0
        try:
            if self.max_files == 1:
                os.unlink(self.path)
            self.shift()
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            fd = os.open(self.path, flags, 0o600)
        except OSError:
            return
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd
        if self.on_rotate is not None:
            self.on_rotate()

    def shift(self) -> None:
        """Make each file one older; the oldest goes when there are as many as may be."""
        count = 0
        while count < self.max_files - 1 and os.path.exists(f"{self.path}.{count + 1}"):
            count += 1
        for index in range(min(count, self.max_files - 2), 0, -1):
            os.replace(f"{self.path}.{index}", f"{self.path}.{index + 1}")
        if self.max_files > 1 and os.path.exists(self.path):
            os.replace(self.path, f"{self.path}.1")

    def close(self) -> None:
        """Close the file."""
        if self._lost:
            self._say(f"{self._lost} more bytes of the log were lost")
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
