"""A sandbox made before it is asked for.

Most containers of an engine begin alike: the same new namespaces, the same id
map, the same /proc, /sys and /dev, and often the same image. The daemon orders a
spare that makes all that and waits; the next container with an equal frame
(``sequence.frame_of``) gets it and saves that time. What the spare was made
from is compared once more, field by field, by its builder.
"""

from __future__ import annotations

import array
import socket

from rootless.runtime import wire
from rootless.runtime.zygote import Zygote


class Spare:
    """At most one waiting sandbox."""

    def __init__(self) -> None:
        self._ours: socket.socket | None = None
        self._key = wire.NO_KEY

    def make(self, data: bytes, zygote: Zygote) -> None:
        """Have one made as ``data`` says; it waits at the other end of a socket.

        Not for a plan so long that it is in a memory file: its next of kind is not near.
        """
        self.drop()
        if wire.key_of(data) == wire.NO_KEY:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            zygote.fork_shim(data, [theirs.fileno()])
        self._ours, self._key = ours, wire.key_of(data)

    def use(self, data: bytes, fds: list[int]) -> bool:
        """Give the request to the waiting spare when it fits; False when none does."""
        key = wire.key_of(data)
        if self._ours is None or key == wire.NO_KEY:
            return False
        fits = key == self._key
        if fits:
            rights = array.array("i", fds)
            try:
                self._ours.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except OSError:
                fits = False  # it died meanwhile
        # One that does not fit makes room for one that fits what is asked now.
        self.drop()
        return fits

    def drop(self) -> None:
        """Let the spare go: without an order its builder ends and undoes it."""
        if self._ours is not None:
            self._ours.close()
            self._ours = None
