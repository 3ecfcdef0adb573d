"""Attach by websocket, with a client that nobody here wrote."""

from __future__ import annotations

import asyncio
import hashlib

import aiohttp
import pytest

from tests.integration.api.test_vanishing import nothing_left
from tests.support.api import Api
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
MIB = 1 << 20
QUIET = {"LogConfig": {"Type": "none"}}


def _session(engine: Engine) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(engine.socket)))


def _url(ref: str) -> str:
    return f"http://d/containers/{ref}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"


async def _echo(engine: Engine, ref: str) -> None:
    """Both kinds of message, with control frames between; then one that is too long."""
    async with _session(engine) as session, session.ws_connect(_url(ref)) as ws:
        await ws.send_str("text\n")
        await ws.ping(b"there?")
        await ws.send_bytes(b"bytes\n")
        found = b""
        while found != b"text\nbytes\n":
            found += await ws.receive_bytes()
    async with _session(engine) as session, session.ws_connect(_url(ref)) as ws:
        try:
            await ws.send_bytes(bytes(2 * MIB))
        except ConnectionError:
            return  # hung up before it was all sent
        assert (await ws.receive()).data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


def test_messages(engine: Engine, api: Api) -> None:
    ref = api.run("cat", OpenStdin=True, HostConfig=QUIET)
    with nothing_left(engine):
        asyncio.run(asyncio.wait_for(_echo(engine, ref), 60))
    assert api.state(ref)["Running"]
    api.remove(ref)


async def _flood(engine: Engine, api: Api, ref: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    async with _session(engine) as session, session.ws_connect(_url(ref), max_msg_size=0) as ws:
        await asyncio.to_thread(api.ok, "POST", f"/containers/{ref}/start")
        async for message in ws:
            digest.update(message.data)
            size += len(message.data)
        assert ws.close_code == aiohttp.WSCloseCode.OK
    return size, digest.hexdigest()


def test_a_flood(engine: Engine, api: Api) -> None:
    """Nothing is lost, and the end of the output is the end of the connection."""
    size = 64 * MIB
    ref = api.create("head", "-c", str(size), "/dev/zero", HostConfig=QUIET)
    found = asyncio.run(asyncio.wait_for(_flood(engine, api, ref), 90))
    assert found == (size, hashlib.sha256(bytes(size)).hexdigest())
    api.remove(ref)


async def _vanish(engine: Engine, ref: str) -> None:
    async with _session(engine) as session:
        ws = await session.ws_connect(_url(ref), max_msg_size=0)
        await ws.receive()
        connection = ws._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()


def test_a_client_that_vanishes_from_a_flood(engine: Engine, api: Api) -> None:
    ref = api.run("yes", HostConfig=QUIET)
    with nothing_left(engine):
        asyncio.run(asyncio.wait_for(_vanish(engine, ref), 60))
    assert api.state(ref)["Running"]
    api.remove(ref)
