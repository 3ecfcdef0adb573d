"""What a shim knows of a client of its socket, and what waits to be sent to it."""

from __future__ import annotations

import os
import struct
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootless.runtime.shim_spool import Spool

HEADER = struct.Struct(">BxxxI")
"""Docker's frame: stream, length of what follows."""
HIGH_WATER = 1 << 20
"""Bytes that wait in memory for one side before the other has to."""


class Client:
    """One connection to the shim's socket."""

    __slots__ = (
        "attached", "closing", "due", "fd", "feeds_stdin", "incoming", "outgoing", "pending",
        "read_closed", "spool", "streams", "waiting",
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
        """Bytes of ``outgoing``; whole frames but for what was sent of the first."""
        self.spool: Spool | None = None
        """What comes after ``outgoing``, of one that is behind the other readers."""
        self.closing = False
        self.read_closed = False

    def reads(self) -> bool:
        """Whether it is sent output."""
        return bool(self.streams) and not self.closing

    def is_full(self) -> bool:
        """Whether enough waits for it."""
        return self.pending > HIGH_WATER or self.spool is not None

    def has_room(self) -> bool:
        """Whether it may be sent more, after it was full."""
        return self.pending <= HIGH_WATER // 2 and self.spool is None

    def send(self, header: bytes, data: bytes, *, spill: bool = False) -> None:
        """Send both, or keep what the client does not take now. OSError: it is gone.

        With ``spill`` a full client's go to a file.
        """
        if self.spool is not None or (spill and self.is_full()):
            self._spill(header, data)
            return
        sent = 0
        if not self.outgoing:
            try:
                sent = os.writev(self.fd, (header, data))
            except BlockingIOError:
                sent = 0
        if sent < len(header) + len(data):
            self._keep(memoryview(header + data)[sent:])

    def _keep(self, data: memoryview) -> None:
        self.outgoing.append(data)
        self.pending += len(data)

    def flush(self) -> None:
        """Send what waits, as far as the client takes it. OSError: it is gone."""
        while self.outgoing:
            head = self.outgoing[0]
            try:
                count = os.write(self.fd, head)
            except BlockingIOError:
                break
            self.pending -= count
            if count == len(head):
                self.outgoing.popleft()
            else:
                self.outgoing[0] = head[count:]
            if self.spool is not None and self.pending <= HIGH_WATER // 2:
                self._refill(self.spool)

    def _spill(self, header: bytes, data: bytes) -> None:
        from rootless.runtime.shim_spool import Spool

        if self.spool is None:
            self.spool = Spool()
        try:
            self.spool.append(header, data)
        except OSError as error:
            self._give_up(self.spool, error.strerror or str(error))

    def _refill(self, spool: Spool) -> None:
        try:
            data = spool.take()
        except OSError as error:
            self._give_up(spool, error.strerror or str(error))
            return
        self._keep(memoryview(data))
        if not spool.size:
            spool.close()
            self.spool = None

    def _give_up(self, spool: Spool, reason: str) -> None:
        """No more is kept for it: it is told so, and its connection ends there."""
        text = (
            f"\r\nrootless: this client reads slower than others that are attached, and no more "
            f"is kept for it ({reason}): {spool.size} bytes and all that follow are left out\r\n"
        ).encode()
        spool.close()
        self.spool = None
        self.closing = True
        self._keep(memoryview(HEADER.pack(max(self.streams), len(text)) + text))

    def close(self) -> None:
        """Let go of everything."""
        if self.spool is not None:
            self.spool.close()
        os.close(self.fd)
