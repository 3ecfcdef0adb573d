"""What is done in order, but not while a client waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Behind:
    """Calls that are made as soon as the event loop's turn ends: while others work, or all is idle.

    At once where no event loop runs.
    """

    def __init__(self) -> None:
        self._due: deque[Callable[[], object]] = deque()

    def add(self, call: Callable[[], object]) -> None:
        """Have ``call`` made after those that were added before."""
        self._due.append(call)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.settle()
        else:
            loop.call_soon(self.settle)

    def settle(self) -> None:
        """Make the calls that are due."""
        while True:
            try:
                call = self._due.popleft()
            except IndexError:
                return
            call()
