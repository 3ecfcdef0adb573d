"""The user's terminal: raw mode that is always undone, and its size."""

from __future__ import annotations

import termios

from rootless.client import lightos as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class RawMode:
    """Puts a terminal into raw mode and back, any number of times.

    Raw as cfmakeraw(3) has it, but output post-processing stays as it is off:
    the container's own terminal already turns newlines into CR LF.
    """

    __slots__ = ("_saved", "active", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.active = False
        self._saved: list[Any] = termios.tcgetattr(fd)

    @property
    def gone(self) -> bool:
        """True after a hangup."""
        try:
            termios.tcgetattr(self.fd)
        except (OSError, termios.error):
            return True
        return False

    def enter(self) -> None:
        """Switch to raw mode; a terminal that is gone (EIO after a hangup) stays as it is.

        A hangup comes as SIGHUP and SIGCONT, and the latter makes us enter again.
        """
        try:
            self._enter(termios.tcgetattr(self.fd))
        except (OSError, termios.error):
            self.active = False

    def _enter(self, mode: list[Any]) -> None:
        mode[_IFLAG] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[_OFLAG] &= ~termios.OPOST
        mode[_LFLAG] &= ~(
            termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
        )
        mode[_CFLAG] = (mode[_CFLAG] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        characters = list(mode[_CC])
        characters[termios.VMIN] = 1
        characters[termios.VTIME] = 0
        mode[_CC] = characters
        self.active = True
        termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)

    def leave(self) -> None:
        """Restore what was found, without losing input (a terminal that is gone is fine)."""
        if not self.active:
            return
        self.active = False
        try:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)
        except (OSError, termios.error):
            return


def window_size(*fds: int) -> tuple[int, int] | None:
    """(height, width) of the first descriptor that is a terminal."""
    for fd in fds:
        try:
            size = os.get_terminal_size(fd)
        except (OSError, ValueError):
            continue
        if size.lines and size.columns:
            return size.lines, size.columns
    return None
