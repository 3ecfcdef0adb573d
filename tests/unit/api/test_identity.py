"""Without an identity there is no answer."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile

import pytest

from rootless.api import http
from rootless.api.app import make_app, serve
from rootless.api.call import ApiConfig
from rootless.api.identity import peer_groups
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


@pytest.mark.parametrize(("groups", "status"), [((7, 42), 200), ((7,), 403), ((), 403)])
async def test_members_of_the_configured_group_are_let_in(
    monkeypatch: pytest.MonkeyPatch, groups: tuple[int, ...], status: int
) -> None:
    found = Identity("unix", "someone", uid=100000, gid=7, groups=groups)
    monkeypatch.setattr(http, "peer_identity", lambda _sock: found)
    with (
        tempfile.TemporaryDirectory(prefix="api-") as directory,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{directory}/s")
        runner = await serve(make_app(FakeEngine(), config=ApiConfig(group=42)), [listener])
        try:
            reader, writer = await asyncio.open_unix_connection(f"{directory}/s")
            writer.write(ASK)
            answer = await reader.read()
            writer.close()
        finally:
            await runner.close(grace=1)
    assert answer.startswith(f"HTTP/1.1 {status}".encode())


@pytest.mark.parametrize(("uid", "status"), [(os.getuid(), 200), (0, 200), (100000, 403)])
async def test_other_users_are_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch, uid: int, status: int
) -> None:
    found = Identity("unix", "someone", uid=uid, gid=uid)
    monkeypatch.setattr(http, "peer_identity", lambda _sock: found)
    assert (await served.request("GET", "/info")).status == status


def test_the_groups_of_a_peer_are_the_kernels() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert set(peer_groups(ours, os.getegid())) == {os.getegid(), *os.getgroups()}
