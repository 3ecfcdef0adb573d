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
async def _serving(path: Path) -> AsyncIterator[http.Server]:
    server = http.Server(_answer, lambda status, text: Response(status=status, text=text))
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
    path = tmp_path / "s"
    async with _serving(path) as server:
        server.max_connections = 2
        kept = [await asyncio.open_unix_connection(path) for _ in range(2)]
        for reader, writer in kept:
            writer.write(_REQUEST)
            assert b"200 OK" in await reader.readline()
        # It asks: whoever only waits would be ended by the time limit as well.
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(_REQUEST)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await writer.wait_closed()
        for _, writer in kept:
            writer.close()
            await writer.wait_closed()


async def test_deeply_nested_filters_are_the_clients_error(served: Served) -> None:
    answer = await served.request("GET", f"/containers/json?filters={quote('[' * 20_000)}")
    assert answer.status == 400
