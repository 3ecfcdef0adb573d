"""Archives between asynchronous streams and threads that read and write files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import BinaryIO, TypeVar

from rootless.engine.files import read_pipe, write_pipe
from rootless.engine.readable import Readable

T = TypeVar("T")


async def written(write: Callable[[BinaryIO], None]) -> AsyncGenerator[bytes]:
    """What ``write`` (in a thread) puts into a file."""
    reading, writing = os.pipe2(os.O_CLOEXEC)

    def job() -> None:
        with open(writing, "wb", buffering=1 << 18) as out:
            write(out)

    task = asyncio.ensure_future(asyncio.to_thread(job))
    # A reader that left: the thread ends with EPIPE, which is nobody's error, also
    # when the wait for it below is cancelled.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    chunks = read_pipe(reading)
    try:
        async for chunk in chunks:
            yield chunk
        await task
    finally:
        # Closing the pipe is what ends a thread that still writes.
        await chunks.aclose()
        await asyncio.wait([task])


async def consumed(body: AsyncIterator[bytes], read: Callable[[Readable], T]) -> T:
    """The result of ``read`` (in a thread) on what ``body`` delivers."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    readable = Readable(reading)

    def job() -> T:
        with readable:
            return read(readable)

    task = asyncio.ensure_future(asyncio.to_thread(job))
    # Without the whole body its failure is nobody's; why the body ended is what counts.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await write_pipe(writing, body, on_failure=readable.cut)
    finally:
        await asyncio.wait([task])
    return task.result()
