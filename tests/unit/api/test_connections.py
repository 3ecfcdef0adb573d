"""Clients that take connections and never ask for anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from rootless.api import http
from tests.unit.api.conftest import Served

_REQUEST = b"GET / HTTP/1.1\r\nHost: d\r\n\r\n"


async def _answer(_request: BaseRequest) -> StreamResponse:
    return Response(text="answered")


@asynccontextmanager
async def _serving(path: Path, handler: http.Handler = _answer) -> AsyncIterator[http.Server]:
    server = http.Server(handler, lambda status, text: Response(status=status, text=text))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        runner = await http.listen(server, [sock])
        try:
            yield server
        finally:
            await runner.close(grace=1)


async def test_a_request_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    path = tmp_path / "s"
    async with _serving(path):
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: d\r\nX: "):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(begun)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()


async def test_connections_are_bounded(tmp_path: Path) -> None:
    """When all of them are being served, a further one is dropped."""
    path = tmp_path / "s"
    over = asyncio.Event()

    async def handler(_request: BaseRequest) -> StreamResponse:
        await over.wait()
        return Response(text="answered")

    async with _serving(path, handler) as server, asyncio.timeout(20):
        server.max_connections = 2
        kept = [await asyncio.open_unix_connection(path) for _ in range(2)]
        for _, writer in kept:
            writer.write(_REQUEST)
        while server.requests_count < 2:
            await asyncio.sleep(0)
        # It asks: whoever only waits would be ended by the time limit as well.
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(_REQUEST)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await writer.wait_closed()
        over.set()
        for reader, writer in kept:
            assert b"200 OK" in await reader.readline()
            writer.close()
            await writer.wait_closed()


async def test_deeply_nested_filters_are_the_clients_error(served: Served) -> None:
    answer = await served.request("GET", f"/containers/json?filters={quote('[' * 20_000)}")
    assert answer.status == 400


async def test_a_body_goes_on_after_a_pause_at_the_end_of_a_chunk(tmp_path: Path) -> None:
    """Reading pauses when the last byte of a chunk fills the buffer; what comes next is the end.

    aiohttp 3.14.5 then waited for ever: its parser took itself to be paused still.
    """
    high = 2 * http.READ_BUFFER
    read, filled = asyncio.Event(), asyncio.Event()

    async def handler(request: BaseRequest) -> StreamResponse:
        for size in (high, high + 5):
            while request.content.total_bytes < size:
                await asyncio.sleep(0)
            filled.set()
        body = await request.content.readexactly(high + 5)
        read.set()
        body += await request.content.read()
        return Response(text=body[-10:].decode())

    path = tmp_path / "s"
    async with _serving(path, handler), asyncio.timeout(20):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s\r\n" % (high, bytes(high)))
        await filled.wait()
        writer.write(b"5\r\nhello")
        await read.wait()
        writer.write(b"\r\n5\r\nworld\r\n0\r\n\r\n")
        assert b"200 OK" in await reader.readline()
        assert (await reader.readuntil(b"helloworld")).endswith(b"helloworld")
        writer.close()
        await writer.wait_closed()
