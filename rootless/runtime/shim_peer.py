"""What a shim knows of a client of its socket."""

from __future__ import annotations

from collections import deque


class Client:
    """One connection to the shim's socket."""

    __slots__ = (
        "attached", "closing", "due", "fd", "feeds_stdin", "incoming", "outgoing", "pending",
        "read_closed", "streams", "waiting",
    )  # fmt: skip

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.streams: set[int] = set()
        self.feeds_stdin = False
        self.attached = False
        self.waiting = False
        self.incoming = b""
        self.due = 0
        self.outgoing: deque[memoryview] = deque()
        self.pending = 0
        self.closing = False
        self.read_closed = False
