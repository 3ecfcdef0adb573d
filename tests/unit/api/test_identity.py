"""Without an identity there is no answer."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from rootless.api import http
from rootless.api.app import make_app, serve
from rootless.model.identity import Identity
from tests.unit.api.conftest import Served
from tests.unit.api.fake_engine import FakeEngine

ASK = b"GET /info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def test_a_connection_without_credentials_is_refused() -> None:
    """TCP has none until there are client certificates."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))

        runner = await serve(make_app(FakeEngine()), [listener])
        try:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(ASK)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        finally:
            await runner.close(grace=1)
    assert answer.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(("uid", "status"), [(os.getuid(), 200), (0, 200), (100000, 403)])
async def test_other_users_are_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch, uid: int, status: int
) -> None:
    found = Identity("unix", "someone", uid=uid, gid=uid)
    monkeypatch.setattr(http, "peer_identity", lambda _sock: found)
    assert (await served.request("GET", "/info")).status == status
