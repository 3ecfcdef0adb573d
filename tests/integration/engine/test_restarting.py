"""Forced removal and kill of containers that are just being restarted."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def _call(engine: Engine, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = _Unix(str(engine.socket))
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data else None
    finally:
        connection.close()


def _restarting(engine: Engine, command: list[str]) -> str:
    """A container that ended once and is about to be restarted."""
    body = {
        "Image": IMAGE,
        "Cmd": command,
        "HostConfig": {"RestartPolicy": {"Name": "always"}, "NetworkMode": "none"},
    }
    status, made = _call(engine, "POST", "/containers/create", body)
    assert status == 201, made
    path = f"/containers/{made['Id']}"
    assert _call(engine, "POST", f"{path}/start")[0] == 204
    while _call(engine, "GET", f"{path}/json")[1]["State"]["Status"] != "restarting":
        continue
    return path


@pytest.mark.parametrize("step", range(2, 6))
def test_forced_removal_at_any_moment_of_a_restart(engine: Engine, step: int) -> None:
    for turn in range(2):
        path = _restarting(engine, ["true"])
        # The restart comes a tenth of a second after the end; the moments are spread around it.
        time.sleep(0.06 + 0.015 * step + 0.007 * turn)
        assert _call(engine, "DELETE", f"{path}?force=1") == (204, None)


@pytest.mark.parametrize("step", range(2, 6))
def test_a_kill_at_any_moment_of_a_restart_ends_it(engine: Engine, step: int) -> None:
    """The first run ends by itself, the next ones would not."""
    for turn in range(2):
        script = "[ -e /ran ] && exec sleep 1000; touch /ran"
        path = _restarting(engine, ["sh", "-c", script])
        time.sleep(0.06 + 0.015 * step + 0.007 * turn)
        assert _call(engine, "POST", f"{path}/kill")[0] == 204
        state = _call(engine, "GET", f"{path}/json")[1]["State"]
        assert state["Status"] == "exited", state
        assert _call(engine, "DELETE", path) == (204, None)
