"""Health checks: of the image and of the request, their times, log, events and texts."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.api import Api, until
from tests.support.engine import Engine, new_engine

pytestmark = pytest.mark.integration
MS = 10**6


def _health(api: Api, ref: str) -> dict[str, Any]:
    return dict(api.state(ref)["Health"])


def _check(*test: str, **times: int) -> dict[str, object]:
    return {"Test": list(test), "Interval": 50 * MS, "Timeout": 20_000 * MS, "Retries": 2, **times}


def test_a_life_of_probes(api: Api) -> None:
    since = f"{time.time():.9f}"
    script = "CMD-SHELL", "echo probe; test -e /ok"
    made = api.run("sleep", "1000", Healthcheck=_check(*script), WorkingDir="/srv")
    listed = lambda: api.ok("GET", "/containers/json", filters={"id": [made]})[0]["Status"]  # noqa: E731 - a name for one expression
    until(lambda: _health(api, made)["Status"] == "unhealthy")
    assert listed().endswith("(unhealthy)")
    assert _health(api, made)["FailingStreak"] >= 2
    run = api.ok("POST", f"/containers/{made}/exec", {"Cmd": ["touch", "/ok"]})["Id"]
    api.ok("POST", f"/exec/{run}/start", {"Detach": True})
    until(lambda: _health(api, made)["Status"] == "healthy")
    assert listed().endswith("(healthy)")
    until(lambda: len(_health(api, made)["Log"]) == 5)
    health = _health(api, made)
    assert health["FailingStreak"] == 0
    assert {probe["Output"] for probe in health["Log"]} == {"probe\n"}
    starts = [probe["Start"] for probe in health["Log"]]
    assert starts == sorted(starts)
    assert api.ok("GET", "/containers/json", filters={"health": ["healthy"]})[0]["Id"] == made
    query = {"since": since, "until": f"{time.time():.9f}"}
    with api.stream("GET", "/events", **query, filters={"event": ["health_status"]}) as lines:
        assert [line["Action"] for line in lines] == [
            "health_status: unhealthy", "health_status: healthy",
        ]  # fmt: skip
    with api.stream("GET", "/events", **query, filters={"event": ["exec_die"]}) as lines:
        assert next(lines)["Actor"]["ID"] == made
    api.remove(made)


def test_it_runs_where_the_container_runs(api: Api) -> None:
    check = _check("CMD-SHELL", 'test "$PWD" = /tmp && test "$A" = b')
    made = api.run("sleep", "1000", Healthcheck=check, WorkingDir="/tmp", Env=["A=b"])
    until(lambda: _health(api, made)["Status"] == "healthy")
    api.remove(made)


def test_a_probe_that_takes_too_long(api: Api) -> None:
    check = _check("CMD", "sh", "-c", "echo so far; sleep 60", Retries=1, Timeout=300 * MS)
    made = api.run("sleep", "1000", Healthcheck=check)
    until(lambda: _health(api, made)["Status"] == "unhealthy")
    probe = _health(api, made)["Log"][0]
    assert (probe["ExitCode"], probe["Output"]) == (
        -1, "Health check exceeded timeout (300ms): so far\n",
    )  # fmt: skip
    began = time.monotonic()
    api.ok("POST", f"/containers/{made}/stop", t=0)  # in the middle of the next one
    assert time.monotonic() - began < 30
    state = api.state(made)
    assert (state["Status"], state["Health"]["Status"]) == ("exited", "unhealthy")
    api.remove(made)


def test_long_output_is_cut(api: Api) -> None:
    made = api.run("sleep", "1000", Healthcheck=_check("CMD-SHELL", "yes | head -c 9000"))
    until(lambda: _health(api, made)["Log"])
    output = _health(api, made)["Log"][0]["Output"]
    assert (len(output), output[-3:]) == (4096 + 3, "...")
    api.remove(made)


def test_failures_do_not_count_in_the_start_period(api: Api) -> None:
    times = {"StartPeriod": 600_000 * MS, "StartInterval": 50 * MS, "Interval": 600_000 * MS}
    check = _check("CMD-SHELL", "test -e /ok", **times)
    made = api.run("sleep", "1000", Healthcheck=check)
    until(lambda: len(_health(api, made)["Log"]) == 5)
    health = _health(api, made)
    assert (health["Status"], health["FailingStreak"]) == ("starting", 0)
    status = api.ok("GET", "/containers/json", filters={"id": [made]})[0]["Status"]
    assert status.endswith("(health: starting)")
    run = api.ok("POST", f"/containers/{made}/exec", {"Cmd": ["touch", "/ok"]})["Id"]
    api.ok("POST", f"/exec/{run}/start", {"Detach": True})
    until(lambda: _health(api, made)["Status"] == "healthy")
    api.remove(made)


def test_the_images_check_is_taken_changed_and_switched_off(api: Api, engine: Engine) -> None:
    base = api.create("sleep", "1000")
    change = "HEALTHCHECK --interval=50ms --retries=1 CMD test -e /ok"
    api.ok("POST", "/commit", container=base, repo="checked", tag="1", changes=change)
    of_image = api.run("sleep", "1000", image="checked:1")
    until(lambda: _health(api, of_image)["Status"] == "unhealthy")
    changed = api.run("sleep", "1000", image="checked:1", Healthcheck={"Test": ["CMD", "true"]})
    until(lambda: _health(api, changed)["Status"] == "healthy")
    assert api.ok("GET", f"/containers/{changed}/json")["Config"]["Healthcheck"] == {
        "Test": ["CMD", "true"], "Interval": 50 * MS, "Retries": 1,
    }  # fmt: skip
    off = api.run("sleep", "1000", image="checked:1", Healthcheck={"Test": ["NONE"]})
    assert "Health" not in api.state(off)
    assert api.ok("GET", "/containers/json", filters={"health": ["none"]})[0]["Id"] == off
    api.remove(base, of_image, changed, off)
    engine.ok("rmi", "checked:1")


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (
            {"Test": ["CMD", "x"], "Interval": 500},
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        ({"Test": ["CMD", "x"], "Timeout": -1}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"Test": ["CMD", "x"], "StartPeriod": 1}, "StartPeriod in Healthcheck cannot be less"),
        ({"Test": ["CMD", "x"], "StartInterval": 1}, "StartInterval in Healthcheck cannot be"),
        ({"Test": ["CMD", "x"], "Retries": -1}, "Retries in Healthcheck cannot be negative"),
        ({"Test": ["WHAT", "x"]}, "Unknown type in Healthcheck"),
    ],
)
def test_wrong_checks_are_refused(api: Api, check: dict[str, object], text: str) -> None:
    body = {"Image": "rootless/busybox", "Healthcheck": check}
    status, found = api.refused("POST", "/containers/create", body)
    assert (status, text in found) == (400, True), found


def test_probes_go_on_after_a_restart_of_the_daemon() -> None:
    with new_engine() as engine:
        api = Api(engine)
        made = api.run("sleep", "1000", Healthcheck=_check("CMD-SHELL", "test -e /ok"))
        until(lambda: _health(api, made)["Status"] == "unhealthy")
        engine.kill()
        engine.start()
        assert _health(api, made)["Status"] == "unhealthy"
        run = api.ok("POST", f"/containers/{made}/exec", {"Cmd": ["touch", "/ok"]})["Id"]
        api.ok("POST", f"/exec/{run}/start", {"Detach": True})
        until(lambda: _health(api, made)["Status"] == "healthy")
