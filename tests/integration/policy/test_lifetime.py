"""How long containers run: they are stopped when their time is up, whatever happens meanwhile."""

from __future__ import annotations

import time

import pytest

from tests.integration.policy.forced import policy
from tests.support.api import Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
DEAF = ("sh", "-c", "trap '' TERM; while :; do sleep 1; done")


def ended(api: Api, ref: str) -> dict[str, object]:
    return until(lambda: state if not (state := api.state(ref))["Running"] else {})


def test_it_is_stopped_and_says_why(engine: Engine, api: Api) -> None:
    began = int(time.time())
    with policy(engine, "{lifetime: {maximum: 2s}}"):
        made = api.run("sleep", "600", StopSignal="KILL")
    assert api.ok("GET", f"/containers/{made}/json")["Rootless"]["EndsAt"].startswith("20")
    state = ended(api, made)
    assert state["Error"] == "stopped: its time was up, after 2s (lifetime)"
    assert state["ExitCode"] == 137
    with api.stream("GET", "/events", since=began, until=int(time.time()) + 1,
                    filters={"container": [made]}) as found:  # fmt: skip
        events = {event["Action"]: event["Actor"]["Attributes"] for event in found}
    assert events["timeout"]["lifetime"] == "2s"
    assert {"kill", "die", "stop"} <= events.keys()
    # What it was told is for that run; the policy is gone.
    api.ok("POST", f"/containers/{made}/start")
    assert api.state(made)["Error"] == ""
    assert api.ok("GET", f"/containers/{made}/json")["Rootless"]["EndsAt"].startswith("0001")
    api.remove(made)


def test_what_asks_for_less_ends_earlier_and_more_is_denied(engine: Engine) -> None:
    quiet = ("--network", "none", "rootless/busybox", "sleep", "600")
    with policy(engine, "{lifetime: {maximum: 1h}}"):
        done = engine.run("run", "--rm", "--stop-timeout", "0", "--timeout", "1", *quiet)
        assert done.returncode == 137
        denied = engine.run("run", "--rm", "--timeout", "3601", *quiet)
        assert denied.returncode == 125
        assert "lifetime.maximum: HostConfig.Timeout=1h0m1s: the policy allows 1h0m0s at most" in (
            denied.stderr
        )
    with policy(engine, "{lifetime: {requireTimeout: true}}"):
        assert "lifetime.timeout" in engine.run("run", "--rm", *quiet).stderr
    assert "invalid timeout: -1" in engine.run("run", "--timeout", "-1", *quiet).stderr


def test_what_does_not_listen_is_killed(engine: Engine, api: Api) -> None:
    """Also when it asks to be waited for, for ever."""
    with policy(engine, "{lifetime: {maximum: 1s}}"):
        made = api.run(*DEAF, StopTimeout=1)
        assert ended(api, made)["ExitCode"] == 137
    api.remove(made)


def test_restarts_do_not_move_the_end(engine: Engine, api: Api) -> None:
    with policy(engine, "{lifetime: {maximum: 3s}}"):
        host = {"RestartPolicy": {"Name": "always"}}
        made = api.run("sh", "-c", "sleep 0.3; exit 1", HostConfig=host)
        until(lambda: api.ok("GET", f"/containers/{made}/json")["RestartCount"] > 1)
        state = until(lambda: s if (s := api.state(made))["Status"] == "exited" else {})
        assert "its time was up" in str(state["Error"])
    api.remove(made)


def test_the_end_is_kept_over_a_crash_of_the_daemon(fresh_engine: Engine) -> None:
    api = Api(fresh_engine)

    def run(seconds: int) -> str:
        host = {"Timeout": seconds, "RestartPolicy": {"Name": "always"}}
        return api.run("sleep", "600", StopSignal="KILL", HostConfig=host)

    def end(ref: str) -> object:
        return api.ok("GET", f"/containers/{ref}/json")["Rootless"]["EndsAt"]

    long, made = run(600), run(4)
    ends = end(long)
    fresh_engine.kill()
    fresh_engine.start()
    assert api.state(long)["Running"]
    assert end(long) == ends
    assert "its time was up" in str(ended(api, made)["Error"])
    # The time that the daemon was away counts.
    api.ok("POST", f"/containers/{made}/start")
    fresh_engine.kill()
    time.sleep(5)
    fresh_engine.start()
    assert "its time was up" in str(ended(api, made)["Error"])
    # A daemon starts again what has that policy, but not this one.
    began = api.state(made)["StartedAt"]
    fresh_engine.kill()
    fresh_engine.start()
    ended(api, api.run("true"))  # later than what the daemon does by itself
    assert api.state(made)["StartedAt"] == began
