"""A daemon with few descriptors goes on when clients take them all, and recovers."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from tests.support.api import IMAGE, until
from tests.support.engine import Engine, new_engine

pytestmark = pytest.mark.integration


def _watch(engine: Engine) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(60)
    found.connect(str(engine.socket))
    with suppress(BrokenPipeError):
        found.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
    return found


def _answered(client: socket.socket) -> bool:
    try:
        return client.recv(12) == b"HTTP/1.1 200"
    except ConnectionError:
        return False


def test_all_descriptors_are_taken() -> None:
    run = ("run", "--rm", "--network", "none", IMAGE, "echo", "on")
    with new_engine(start=False) as engine:
        engine.wrapper = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
        engine.start()
        assert engine.ok(*run) == "on"
        clients = [_watch(engine) for _ in range(100)]
        answered = [client for client in clients if _answered(client)]
        # Everybody heard something: who is too many is told by the end of the connection.
        assert 8 <= len(answered) <= 64
        # A command has some connections of its own; what its container needs is there.
        for client in answered[:8]:
            client.close()
        assert until(lambda: engine.run(*run).stdout == "on\n")
        for client in clients:
            client.close()
        assert engine.ok(*run) == "on"
        log = engine.log.read_text()
        assert log.count("clients wait") <= 1, log
