"""Bodies that are written as they come."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

from aiohttp.web_response import StreamResponse

from rootless.api.call import Call
from rootless.api.fields import warning_header

T = TypeVar("T")

RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"
MULTIPLEXED_SINCE = (1, 42)
"""The API version that began to tell framed output by its content type."""

_FRAME = struct.Struct(">BxxxI")


def frame(stream: int, data: bytes) -> bytes:
    """One frame of Docker's multiplexed stream: number, three zeros, length, data."""
    return _FRAME.pack(stream, len(data)) + data


def stream_type(version: tuple[int, int], *, tty: bool) -> str:
    """The content type of attached output."""
    return RAW_STREAM if tty or version < MULTIPLEXED_SINCE else MULTIPLEXED_STREAM


class Closing(AbstractAsyncContextManager["AsyncIterator[T]"]):
    """Closes an async generator on the way out, also when the request is cancelled.

    Left to the garbage collector, a generator's cleanup (a subscription, a
    watch, an open file) would run at some later time or never.
    """

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source

    async def __aenter__(self) -> AsyncIterator[T]:
        return self._source

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


async def open_stream(call: Call, content_type: str, **headers: str) -> StreamResponse:
    """A chunked answer whose head is sent at once, so that the client knows it was accepted."""
    response = StreamResponse(headers={"Content-Type": content_type, **headers})
    for name, value in call.common_headers.items():
        response.headers.setdefault(name, value)
    if call.warnings:
        response.headers["Warning"] = warning_header(call.take_warnings())
    await response.prepare(call.request)
    call.request.writer.send_headers()
    return response


async def send_body(response: StreamResponse, source: AsyncIterable[bytes]) -> None:
    """Copy a long body to the client, waiting whenever the client is slower."""
    async for chunk in source:
        await response.write(chunk)
    await response.write_eof()
