"""Clients that mean harm: everything they send is answered or dropped, and stays within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import pytest

from rootless.api import call, http
from tests.unit.api.conftest import Served
from tests.unit.api.wire import Client

HOST = b"Host: d\r\n"
CREATE = b"POST /containers/create HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CHUNKED = CREATE + b"Transfer-Encoding: chunked\r\n\r\n"
BEHIND = b"GET /_ping HTTP/1.1\r\n" + HOST + b"\r\n"
"""A whole request: an answer to it as well would say that a body was taken for one."""


async def statuses(served: Served, sent: bytes) -> list[int]:
    """The status of each answer to ``sent``, until the server closes."""
    loop = asyncio.get_running_loop()
    found = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, served.path)
        # A server that has seen enough hangs up before it was told everything.
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(sock, sent)
        with contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(sock, 65536):
                found += data
    return [int(status) for status in re.findall(rb"^HTTP/1\.\d (\d+)", found, re.MULTILINE)]


HOSTILE = {
    "no such version": (505, b"GET /_ping HTTP/2.0\r\n" + HOST + b"\r\n"),
    "HTTP/2 preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    "TLS": (400, bytes.fromhex("16030100a5010000a10303") + b"\n" * 150),
    "CONNECT": (400, b"CONNECT d:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "path that is no text": (400, b"GET /containers/\xff\xfe/json HTTP/1.1\r\n" + HOST + b"\r\n"),
    "NUL": (400, b"GET /containers/a\0b/json HTTP/1.1\r\n" + HOST + b"\r\n"),
    "endless length": (413, CREATE + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
    "two lengths": (400, CREATE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    "a length below zero": (400, CREATE + b"Content-Length: -5\r\n\r\nhello"),
    "length and chunks": (
        400,
        CREATE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + BEHIND,
    ),
    "unknown coding": (400, CREATE + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + BEHIND),
    "chunks of no size": (400, CHUNKED + b"zz\r\n" + BEHIND),
    "chunks below zero": (400, CHUNKED + b"-5\r\n" + BEHIND),
    "a size without end": (400, CHUNKED + b"f" * 100_000 + b"\r\n" + BEHIND),
    "an extension without end": (400, CHUNKED + b"1;" + b"a" * 100_000 + b"\r\n" + BEHIND),
    "trailers without end": (400, CHUNKED + b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n" + BEHIND),
    "many headers": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 2000 + b"\r\n"),
    "a long header": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 100_000 + b"\r\n\r\n"),
    "long headers": (
        431,
        b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"y" * 60_000 + b"\r\n") * 100 + b"\r\n",
    ),
    "a long path": (400, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "bare line feeds": (400, b"GET /_ping HTTP/1.1\nHost: d\n\n"),
    "a folded header": (400, b"GET /_ping HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n"),
    "another's host": (403, b"GET http://evil.example/_ping HTTP/1.1\r\n" + HOST + b"\r\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_one_answer_and_the_end(
    served: Served, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Whatever follows is not read as a request, and no log is filled."""
    expected, sent = HOSTILE[name]
    if expected == 403:
        sent = sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with await served.connect() as beside:
        async with asyncio.timeout(20):
            assert await statuses(served, sent) == [expected]
        assert (await beside.request("GET", "/_ping")).body == b"OK"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    "request_line", [b"OPTIONS * HTTP/1.1", b"GET /// HTTP/1.1", b"DELETE /_ping HTTP/1.1"]
)
async def test_what_is_served_nowhere(served: Served, request_line: bytes) -> None:
    async with await served.connect() as client:
        client.writer.write(request_line + b"\r\n" + HOST + b"\r\n")
        assert (await client.read_answer()).status == 404


async def test_the_target_names_the_host(served: Served) -> None:
    """RFC 9112, 3.2.2: of an absolute target and Host the first counts; also for a hijack."""
    ref = await served.create("cat")
    async with await served.connect() as client:
        path = b"http://localhost/v1.51/containers/%s/attach?stream=1&stdin=1&stdout=1"
        client.writer.write(
            b"POST " + path % ref.encode() + b" HTTP/1.1\r\nHost: x.example\r\n\r\n"
        )
        client.writer.write(b"early")
        client.writer.write_eof()
        assert (await client.read_head()).status == 200
        assert await client.read_frames() == {1: b"early"}


async def test_a_body_in_one_byte_chunks(served: Served) -> None:
    body = b'{"Image":"busybox"' + b" " * 200_000 + b"}"
    async with await served.connect() as client:
        client.writer.write(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body))
        client.writer.write(b"0\r\n\r\n")
        assert (await client.read_answer()).status == 201


async def test_a_head_that_is_not_finished(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind a request that was answered."""
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    async with await served.connect() as client:
        assert (await client.request("GET", "/_ping")).status == 200
        client.writer.write(b"GET /_ping HTTP/1.1\r\nHo")
        assert await client.reader.read() == b""


async def test_idle_is_not_slow(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has been answered may ask again at any time."""
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.02)
    async with await served.connect() as client:
        assert (await client.request("GET", "/_ping")).status == 200
        await asyncio.sleep(0.1)
        assert (await client.request("GET", "/_ping")).status == 200


async def test_a_request_that_takes_its_time_is_not_a_slow_head(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request may be half there while an answer is being given."""
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.02)
    async with await served.connect() as client:
        client.send("GET", "/events")
        client.writer.write(b"GET /_ping HTTP/1.1\r\nHo")
        assert (await client.read_head()).status == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.reader.read(1)


async def test_a_body_that_does_not_come(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "BODY_SECONDS", 0.05)
    async with await served.connect() as client:
        client.writer.write(CREATE + b"Content-Length: 100\r\n\r\n{")
        assert (await client.read_answer()).status == 408


async def test_idle_connections_make_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest that nobody uses goes; one that watches stays."""
    watching = await served.connect()
    watching.send("GET", "/events")
    assert (await watching.read_head()).status == 200
    monkeypatch.setattr(served.server, "max_connections", 20)
    idle: list[Client] = []
    for _ in range(60):
        client = await served.connect()
        assert (await client.request("GET", "/_ping")).status == 200
        idle.append(client)
        assert len(served.server.connections) <= 21
    assert await idle[0].reader.read() == b""
    assert (await idle[-1].request("GET", "/_ping")).status == 200
    assert not watching.reader.at_eof()
    for client in (*idle, watching):
        await client.close()


async def test_descriptors_are_left_for_others(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When few are left the oldest idle connection goes, and without one the newest."""
    watching = await served.connect()
    watching.send("GET", "/events")
    assert (await watching.read_head()).status == 200
    idle = await served.connect()
    assert (await idle.request("GET", "/_ping")).status == 200
    monkeypatch.setattr(served.server, "max_descriptor", 0)
    asking = await served.connect()
    asking.send("GET", "/events")
    assert (await asking.read_head()).status == 200
    assert await idle.reader.read() == b""
    refused = await served.connect()
    assert await refused.reader.read() == b""
    assert not watching.reader.at_eof()
    for client in (watching, idle, asking, refused):
        await client.close()
