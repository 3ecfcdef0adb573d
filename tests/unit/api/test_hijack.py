"""Connections that become a container's stdio."""

from __future__ import annotations

import asyncio

import pytest

from rootless.api import hijack
from tests.unit.api.conftest import Served
from tests.unit.api.wire import Client, head

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


async def attach(served: Served, ref: str, query: str = "", **headers: str) -> Client:
    """Attach with everything and read the head."""
    client = await served.connect()
    path = f"/v1.51/containers/{ref}/attach?stream=1&stdin=1&stdout=1&stderr=1{query}"
    client.send("POST", path, **headers)
    return client


async def test_upgrade_answers_101_and_frames_output(served: Served) -> None:
    ref = await served.create("both")
    async with await attach(served, ref, **UPGRADE) as client:
        answer = await client.read_head()
        assert (answer.status, answer.reason) == (101, "UPGRADED")
        assert answer.headers["upgrade"] == "tcp"
        assert answer.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
        assert await client.read_frames() == {1: b"out\n", 2: b"err\n"}


async def test_without_upgrade_the_answer_is_200_and_raw(served: Served) -> None:
    ref = await served.create("both", Tty=True)
    async with await attach(served, ref) as client:
        answer = await client.read_head()
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"
        assert "transfer-encoding" not in answer.headers
        assert await client.reader.read() == b"out\nerr\n"


async def test_old_clients_get_the_old_content_type(served: Served) -> None:
    ref = await served.create("both")
    async with await served.connect() as client:
        client.send("POST", f"/v1.41/containers/{ref}/attach?stream=1&stdout=1", **UPGRADE)
        answer = await client.read_head()
        assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"
        assert (await client.read_frames())[1] == b"out\n"


@pytest.mark.parametrize("headers", [UPGRADE, {}])
async def test_bytes_behind_the_head_are_not_lost(served: Served, headers: dict[str, str]) -> None:
    """In one segment with the head: aiohttp's C parser drops these."""
    ref = await served.create("cat")
    path = f"/v1.51/containers/{ref}/attach?stream=1&stdin=1&stdout=1"
    async with await served.connect() as client:
        client.writer.write(head("POST", path, **headers) + b"early GET / HTTP/1.1\r\n\r\nbytes")
        client.writer.write_eof()
        await client.read_head()
        assert await client.read_frames() == {1: b"early GET / HTTP/1.1\r\n\r\nbytes"}


async def test_bytes_behind_an_exec_body_are_not_lost(served: Served) -> None:
    ref = await served.create("x")
    body = {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True}
    found = await served.json("POST", f"/v1.51/containers/{ref}/exec", body, status=201)
    path = f"/v1.51/exec/{found['Id']}/start"
    async with await served.connect() as client:
        client.writer.write(head("POST", path, {"Tty": False}, **UPGRADE) + b"early")
        client.writer.write_eof()
        assert (await client.read_head()).status == 101
        assert await client.read_frames() == {1: b"early"}


async def test_connection_goes_on_after_a_detached_exec(served: Served) -> None:
    """A hijackable request that is not hijacked leaves the connection HTTP."""
    ref = await served.create("x")
    body = {"Cmd": ["cat"]}
    found = await served.json("POST", f"/v1.51/containers/{ref}/exec", body, status=201)
    async with await served.connect() as client:
        path = f"/v1.51/exec/{found['Id']}/start"
        client.writer.write(head("POST", path, {"Detach": True}) + head("GET", "/_ping"))
        assert (await client.read_answer()).status == 200
        assert (await client.read_answer()).body == b"OK"


async def test_half_close_ends_stdin_but_not_output(served: Served) -> None:
    ref = await served.create("sink")
    async with await attach(served, ref, **UPGRADE) as client:
        await client.read_head()
        client.writer.write(b"x" * 100_000)
        client.writer.write_eof()
        assert await client.read_frames() == {1: b"100000"}


async def test_gone_client_ends_a_silent_attach(served: Served) -> None:
    """Half-closed first, then gone: only EPOLLHUP tells."""
    ref = await served.create("silent")
    client = await attach(served, ref, **UPGRADE)
    await client.read_head()
    streams = served.engine.containers.attached[0]
    client.writer.write_eof()
    await streams.stdin_closed.wait()
    assert not streams.closed
    await client.close()
    while not streams.closed:
        await asyncio.sleep(0.001)


async def test_no_byte_is_lost_and_memory_is_bounded(served: Served) -> None:
    size = 64 << 20
    ref = await served.create("flood", str(size))
    async with await attach(served, ref, **UPGRADE) as client:
        await client.read_head()
        total = 0
        block = bytes(range(256)) * 1024
        while True:
            stream, data = await client.read_frame()
            if not stream:
                break
            assert data == block[: len(data)]
            total += len(data)
        assert total == size


async def test_input_of_any_size_arrives(served: Served) -> None:
    ref = await served.create("sink")
    async with await attach(served, ref, **UPGRADE) as client:
        await client.read_head()
        for _ in range(64):
            client.writer.write(b"y" * (1 << 20))
            await client.writer.drain()
        client.writer.write_eof()
        assert await client.read_frames() == {1: str(64 << 20).encode()}


async def test_detaching_ends_the_connection(served: Served) -> None:
    ref = await served.create("cat", Tty=True)
    async with await attach(served, ref, **UPGRADE) as client:
        await client.read_head()
        client.writer.write(b"abc")
        assert await client.reader.readexactly(3) == b"abc"
        client.writer.write(b"\x10\x11")
        assert await client.reader.read() == b""
    assert served.engine.containers.attached[0].closed


async def test_errors_come_before_the_upgrade(served: Served) -> None:
    async with await attach(served, "absent", **UPGRADE) as client:
        answer = await client.read_answer()
        assert (answer.status, answer.message) == (404, "No such container: absent")


async def test_exec_that_cannot_start_says_so_in_the_stream(served: Served) -> None:
    ref = await served.create("x")
    body = {"Cmd": ["missing-program"], "AttachStdout": True}
    found = await served.json("POST", f"/containers/{ref}/exec", body, status=201)
    async with await served.connect() as client:
        client.send("POST", f"/exec/{found['Id']}/start", {}, **UPGRADE)
        assert (await client.read_head()).status == 101
        assert b"executable file not found" in (await client.read_frames())[2]
    inspected = await served.json("GET", f"/exec/{found['Id']}/json")
    assert inspected["ExitCode"] == 127


@pytest.mark.parametrize("headers", [UPGRADE, {}])
async def test_what_a_vanished_client_sent_arrives(served: Served, headers: dict[str, str]) -> None:
    """Megabytes lie in buffers when it closes."""
    ref = await served.create("sink")
    client = await attach(served, ref, **headers)
    await client.read_head()
    sent = 8 << 20
    client.writer.write(bytes(sent))
    await client.close()
    streams = served.engine.containers.attached[0]
    async with asyncio.timeout(20):
        await streams.stdin_closed.wait()
        while not streams.closed:
            await asyncio.sleep(0.001)
    assert streams.received == sent


async def test_input_that_nobody_takes_is_let_go(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hijack, "STALL_SECONDS", 0.05)
    ref = await served.create("silent")
    client = await attach(served, ref, **UPGRADE)
    await client.read_head()
    client.writer.write(bytes(8 << 20))
    streams = served.engine.containers.attached[0]
    while not streams.full:
        await asyncio.sleep(0.001)
    client.writer.transport.abort()
    async with asyncio.timeout(20):
        while not streams.closed:
            await asyncio.sleep(0.001)
