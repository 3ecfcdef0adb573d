"""A real server on a real Unix socket, over the fake engine."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rootless.api.app import make_app, serve
from rootless.api.http import Server
from tests.unit.api.fake_engine import FakeEngine
from tests.unit.api.wire import Answer, Client


@dataclass
class Served:
    """A server and what it serves."""

    engine: FakeEngine
    path: str
    server: Server

    async def connect(self) -> Client:
        """A new connection."""
        return await Client.connect(self.path)

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        async with await self.connect() as client:
            return await client.request(method, path, body, **headers)

    async def json(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The JSON answer to a request that must have the given status."""
        answer = await self.request(method, path, body)
        assert answer.status == status, answer.body
        return json.loads(answer.body) if answer.body else None

    async def create(self, *cmd: str, **config: Any) -> str:
        """A container's id."""
        body = {"Image": "busybox", "Cmd": list(cmd), **config}
        found = await self.json("POST", "/v1.51/containers/create", body, status=201)
        return str(found["Id"])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The API over a fake engine."""
    # pytest's own directories are too deep for a socket's 107 bytes.
    with tempfile.TemporaryDirectory(prefix="api-") as directory:
        path = str(Path(directory) / "s")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
        engine = FakeEngine()
        runner = await serve(make_app(engine), [sock])
        try:
            yield Served(engine, path, runner.server)
        finally:
            await runner.close(grace=1)
