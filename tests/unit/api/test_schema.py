"""Answers follow the published description of Docker's API, when it is at hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rootless.model.event import Event
from tests.unit.api.conftest import Served
from tests.unit.api.swagger import Description

OURS = ("Rootless", "GraphDriver: ID")
"""Fields that are not Docker's, on purpose."""

OBSOLETE = (
    # Fields the description dropped or never had, which Docker's daemon still answers with.
    "MacAddress", "SecondaryIPAddresses", "SecondaryIPv6Addresses", "HairpinMode", "Bridge",
    "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen", "status", "id", "from", "GoVersion",
    "Isolation", "Parent", "DockerVersion", "ExecIDs", "OSVersion", "NoProxy",
)  # fmt: skip


@pytest.fixture(scope="module")
def description(shared_data: Path) -> Description:
    path = shared_data / "docker-api" / "swagger-v1.51.yaml"
    if not path.is_file():
        pytest.skip(f"host lacks shared test data: no file {path}")
    return Description(path)


def check(description: Description, value: Any, method: str, path: str, status: int) -> None:
    schema = description.response(method, path, status)
    allowed = tuple(f"{name} is not in the description" for name in (*OURS, *OBSOLETE))
    found = [p for p in description.problems(value, schema) if not p.endswith(allowed)]
    assert found == []


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
    await served.engine.containers.attach(None, ref)  # type: ignore[arg-type]
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
    description: Description, served: Served, ref: str, template: str, path: str
) -> None:
    await served.json("POST", "/volumes/create", {"Name": "v", "Labels": {"x": "y"}}, status=201)
    value = await served.json("GET", "/v1.51" + path.replace("{ref}", ref))
    assert value not in (None, [], {}) or template == "/plugins"
    check(description, value, "GET", template, 200)


async def test_posts(description: Description, served: Served, ref: str) -> None:
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
        check(description, value, "POST", template, status)


async def test_exec_and_wait(description: Description, served: Served, ref: str) -> None:
    body = {"Cmd": ["x"], "AttachStdout": True, "User": "1"}
    made = await served.json("POST", f"/containers/{ref}/exec", body, status=201)
    inspected = await served.json("GET", f"/exec/{made['Id']}/json")
    check(description, inspected, "GET", "/exec/{id}/json", 200)
    waiting = asyncio.create_task(served.request("POST", f"/containers/{ref}/wait"))
    await served.engine.registered.wait()
    await served.json("POST", f"/containers/{ref}/kill", status=204)
    check(description, (await waiting).json(), "POST", "/containers/{id}/wait", 200)


async def test_streams(description: Description, served: Served, ref: str) -> None:
    stats = await served.json("GET", f"/containers/{ref}/stats?stream=0")
    check(description, stats, "GET", "/containers/{id}/stats", 200)
    served.engine.system.past = [
        Event("container", "start", ref, (("image", "busybox"),), 1_700_000_000_000_000_001)
    ]
    event = await served.json("GET", "/events?since=1&until=2")
    check(description, event, "GET", "/events", 200)


def test_the_validator_can_fail(description: Description) -> None:
    schema = description.response("GET", "/containers/json", 200)
    found = list(description.problems([{"Id": 5, "Bogus": 1}], schema))
    assert found == ["$[0].Id: int instead of string", "$[0]: Bogus is not in the description"]
