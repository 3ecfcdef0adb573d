"""Schemathesis drives the engine with requests made from Docker's description.

No 5xx but those the description has for an engine in no swarm, no hang, nothing left
behind; what the answers look like is checked as everywhere (docs/testing.md). A few
requests an endpoint, always the same ones, unless ROOTLESS_API_REQUESTS says how many:
then others each time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.conformance.world import Request, World
from tests.support.api import IMAGE, Api, UnixConnection
from tests.support.engine import Engine, new_engine
from tests.support.shared import api_description

pytestmark = pytest.mark.integration
MANY = int(os.environ.get("ROOTLESS_API_REQUESTS", "0"))
HEAD_SECONDS = 60
STREAM_SECONDS = 0.3
"""How long the body of an answer that does not end is read."""
STREAMS = ("/attach", "/attach/ws", "/logs", "/stats", "/wait", "/events", "/start", "/exec")


@schemathesis.serializer("application/x-tar")
def archive(_context: Any, value: Any) -> bytes:
    """Bytes stay what they are."""
    return bytes(value)


@cache
def operations() -> dict[str, Any]:
    """Every operation of the description by its label: ``GET /info``."""
    path = api_description()
    if path is None:
        return {}
    schema = schemathesis.openapi.from_path(path)
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


def cases(operation: Any) -> st.SearchStrategy[Any]:
    """Requests as described, and such as break the description."""
    right = operation.as_strategy()
    if not (operation.body or operation.query):
        return right
    return st.one_of(right, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """An engine with something of everything."""
    with new_engine() as engine:
        made = World(Api(engine))
        made.refill()
        before = descriptors(engine)
        yield made
        made.refill()
        # Some are opened once, by the first who needs them; a leak has one for each request.
        deadline = time.monotonic() + 60
        while len(left := descriptors(engine)) > len(before) + 8:
            assert time.monotonic() < deadline, f"open before: {before}\nopen now: {left}"
            time.sleep(0.1)
        made.clear()
        assert engine.leftovers() == []
        assert engine.ok("run", "--rm", "--network", "none", IMAGE, "echo", "well") == "well"


def descriptors(engine: Engine) -> list[str]:
    """What the daemon has open."""
    assert engine.daemon is not None
    directory = f"/proc/{engine.daemon.pid}/fd"
    found = []
    for number in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"{directory}/{number}"))
    return sorted(found)


def send(engine: Engine, request: Request) -> tuple[int, bytes]:
    """Status and the beginning of the body; raises TimeoutError when no answer comes."""
    method, template = request.label.split(" ", 1)
    target = request.version + template
    for name, value in request.path.items():
        target = target.replace(f"{{{name}}}", quote(str(value), safe="/:"))
    if request.query:
        target += "?" + urlencode(request.query, doseq=True)
    data = request.body
    headers = dict(request.headers)
    if data is not None and not isinstance(data, bytes):
        data = json.dumps(data).encode("utf-8", "surrogatepass")
        headers["Content-Type"] = "application/json"
    connection = UnixConnection(str(engine.socket), seconds=HEAD_SECONDS)
    try:
        connection.request(method, target, data, headers)
        sock = connection.sock
        answer = connection.getresponse()
        endless = template.endswith(STREAMS)
        if endless:
            sock.settimeout(STREAM_SECONDS)
        try:
            return answer.status, answer.read(1 << 16 if endless else None)
        except TimeoutError:
            if not endless:
                raise
            return answer.status, b""
    finally:
        connection.close()


def check(engine: Engine, request: Request) -> None:
    """Send it; anything but an answer of Docker's kind is a failure."""
    began = time.monotonic()
    try:
        status, body = send(engine, request)
    except (TimeoutError, http.client.HTTPException, ConnectionError) as error:
        pytest.fail(f"{request}: {error!r} after {time.monotonic() - began:.1f} s")
    assert engine.daemon is not None
    assert engine.daemon.poll() is None, f"the daemon ended: {engine.log.read_text()[-4000:]}"
    assert status < 500 or status == 503, (request, status, body)
    if status == 503:
        assert b"swarm" in body or b"127.0.0.1:1" in body, (request, body)
    wrong = engine.wrong_answers()
    assert not wrong, (request, wrong)


@pytest.mark.parametrize("label", operations() or ["no description"])
@pytest.mark.timeout(120 + 2 * MANY)
def test_generated_requests(label: str, world: World) -> None:
    if label not in operations():
        pytest.skip("host lacks shared test data: no description of Docker's API")
    engine = world.api.engine
    world.refill()

    @settings(
        max_examples=MANY or 6,
        derandomize=not MANY,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=cases(operations()[label]), data=st.data())
    def drive(case: Any, data: st.DataObject) -> None:
        body = case.body if isinstance(case.body, dict | list | str | int | bool) else None
        if hasattr(case.body, "data"):
            body = bytes(case.body.data)
        headers = {name: str(value) for name, value in (case.headers or {}).items()}
        request = Request(
            label, dict(case.path_parameters or {}), dict(case.query or {}), headers, body
        )
        assume("\0" not in str(request.path))
        world.lead(request, data.draw)
        check(engine, request)

    drive()
    uncaught = engine.uncaught()
    assert not uncaught, uncaught
