"""Pausing: what a paused container is, and what ends or refuses it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rootless.linux import cgroupfs
from tests.support.api import Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
TICKS = "while :; do echo tick >> /ticks; sleep 0.02; done"


@pytest.fixture(autouse=True)
def _can_freeze() -> None:
    if not cgroupfs.find().delegated:
        pytest.skip("host lacks delegated cgroup controllers: no delegated cgroup")


def _ticks(api: Api, ref: str) -> int:
    status, _, body = api.raw("GET", f"/containers/{ref}/archive", path="/ticks")
    return body.count(b"tick") if status == 200 else 0


def test_nothing_runs_while_it_is_paused(api: Api) -> None:
    since = f"{time.time():.9f}"
    made = api.run("sh", "-c", TICKS, name="pausing")
    path = f"/containers/{made}"
    until(lambda: _ticks(api, made) > 0)
    api.ok("POST", f"{path}/pause")
    state = api.state(made)
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    assert (
        "(Paused)" in api.ok("GET", "/containers/json", filters={"status": ["paused"]})[0]["Status"]
    )
    before = _ticks(api, made)
    assert api.refused("POST", f"{path}/pause") == (409, f"Container {made} is already paused")
    status, text = api.refused("POST", f"{path}/exec", {"Cmd": ["true"]})
    assert (status, "is paused, unpause the container" in text) == (409, True)
    status, text = api.refused("POST", f"{path}/start")
    assert (status, text) == (409, "cannot start a paused container, try unpause instead")
    status, text = api.refused("DELETE", path)
    assert (status, "is paused and must be unpaused first" in text) == (409, True)
    assert _ticks(api, made) == before
    api.ok("POST", f"{path}/unpause")
    until(lambda: _ticks(api, made) > before)
    api.remove(made)
    query = {"since": since, "until": f"{time.time():.9f}", "filters": {"container": [made]}}
    with api.stream("GET", "/events", **query) as lines:
        actions = [e["Action"] for e in lines if e["Action"] in ("pause", "unpause")]
    assert actions == ["pause", "unpause"]


@pytest.mark.parametrize(
    ("method", "what", "query"),
    [
        ("POST", "/stop", {"t": 1}),
        ("POST", "/kill", {}),
        ("POST", "/restart", {"t": 0}),
        ("DELETE", "", {"force": 1}),
    ],
)
def test_what_ends_a_paused_container(
    api: Api, method: str, what: str, query: dict[str, object]
) -> None:
    made = api.run("sleep", "1000")
    api.ok("POST", f"/containers/{made}/pause")
    api.ok(method, f"/containers/{made}{what}", **query)
    if method == "DELETE":
        assert api("GET", f"/containers/{made}/json")[0] == 404
        return
    wanted = "running" if what == "/restart" else "exited"
    until(lambda: api.state(made)["Status"] == wanted)
    api.remove(made)


def test_commit_pauses_and_goes_on(api: Api, engine: Engine) -> None:
    made = api.run("sh", "-c", TICKS)
    until(lambda: _ticks(api, made) > 0)
    api.ok("POST", "/commit", container=made, repo="paused", tag="1", pause=1)
    assert api.state(made)["Status"] == "running"
    before = _ticks(api, made)
    until(lambda: _ticks(api, made) > before)
    api.remove(made)
    engine.ok("rmi", "paused:1")


def test_one_that_is_killed_while_it_is_committed_stays_dead(api: Api, engine: Engine) -> None:
    """The commit thaws at its end what is no longer there."""
    made = api.run("sh", "-c", "head -c 150000000 /dev/urandom > /big; touch /ready; sleep 1000")
    until(lambda: api("HEAD", f"/containers/{made}/archive", path="/ready")[0] == 200)
    with ThreadPoolExecutor(1) as pool:
        committing = pool.submit(api.ok, "POST", "/commit", container=made, repo="big", tag="1")
        until(lambda: api.state(made)["Paused"] or committing.done())
        api.ok("POST", f"/containers/{made}/kill")
        committing.result(60)
    state = api.state(made)
    assert (state["Status"], state["Pid"], state["ExitCode"]) == ("exited", 0, 137)
    api.remove(made)
    engine.ok("rmi", "big:1")


def test_a_paused_container_is_paused_for_the_next_daemon(fresh_engine: Engine) -> None:
    api = Api(fresh_engine)
    made = api.run("sh", "-c", TICKS)
    until(lambda: _ticks(api, made) > 0)
    api.ok("POST", f"/containers/{made}/pause")
    fresh_engine.kill()
    fresh_engine.start()
    assert api.state(made)["Status"] == "paused"
    before = _ticks(api, made)
    api.ok("POST", f"/containers/{made}/unpause")
    until(lambda: _ticks(api, made) > before)
