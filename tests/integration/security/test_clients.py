"""Who may speak to the engine."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from rootless.linux.inside import create_as
from tests.integration.storage.conftest import run_in_engine
from tests.support.engine import Engine

pytestmark = pytest.mark.integration


def _ask(path: str, user: int) -> str:
    if user:
        # With the right to pass every directory, as somebody has who got past their modes.
        create_as(user)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"GET /info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer.decode()


def test_another_user_is_refused_whatever_the_modes_are(engine: Engine) -> None:
    path = os.path.relpath(engine.socket)
    assert run_in_engine(_ask, path, 0).startswith("HTTP/1.1 200")
    answer = run_in_engine(_ask, path, 5)
    assert answer.startswith("HTTP/1.1 403")
    assert "this engine is another user's" in answer


def test_the_modes(engine: Engine) -> None:
    def mode(path: object) -> int:
        return stat.S_IMODE(os.stat(str(path)).st_mode)

    assert mode(engine.socket) == 0o600
    assert mode(engine.socket.parent) == mode(engine.data) == 0o700
    engine.ok("run", "-d", "--name", "box", "--network", "none", "rootless/busybox", "sleep", "99")
    (shim,) = engine.data.glob("containers/*/shim.sock")
    assert mode(shim) == 0o600
    assert mode(shim.parent) == 0o700
    for name in ("exit.json", "shim.json", f"{shim.parent.name}-json.log"):
        file = shim.parent / name
        assert not file.exists() or mode(file) & 0o077 == 0, name
    assert mode(engine.data / "state.db") & 0o077 == 0
    engine.ok("rm", "-f", "box")
