"""Turns on the event loop, so that a burst of work for one does not hold up everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Lets one caller at a time go on, and everything else that is ready between two of them.

    A hundred requests that come in the same moment would run one after the other in one
    iteration of the event loop, and whoever comes next would wait for all of them.
    """

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def take(self) -> None:
        """Wait for a turn: none at all for the first that asks in an iteration of the loop."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # by a caller that was cancelled
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False


class Slots:
    """So many at a time as are of use, and no caller waits for ever: a slot may be held for long.

    More processes that begin at once than there are processors make none of them ready
    sooner, and leave the daemon little time for anything else.
    """

    __slots__ = ("_free", "_moved", "_patience")

    def __init__(self, count: int, *, patience: float) -> None:
        """A caller goes on without one when none was given back for ``patience`` seconds."""
        self._free = asyncio.Semaphore(count)
        self._patience = patience
        self._moved = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold one."""
        held = await self._acquire()
        try:
            yield
        finally:
            if held:
                self._moved += 1
                self._free.release()

    async def _acquire(self) -> bool:
        while True:
            seen = self._moved
            try:
                async with asyncio.timeout(self._patience):
                    return await self._free.acquire()
            except TimeoutError:
                if seen == self._moved:
                    return False
