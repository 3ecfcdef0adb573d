"""Jobs that report progress, as streams of :class:`Progress`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from rootless.model.records import Progress

Report = Callable[[dict[str, object]], None]
"""Takes one message of Docker's JSON stream."""


def to_progress(message: dict[str, object]) -> Progress:
    """A message of the images package as a record."""
    detail = message.get("progressDetail")
    numbers = detail if isinstance(detail, dict) else {}
    aux = message.get("aux")
    pairs = aux.items() if isinstance(aux, dict) else ()
    return Progress(
        status=str(message.get("status", "")),
        id=str(message.get("id", "")),
        current=int(numbers.get("current", 0)),
        total=int(numbers.get("total", 0)),
        stream=str(message.get("stream", "")),
        aux=tuple((str(k), str(v)) for k, v in pairs),
    )


def _look(task: asyncio.Task[None]) -> None:
    """Who iterates is told of a failure; where a client left before that, it was the client's."""
    if not task.cancelled():
        task.exception()


class ProgressStream:
    """Iterates what a running job reports; closing it cancels the job."""

    def __init__(self, work: Callable[[Report], Coroutine[object, object, None]]) -> None:
        self._queue: asyncio.Queue[Progress | None] = asyncio.Queue()
        self._first: list[Progress | None] = []
        self._task = asyncio.ensure_future(self._run(work))
        self._task.add_done_callback(_look)

    async def _run(self, work: Callable[[Report], Coroutine[object, object, None]]) -> None:
        try:
            await work(lambda message: self._queue.put_nowait(to_progress(message)))
        finally:
            self._queue.put_nowait(None)

    async def begun(self) -> ProgressStream:
        """Wait for the first message, so that an early failure is raised here.

        Who does not wait for it any more ends the job.
        """
        try:
            message = await self._queue.get()
        except BaseException:
            await self.aclose()
            raise
        if message is None:
            await self._task
        self._first.append(message)
        return self

    def __aiter__(self) -> ProgressStream:
        return self

    async def __anext__(self) -> Progress:
        message = self._first.pop() if self._first else await self._queue.get()
        if message is None:
            self._first.append(None)
            await self._task
            raise StopAsyncIteration
        return message

    async def aclose(self) -> None:
        """Cancel the job if it still runs."""
        self._task.cancel()
        await asyncio.wait([self._task])
