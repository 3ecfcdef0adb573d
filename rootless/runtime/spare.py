"""A sandbox made before it is asked for.

Most containers of an engine begin alike: the same new namespaces, the same id
map, the same /proc, /sys and /dev. After one start the launcher orders a spare
that does all that and waits; the next container with an equal frame
(``sequence.frame_of``) gets it and saves that time. What the spare was made
from is compared once more, field by field, by its builder.
"""

from __future__ import annotations

import array
import socket

from rootless.runtime import wire
from rootless.runtime.zygote import SPARE, Zygote


class Spare:
    """At most one waiting sandbox, and the request it was made after (``template``)."""

    def __init__(self) -> None:
        self.template = b""
        self._ours: socket.socket | None = None
        self._key = wire.NO_KEY

    def is_wanted(self) -> bool:
        """Whether there is something to make one from and none waits."""
        return self._ours is None and bool(self.template)

    def make(self, zygote: Zygote) -> None:
        """Have one made; it waits at the other end of a socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        zygote.fork_shim(wire.retagged(self.template, SPARE), [theirs.fileno()])
        theirs.close()
        self._ours, self._key = ours, wire.key_of(self.template)

    def use(self, data: bytes, fds: list[int]) -> bool:
        """Give the request to the waiting spare when it fits; False when none does."""
        key = wire.key_of(data)
        if key == wire.NO_KEY:
            return False
        self.template = data
        if self._ours is None:
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
