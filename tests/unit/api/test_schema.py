"""Answers follow the published description of Docker's API, when it is at hand."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rootless.model.event import Event
from tests.support.swagger import Description
from tests.unit.api.conftest import Served

JSON = "application/json"


def check(description: Description, value: Any, method: str, path: str, status: int) -> None:
    body = json.dumps(value)
    assert [*description.problems(method, path, status, JSON, body)] == []


@pytest.fixture
async def ref(served: Served) -> str:
    """A running container with something of everything."""
    ref = await served.create(
        "silent",
        Labels={"a": "b"},
        Env=["A=b"],
        ExposedPorts={"81/tcp": {}},
        Healthcheck={"Test": ["CMD", "true"], "Interval": 10**9},
        HostConfig={
            "Binds": ["/tmp:/t:ro"],
            "Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}],
            "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
            "Memory": 1 << 20,
        },
    )
    await served.engine.containers.attach(None, ref)  # type: ignore[arg-type]  # the engine in its place asks nobody
    await served.json("POST", f"/containers/{ref}/start", status=204)
    return ref


GETS = [
    ("/containers/json", "/containers/json?all=1&size=1"),
    ("/containers/{id}/json", "/containers/{ref}/json?size=1"),
    ("/containers/{id}/top", "/containers/{ref}/top"),
    ("/containers/{id}/changes", "/containers/{ref}/changes"),
    ("/images/json", "/images/json"),
    ("/images/{name}/json", "/images/busybox/json"),
    ("/images/{name}/history", "/images/busybox/history"),
    ("/images/search", "/images/search?term=x"),
    ("/volumes", "/volumes"),
    ("/volumes/{name}", "/volumes/v"),
    ("/networks", "/networks"),
    ("/networks/{id}", "/networks/none"),
    ("/info", "/info"),
    ("/version", "/version"),
    ("/system/df", "/system/df"),
    ("/plugins", "/plugins"),
]


@pytest.mark.parametrize(("template", "path"), GETS)
async def test_get(
    docker_description: Description, served: Served, ref: str, template: str, path: str
) -> None:
    await served.json("POST", "/volumes/create", {"Name": "v", "Labels": {"x": "y"}}, status=201)
    value = await served.json("GET", "/v1.51" + path.replace("{ref}", ref))
    assert value not in (None, [], {}) or template == "/plugins"
    check(docker_description, value, "GET", template, 200)


async def test_posts(docker_description: Description, served: Served, ref: str) -> None:
    rows = [
        ("/containers/create", "/containers/create", {"Image": "busybox"}, 201),
        ("/containers/{id}/update", f"/containers/{ref}/update", {"Memory": 1}, 200),
        ("/containers/prune", "/containers/prune", None, 200),
        ("/images/prune", "/images/prune", None, 200),
        ("/volumes/prune", "/volumes/prune", None, 200),
        ("/networks/prune", "/networks/prune", None, 200),
        ("/build/prune", "/build/prune", None, 200),
        ("/auth", "/auth", {"username": "u", "password": "p"}, 200),
        ("/commit", f"/commit?container={ref}", None, 201),
    ]
    for template, path, body, status in rows:
        value = await served.json("POST", path, body, status=status)
        check(docker_description, value, "POST", template, status)


async def test_exec_and_wait(docker_description: Description, served: Served, ref: str) -> None:
    body = {"Cmd": ["x"], "AttachStdout": True, "User": "1"}
    made = await served.json("POST", f"/containers/{ref}/exec", body, status=201)
    inspected = await served.json("GET", f"/exec/{made['Id']}/json")
    check(docker_description, inspected, "GET", "/exec/{id}/json", 200)
    waiting = asyncio.create_task(served.request("POST", f"/containers/{ref}/wait"))
    await served.engine.registered.wait()
    await served.json("POST", f"/containers/{ref}/kill", status=204)
    check(docker_description, (await waiting).json(), "POST", "/containers/{id}/wait", 200)


async def test_streams(docker_description: Description, served: Served, ref: str) -> None:
    stats = await served.json("GET", f"/containers/{ref}/stats?stream=0")
    check(docker_description, stats, "GET", "/containers/{id}/stats", 200)
    served.engine.system.past = [
        Event("container", "start", ref, (("image", "busybox"),), 1_700_000_000_000_000_001)
    ]
    event = await served.json("GET", "/events?since=1&until=2")
    check(docker_description, event, "GET", "/events", 200)


def test_the_validator_can_fail(docker_description: Description) -> None:
    def problems(method: str, path: str, status: int, body: str, kind: str = JSON) -> list[str]:
        return [*docker_description.problems(method, path, status, kind, body)]

    assert problems("GET", "/containers/json", 200, '[{"Id": 5, "Bogus": 1}]') == [
        '$[0].Id: 5 is not of types "null", "string"',
        "$[0]: Additional properties are not allowed ('Bogus' was unexpected)",
    ]
    assert problems("GET", "/containers/json", 200, "[null]") == [
        '$[0]: null is not of type "object"'
    ]
    assert problems("GET", "/containers/json", 200, "{") == ["no JSON: '{'"]
    assert problems("GET", "/containers/json", 206, "[]") == ["status 206 is not declared"]
    assert problems("GET", "/containers/json", 503, "{}") == [
        "status 503 is not declared",
        '$: "message" is a required property',
    ]
    assert problems("GET", "/containers/json", 400, '{"message": "x"}') == []
    assert problems("GET", "/containers/json", 200, "[]", "text/plain") == [
        "content type 'text/plain' instead of application/json"
    ]
    assert problems("POST", "/containers/create", 201, '{"Id": "x"}') == [
        '$: "Warnings" is a required property'
    ]
    lines = '{"Type": "container"}\n{"Type": "what"}\n'
    assert problems("GET", "/events", 200, lines) == [
        '$.Type: "what" is not one of "builder", "config" or 10 other candidates'
    ]
