"""Standard input, output and error are open before anything else is.

Whoever is started with one of them closed (``rootless … >&-``) would get the
daemon's socket as descriptor 0, 1 or 2 and talk to it instead.
"""

from __future__ import annotations

import sys

from rootless.client import lightos as os

_STREAMS = ("stdin", "stdout", "stderr")


def open_standard() -> None:
    """Open /dev/null for each that is closed: nothing to read, and nothing takes output.

    Output there is an error (EBADF), as it is for a closed descriptor; only the
    words about it go nowhere.
    """
    for fd, name in enumerate(_STREAMS):
        try:
            os.fstat(fd)
        except OSError:
            flags = os.O_WRONLY if fd == 2 else os.O_RDONLY
            os.open("/dev/null", flags)  # takes the lowest number that is free: this one
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            mode = "w" if fd else "r"
            opened = open(fd, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
            setattr(sys, name, opened)
