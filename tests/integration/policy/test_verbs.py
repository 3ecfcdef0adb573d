"""Every row of the API is decided on by the policy, as the verb that it says, or says why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from rootless.api.router import Route
from rootless.api.routes.table import ROUTES
from rootless.model.verbs import VERBS
from tests.integration.policy.forced import policy
from tests.support.api import IMAGE, Api
from tests.support.apitable import plain_path
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
BODIES: dict[str, Any] = {
    "/containers/create": {"Image": IMAGE},
    "/rootless/plan": {"Image": IMAGE},
    "/containers/{id}/exec": {"Cmd": ["true"]},
    "/networks/create": {"Name": "other"},
    "/networks/{id}/connect": {"Container": "box"},
    "/networks/{id}/disconnect": {"Container": "box"},
    "/rootless/certificate": {"Request": "x"},
    "/auth": {"username": "a", "password": "b", "serveraddress": "localhost:1"},
}
QUERIES: dict[str, dict[str, str]] = {
    "/containers/{id}/archive": {"path": "/tmp"},
    "/containers/{id}/logs": {"stdout": "1"},
    "/containers/{id}/resize": {"h": "1", "w": "1"},
    "/containers/{id}/rename": {"name": "box2"},
    "/exec/{id}/resize": {"h": "1", "w": "1"},
    "/commit": {"container": "box"},
    "/images/get": {"names": IMAGE},
    "/images/search": {"term": "x"},
    "/images/create": {"fromImage": "localhost:1/x", "tag": "1"},
    "/images/{name}/tag": {"repo": "x"},
}

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_every_row_has_a_verb_or_a_reason() -> None:
    for route in ROUTES:
        given = [bool(route.verb), bool(route.open), bool(route.refused and not route.verb)]
        assert sum(given) == 1, (route.method, route.path)
        assert set(route.verb.split()) <= VERBS.keys(), (route.method, route.path)
    reached = {verb for route in ROUTES for verb in route.verb.split()}
    # What a create with an image asks for besides.
    assert VERBS.keys() - reached == {"image.run"}


def requests(route: Route, exec_id: str) -> Iterator[tuple[str, dict[str, str], Any, str]]:
    """Path, query, body and expected verb: one request for each verb of a row."""
    path = plain_path(route.path)
    query, body = QUERIES.get(path, {}), BODIES.get(path)
    path = path.replace("/exec/{id}", f"/exec/{exec_id}").replace(
        "/containers/{id}", "/containers/box"
    )
    path = path.replace("/networks/{id}", "/networks/net").replace(
        "/volumes/{name}", "/volumes/vol"
    )
    path = re.sub(r"\{name\}", IMAGE, path)
    for verb in route.verb.split():
        if verb == "image.import":
            yield path, {"fromSrc": "-"}, b"", verb
        else:
            yield path, query, body, verb


@pytest.fixture
def objects(engine: Engine, api: Api) -> Iterator[str]:
    """A container, a network, a volume and an exec to ask for."""
    api.ok("POST", "/volumes/create", {"Name": "vol"})
    api.ok("POST", "/networks/create", {"Name": "net"})
    api.run("sleep", "600", name="box")
    made = api.ok("POST", "/containers/box/exec", {"Cmd": ["true"]})
    yield made["Id"]
    api.remove("box")
    api.ok("DELETE", "/networks/net")
    api.ok("DELETE", "/volumes/vol")


def test_each_is_denied_by_its_verb(engine: Engine, api: Api, objects: str) -> None:
    """With nothing allowed, every row answers 403 with the finding on its own verb."""
    with policy(engine, "{api: {allowActions: []}}"):
        for route in ROUTES:
            for path, query, body, verb in requests(route, objects):
                if route.method == "HEAD":
                    status, _, _ = api.raw("HEAD", path, body, **query)
                    assert status == 403, (route.path, status)
                    continue
                ask = Api(engine, WEBSOCKET) if path.endswith("/ws") else api
                status, _, data = ask.raw(route.method, path, body, **query)
                text = data.decode()
                assert status == 403, (route.method, path, status, text)
                first = "image.run" if verb == "container.create" else verb
                assert f"api.action: action={first}: " in text, (route.method, path, text)
    with policy(engine, "{api: {allowActions: [image.run]}}"):
        found = api.refused("POST", "/containers/create", BODIES["/containers/create"])
        assert "api.action: action=container.create: " in found[1]


def test_each_is_allowed_by_its_verb_alone(engine: Engine, api: Api, objects: str) -> None:
    """No row needs another verb besides: a grant for one is enough."""
    for route in ROUTES:
        if route.method != "GET" or route.disconnect == "cancel":
            continue  # what changes nothing and ends by itself
        for path, query, body, verb in requests(route, objects):
            with policy(engine, f"{{api: {{allowActions: [{verb}]}}}}"):
                status, found = api(route.method, path, body, **query)
            assert status == 200, (path, verb, found)
