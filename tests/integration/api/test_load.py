"""Many clients and many containers: everybody is served, and the daemon does not grow.

``ci/bench load`` is the long form, with times.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.integration.api.test_vanishing import descriptors
from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine
from tests.unit.api.wire import Client

pytestmark = pytest.mark.integration
MIB = 1 << 20


def _memory(engine: Engine) -> int:
    assert engine.daemon is not None
    status = Path(f"/proc/{engine.daemon.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


async def _lane(engine: Engine, lives: int, lists: int) -> None:
    body = {"Image": IMAGE, "Cmd": ["echo", "on"], "HostConfig": {"NetworkMode": "none"}}
    async with await Client.connect(str(engine.socket)) as client:
        for _ in range(lists):
            assert (await client.request("GET", "/containers/json?all=1")).status == 200
        for _ in range(lives):
            ref = (await client.request("POST", "/containers/create", body)).json()["Id"]
            async with await Client.connect(str(engine.socket)) as waiting:
                waiting.send("POST", f"/containers/{ref}/wait?condition=next-exit")
                await waiting.read_head()
                assert (await client.request("POST", f"/containers/{ref}/start")).status == 204
                assert json.loads(await waiting.read_chunk())["StatusCode"] == 0
            found = await client.request("GET", f"/containers/{ref}/logs?stdout=1")
            assert found.body.endswith(b"on\n")
            assert (await client.request("DELETE", f"/containers/{ref}")).status == 204


async def _lanes(engine: Engine, lives: int, lists: int) -> None:
    await asyncio.gather(*(_lane(engine, lives, lists) for _ in range(3)))


def test_lives_and_requests_leave_nothing_behind(engine: Engine) -> None:
    asyncio.run(_lanes(engine, 8, 100))
    before, memory = sum(descriptors(engine).values()), _memory(engine)
    asyncio.run(_lanes(engine, 20, 1000))
    # Room for directories and a sandbox that are made ahead.
    until(lambda: sum(descriptors(engine).values()) <= before + 4)
    assert _memory(engine) < memory + 8 * MIB


async def _served(engine: Engine, refs: list[str]) -> None:
    """A hundred clients; the events and the logs that everybody was promised came."""
    clients = [await Client.connect(str(engine.socket)) for _ in range(100)]
    paths = ["/containers/json", "/events", "/containers/{}/logs?follow=1&stdout=1"]
    for number, client in enumerate(clients):
        client.send("GET", paths[number % 3].format(refs[number % len(refs)]))
    for number, client in enumerate(clients):
        if number % 3:
            assert (await client.read_head()).status == 200
        else:
            assert len((await client.read_answer()).json()) == len(refs)
    body = {"Name": "seen"}
    assert (await clients[0].request("POST", "/volumes/create", body)).status == 201
    assert (await clients[0].request("DELETE", "/volumes/seen")).status == 204
    for number, client in enumerate(clients):
        if number % 3 == 1:
            event = json.loads(await client.read_chunk())
            assert (event["Type"], event["Action"]) == ("volume", "create")
        elif number % 3 == 2:
            assert b"tick" in await client.read_chunk()
    for client in clients:
        await client.close()


def test_a_hundred_clients_with_twenty_containers(engine: Engine, api: Api) -> None:
    refs = [api.run("sh", "-c", "while :; do echo tick; sleep 1; done") for _ in range(20)]
    before = sum(descriptors(engine).values())
    asyncio.run(asyncio.wait_for(_served(engine, refs), 100))
    until(lambda: sum(descriptors(engine).values()) <= before)
    api.remove(*refs)
