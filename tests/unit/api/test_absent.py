"""What this engine does not have answers as a Docker engine without it does."""

from __future__ import annotations

import pytest

from tests.unit.api.conftest import Served

NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to '
    "connect this node to swarm and try again."
)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/swarm"),
        ("GET", "/swarm/unlockkey"),
        ("POST", "/swarm/update"),
        ("GET", "/nodes"),
        ("GET", "/services"),
        ("POST", "/services/create"),
        ("GET", "/services/x/logs"),
        ("GET", "/tasks"),
        ("GET", "/secrets"),
        ("POST", "/configs/x/update"),
        ("DELETE", "/configs/x"),
    ],
)
async def test_swarm(served: Served, method: str, path: str) -> None:
    answer = await served.request(method, f"/v1.51{path}")
    assert (answer.status, answer.message) == (503, NO_MANAGER)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/swarm/leave?force=1", 503, "This node is not part of a swarm"),
        ("POST", "/swarm/init", 400, "swarm mode is not supported: "),
        ("POST", "/swarm/join", 400, "swarm mode is not supported: "),
        (
            "PUT",
            "/volumes/x?version=1",
            503,
            "volume update only valid for cluster volumes, but swarm is unavailable",
        ),
        ("GET", "/plugins/a/b:c/json", 404, 'plugin "a/b:c" not found'),
        ("POST", "/plugins/x/enable?timeout=0", 404, 'plugin "x" not found'),
        ("DELETE", "/plugins/x", 404, 'plugin "x" not found'),
        ("GET", "/plugins/privileges?remote=x", 400, "plugins are not supported: "),
        ("POST", "/plugins/pull?remote=x", 400, "plugins are not supported: "),
        ("POST", "/build?t=x", 400, "building images is not supported yet"),
        ("POST", "/session", 400, "building images is not supported yet"),
        ("POST", "/grpc", 400, "building images is not supported yet"),
    ],
)
async def test_refusals(served: Served, method: str, path: str, status: int, message: str) -> None:
    answer = await served.request(method, path)
    assert (answer.status, answer.message[: len(message)]) == (status, message)
    assert "warning" not in answer.headers


async def test_empty_lists(served: Served) -> None:
    assert await served.json("GET", '/plugins?filters={"enabled":["true"]}') == []
    found = await served.json("POST", "/build/prune?all=1")
    assert found == {"CachesDeleted": None, "SpaceReclaimed": 0}
