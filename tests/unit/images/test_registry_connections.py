"""Bodies from registries, piece by piece."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import client_proto
from aiohttp.http_parser import HttpResponseParserPy

from rootless.images.reference import parse
from rootless.images.registry.settings import RegistrySettings, endpoints
from rootless.images.registry.transport import Transport

_FULL = 2 << 20
"""Bytes at which reading pauses: twice the session's ``read_bufsize``."""


async def test_a_body_goes_on_after_a_pause_at_the_end_of_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading pauses when the last byte of a chunk fills the buffer, and then it is read.

    aiohttp 3.14.5's Python parser, which the daemon uses, then waited for ever: it
    took itself to be paused still.
    """
    monkeypatch.setattr(client_proto, "HttpResponseParser", HttpResponseParserPy)
    read = asyncio.Event()
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%s" % (_FULL + 1, bytes(_FULL + 1)))
        await read.wait()
        writer.write(b"\r\n5\r\nworld\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = RegistrySettings(insecure=(host,), certificate_dirs=(tmp_path,))
    endpoint = next(e for e in endpoints(parse(f"{host}/x").domain, settings) if e.scheme == "http")
    async with server, asyncio.timeout(20), Transport(settings, None) as transport:
        response = await transport.request(endpoint, "GET", "/blob", scopes=())
        while response.content.total_bytes <= _FULL:
            await asyncio.sleep(0)
        body = await response.content.readexactly(_FULL + 1)
        read.set()
        body += await response.content.read()
        response.release()
        assert body[-5:] == b"world"
        assert len(body) == _FULL + 6
        await served.wait()
