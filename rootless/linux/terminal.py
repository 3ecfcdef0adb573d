"""Pseudo-terminals of a given devpts instance."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from rootless.errors import SyscallError
from rootless.linux.openat2 import openat2

_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431


def open_pair(root: int, rows: int, columns: int) -> tuple[int, int, str]:
    """Open /dev/pts/ptmx below ``root``: master, slave and the slave's path in the container.

    Both ends are close-on-exec. The slave is opened by its number in the same
    instance, with O_NOCTTY, so that opening it gives nobody a controlling terminal.
    """
    try:
        master = openat2(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, struct.pack("i", 0)))
        name = f"/dev/pts/{number}"
        slave = openat2(root, name, os.O_RDWR | os.O_NOCTTY)
        if rows or columns:
            set_size(master, rows, columns)
    except OSError as error:
        raise SyscallError("ioctl", "/dev/pts/ptmx", error.errno or 0) from None
    return master, slave, name


def set_size(fd: int, rows: int, columns: int) -> None:
    """The window size in characters (ioctl_tty(2)); the foreground group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def make_controlling(fd: int) -> None:
    """Make ``fd`` the controlling terminal of this session leader."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
