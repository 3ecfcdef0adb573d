"""A bounded queue between a container's output and a log that may be slow: one thread writes.

Only shims import it whose log driver sends records away, or whose mode is
non-blocking. When the queue is full

- and the mode is non-blocking, or the log fails altogether, what comes is lost,
  counted and said;
- otherwise the shim reads no more output until half of the queue is free, and
  the container waits in write(2): the log's own back pressure.

At the end the log has ten seconds (Docker's) to take what is queued; in
non-blocking mode one that takes nothing for a second gets no more.
"""

from __future__ import annotations

import _thread
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rootless.runtime.shim_lines import LineLog, Piece
from rootless.runtime.shim_logfile import Tell

_STACK = 256 << 10
_AGAIN = 1.0
"""Seconds until a sink that failed is tried again."""
_FEW, _SMALL = 1000, 32
"""A piece costs memory of its own: of smaller ones than these on average, fewer bytes may wait."""
_MOMENT = 0.001
_END, _IDLE_END = 10.0, 1.0
"""How long the container's end waits; in mode non-blocking only for a sink that moves."""


class Sink(Protocol):
    """Where the thread writes to; its calls may block."""

    def put(self, stream: int, piece: Piece) -> object:
        """Write a piece whole; OSError when that failed, and may be tried again."""

    def close(self) -> None:
        """Write what is left and close."""


class QueuedLog(LineLog):
    """``limit`` bytes may wait; ``drop`` is the non-blocking mode; ``name`` is for messages.

    ``wake`` is called, in any thread, when the log takes records again or has something to say.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        limit: int,
        *,
        drop: bool,
        tell: Tell,
        wake: Callable[[], None],
    ) -> None:
        self._lines = None
        self._name = name
        self._sink = sink
        self._limit = limit
        self._most = _FEW + limit // _SMALL
        self._drop = drop
        self._tell = tell
        self._wake = wake
        self._queue: deque[tuple[int, Piece]] = deque()
        self._lock = _thread.allocate_lock()
        self._size = 0
        self._waited = False
        self._taken = self._taken_before = 0
        self._failing = ""
        self._lost = 0
        self._ended = False
        self._work = os.eventfd(0, os.EFD_CLOEXEC)
        self._done = _thread.allocate_lock()
        self._done.acquire()
        previous = _thread.stack_size(_STACK)
        _thread.start_new_thread(self._run, ())
        _thread.stack_size(previous)

    # -- the shim's side -----------------------------------------------------

    def put(self, stream: int, piece: Piece) -> bool:
        """Queue a piece; True when the queue is full and the container has to wait."""
        time_ns, text = piece
        if (
            self._drop
            and self._size + len(text) > self._limit
            and self._taken_before != self._taken
        ):
            # The thread works, but needs a moment of this interpreter: a sink that does not
            # move gets none.
            self._taken_before = self._taken
            time.sleep(_MOMENT)
        with self._lock:
            room = self._limit - self._size if len(self._queue) < self._most else 0
            lossy = self._drop or self._failing
            if len(text) > room and lossy:
                # Whole lines that fit; one that is larger than the whole queue goes alone.
                kept = text.rfind(b"\n", 0, max(room, 0)) + 1 if self._queue else len(text)
                self._lose(len(text) - kept)
                text = text[:kept]
            if text:
                self._queue.append((stream, (time_ns, text)))
                self._size += len(text)
            crowded = self._size >= self._limit or len(self._queue) >= self._most
            self._waited = not lossy and crowded
            full = self._waited
        os.eventfd_write(self._work, 1)
        return full

    def _lose(self, size: int) -> None:
        if size and not self._lost and not self._failing:
            self._tell(f"{self._name} is slower than the output, of which some is lost")
        self._lost += size

    def full(self) -> bool:
        """Whether the container has to wait."""
        with self._lock:
            return self._waited

    def relent(self) -> None:
        """Let the container wait no more: what does not fit is lost from now on."""
        with self._lock:
            self._drop, self._waited = True, False

    def close(self) -> None:
        """Give the thread its time to write what is queued."""
        self.finish()
        self._ended = True
        os.eventfd_write(self._work, 1)
        deadline, taken = time.monotonic() + _END, self._taken
        while late := not self._done.acquire(timeout=_IDLE_END):
            if time.monotonic() >= deadline or (self._drop and taken == self._taken):
                break
            taken = self._taken
        with self._lock:
            lost = self._lost + (self._size if late else 0)
        if lost:
            self._tell(f"{self._name} ends without {lost} bytes")

    # -- the thread ----------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                os.eventfd_read(self._work)
                while self._queue and self._take():
                    pass
                if self._ended and not self._queue:
                    self._sink.close()
                    return
        finally:
            self._done.release()

    def _take(self) -> bool:
        """Write the first piece; False when the shim ends and the sink fails."""
        stream, piece = self._queue[0]
        try:
            self._sink.put(stream, piece)
        except (OSError, ValueError) as error:  # ValueError: what a library refuses to send
            return self._fail(error)
        with self._lock:
            self._queue.popleft()
            self._size -= len(piece[1])
            self._taken += 1
            recovered, self._failing = self._failing, ""
            lost = self._lost if recovered else 0
            self._lost -= lost
            half = self._size <= self._limit // 2 and len(self._queue) <= self._most // 2
            free = self._waited and half
            if free:
                self._waited = False
        if recovered:
            self._tell(f"{self._name} is written again; {lost} bytes were lost")
        if free:
            self._wake()
        return True

    def _fail(self, error: Exception) -> bool:
        reason = str(getattr(error, "strerror", None) or error)
        with self._lock:
            known, self._failing = self._failing, reason
            waited, self._waited = self._waited, False
        if not known:
            self._tell(f"cannot write {self._name}: {self._failing}; it is tried again")
        if waited:
            self._wake()
        if self._ended:
            with self._lock:
                self._lost += self._size
                self._queue.clear()
                self._size = 0
            return False
        time.sleep(_AGAIN)
        return True
