"""Containers' states, answers and relations to one another, as Docker's clients know them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration


def _ended(api: Api, ref: str) -> dict[str, Any]:
    return until(lambda: (s := api.state(ref))["Status"] == "exited" and s)


def test_every_change_that_does_not_fit_the_state_is_refused(api: Api) -> None:
    made = api.create("sleep", "1000", name="states")
    path = f"/containers/{made}"
    assert api("POST", f"{path}/stop")[0] == 304
    assert api.refused("POST", f"{path}/kill") == (
        409, f"cannot kill container: states: container {made} is not running",
    )  # fmt: skip
    assert api.refused("POST", f"{path}/pause") == (409, f"container {made} is not running")
    assert api.refused("POST", f"{path}/unpause") == (409, f"Container {made} is not paused")
    assert api.refused("GET", f"{path}/top")[0] == 409
    assert api.refused("POST", f"{path}/exec", {"Cmd": ["true"]})[0] == 409
    assert api("POST", f"{path}/start")[0] == 204
    assert api("POST", f"{path}/start")[0] == 304
    status, text = api.refused("DELETE", path)
    assert status == 409
    assert text == (
        'cannot remove container "/states": container is running: '
        "stop the container before removing or force remove"
    )
    assert api("POST", f"{path}/stop", t=0)[0] == 204
    assert api("DELETE", path)[0] == 204
    for method, what in (
        ("POST", "start"), ("POST", "stop"), ("POST", "restart"), ("POST", "kill"),
        ("POST", "pause"), ("POST", "unpause"), ("POST", "wait"), ("GET", "top"),
        ("GET", "json"), ("GET", "changes"), ("GET", "export"), ("GET", "stats"),
    ):  # fmt: skip
        found = api.refused(method, f"{path}/{what}")
        assert found == (404, f"No such container: {made}"), what
    assert api.refused("POST", f"{path}/rename", name="other")[0] == 404
    assert api.refused("DELETE", path) == (404, f"No such container: {made}")


@pytest.mark.parametrize("spelling", ["USR1", "SIGUSR1", "sigusr1", "usr1", "10"])
def test_signals_in_every_spelling(api: Api, spelling: str) -> None:
    script = "trap 'exit 7' USR1; touch /ready; while :; do sleep 0.05; done"
    made = api.run("sh", "-c", script)
    until(lambda: api("HEAD", f"/containers/{made}/archive", path="/ready")[0] == 200)
    api.ok("POST", f"/containers/{made}/kill", signal=spelling)
    assert _ended(api, made)["ExitCode"] == 7
    api.remove(made)


@pytest.mark.parametrize("signal", ["NOPE", "0", "65", "-9", "RTMIN+40", "SIG"])
def test_what_is_no_signal_is_refused(api: Api, signal: str) -> None:
    made = api.run("sleep", "1000")
    for what in ("kill", "stop", "restart"):
        status, text = api.refused("POST", f"/containers/{made}/{what}", signal=signal)
        assert (status, text.lower()) == (400, f"invalid signal: {signal.lower()}")
    assert api.state(made)["Running"]
    api.remove(made)


def test_stop_with_a_signal_and_without_an_end(api: Api) -> None:
    """With -1 it waits for ever, also beyond what the container's own time-out says."""
    script = "trap 'sleep 1.5; exit 9' HUP; touch /ready; while :; do sleep 0.05; done"
    made = api.run("sh", "-c", script, StopTimeout=0)
    until(lambda: api("HEAD", f"/containers/{made}/archive", path="/ready")[0] == 200)
    api.ok("POST", f"/containers/{made}/stop", t=-1, signal="HUP")
    assert api.state(made)["ExitCode"] == 9
    api.remove(made)


class _Wait(threading.Thread):
    """A wait that was registered when the constructor returns."""

    def __init__(self, api: Api, ref: str, condition: str) -> None:
        super().__init__(daemon=True)
        self.answer: Any = None
        self._lines = api.stream("POST", f"/containers/{ref}/wait", condition=condition)
        self._reader = self._lines.__enter__()
        self.start()

    def run(self) -> None:
        self.answer = next(self._reader)
        self._lines.__exit__(None, None, None)

    def result(self) -> Any:
        self.join(60)
        return self.answer


def test_waits(api: Api) -> None:
    made = api.create("sh", "-c", "sleep 0.2; exit 3")
    assert api.ok("POST", f"/containers/{made}/wait") == {"StatusCode": 0}  # it does not run
    next_exit, removed = _Wait(api, made, "next-exit"), _Wait(api, made, "removed")
    api.ok("POST", f"/containers/{made}/start")
    assert api.ok("POST", f"/containers/{made}/wait") == {"StatusCode": 3}
    assert next_exit.result() == {"StatusCode": 3}
    assert removed.is_alive()
    api.remove(made)
    assert removed.result() == {"StatusCode": 3}
    created = api.create("true")
    waits = [_Wait(api, created, condition) for condition in ("next-exit", "removed")]
    api.remove(created)
    assert [wait.result() for wait in waits] == [{"StatusCode": 0}] * 2
    status, text = api.refused("POST", f"/containers/{created}/wait", condition="someday")
    assert (status, "invalid condition" in text) == (400, True)


def test_wait_ends_with_each_run_of_a_container_that_is_restarted(api: Api) -> None:
    host = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    made = api.create("sh", "-c", "exit 4", HostConfig=host)
    first = _Wait(api, made, "next-exit")
    api.ok("POST", f"/containers/{made}/start")
    assert first.result() == {"StatusCode": 4}
    assert _ended(api, made)["ExitCode"] == 4
    assert api.ok("GET", f"/containers/{made}/json")["RestartCount"] == 2
    api.remove(made)


def test_restarts_come_later_each_time(api: Api) -> None:
    """100 ms, then twice as long each time."""
    host = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    since = f"{time.time():.9f}"
    made = api.run("false", HostConfig=host)
    _ended(api, made)
    query = {"since": since, "until": f"{time.time():.9f}", "filters": {"container": [made]}}
    with api.stream("GET", "/events", **query) as lines:
        times = [(e["Action"], e["timeNano"] / 1e9) for e in lines]
    died = [at for action, at in times if action == "die"]
    started = [at for action, at in times if action == "start"]
    assert (len(started), len(died)) == (4, 4)
    waited = [start - die for die, start in zip(died, started[1:], strict=False)]
    assert waited[0] >= 0.1
    assert waited[1] >= 0.2
    assert waited[2] >= 0.4
    api.remove(made)


def test_policies_are_checked(api: Api) -> None:
    body: dict[str, Any] = {"Image": IMAGE, "HostConfig": {"NetworkMode": "none"}}
    for policy, text in (
        ({"Name": "sometimes"}, "unknown policy 'sometimes'"),
        ({"Name": "always", "MaximumRetryCount": 3}, "can only be used with 'on-failure'"),
        ({"Name": "no", "MaximumRetryCount": -1}, "'on-failure' and cannot be negative"),
        ({"Name": "on-failure", "MaximumRetryCount": -1}, "maximum retry count cannot be negative"),
    ):
        body["HostConfig"]["RestartPolicy"] = policy
        status, found = api.refused("POST", "/containers/create", body)
        assert (status, text in found) == (400, True), found
    body["HostConfig"] = {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}
    found = api.refused("POST", "/containers/create", body)
    assert found == (400, "can't create 'AutoRemove' container with restart policy")
    made = api.create("true", HostConfig={"AutoRemove": True})
    update = {"RestartPolicy": {"Name": "always"}}
    status, text = api.refused("POST", f"/containers/{made}/update", update)
    assert (status, "because AutoRemove is enabled for the container" in text) == (409, True)
    api.remove(made)


def test_update_of_the_policy_and_of_limits(api: Api) -> None:
    made = api.run("sleep", "1000")
    update = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5}, "PidsLimit": 100}
    assert api.ok("POST", f"/containers/{made}/update", update) == {"Warnings": []}
    host = api.ok("GET", f"/containers/{made}/json")["HostConfig"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    assert host["PidsLimit"] == 100
    for limit, left in ((None, 100), (0, 0), (7, 7), (-1, 0)):
        api.ok("POST", f"/containers/{made}/update", {"PidsLimit": limit})
        assert api.ok("GET", f"/containers/{made}/json")["HostConfig"]["PidsLimit"] == left
    status, text = api.refused("POST", f"/containers/{made}/update", {"Memory": 1 << 10})
    assert (status, "Minimum memory limit allowed is 6MB" in text) == (400, True)
    api.remove(made)


def test_rename(api: Api) -> None:
    one, two = api.create("true", name="first"), api.create("true", name="second")
    path = f"/containers/{one}/rename"
    assert api.refused("POST", path, name="second")[0] == 409
    same = "Renaming a container with the same name as its current name"
    for name in ("first", "/first"):
        assert api.refused("POST", path, name=name) == (400, same)
    assert api.refused("POST", path, name="") == (
        400, "Neither old nor new names may be empty",
    )  # fmt: skip
    assert api.refused("POST", path, name="a b")[0] == 400
    api.ok("POST", path, name="/third")
    assert api.ok("GET", "/containers/third/json")["Id"] == one
    assert api("GET", "/containers/first/json")[0] == 404
    answers: list[int] = []
    racing = [
        threading.Thread(
            target=lambda ref=ref: answers.append(
                api("POST", f"/containers/{ref}/rename", name="wanted")[0]
            )
        )
        for ref in (one, two)
    ]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert sorted(answers) == [204, 409]
    api.remove(one, two)


def _listed(api: Api, **filters: list[str]) -> list[str]:
    found = api.ok("GET", "/containers/json", all=1, filters=filters)
    return [item["Names"][0].removeprefix("/") for item in found]


def test_ps_filters_by_ancestor(api: Api, engine: Engine) -> None:
    """An image, and all that was made from it; a name that means another image by now is gone."""
    base = api.create("true", name="on-base")
    api.ok("POST", "/commit", container=base, repo="ancestry", tag="1")
    child = api.create("true", name="on-child", image="ancestry:1")
    image = api.ok("GET", "/images/ancestry:1/json")["Id"]
    assert _listed(api, ancestor=[IMAGE]) == ["on-child", "on-base"]
    assert _listed(api, ancestor=["ancestry:1"]) == ["on-child"]
    assert _listed(api, ancestor=[image.partition(":")[2][:12]]) == ["on-child"]
    assert _listed(api, ancestor=["no-such-image"]) == []
    assert _listed(api, ancestor=["no-such-image", "ancestry:1"]) == ["on-child"]
    shown = {c["Id"]: c["Image"] for c in api.ok("GET", "/containers/json", all=1)}
    assert shown == {base: IMAGE, child: "ancestry:1"}
    api.ok("POST", f"/images/{IMAGE}/tag", repo="ancestry", tag="1")
    shown = {c["Id"]: c["Image"] for c in api.ok("GET", "/containers/json", all=1)}
    assert shown == {base: IMAGE, child: image}
    api.remove(base, child)
    engine.ok("rmi", "ancestry:1", image)


def test_ps_filters(api: Api) -> None:
    one = api.create("true", name="alpha-1", Labels={"a": "b"}, ExposedPorts={"80/tcp": {}})
    two = api.run("sh", "-c", "exit 3", name="alpha-2")
    three = api.run("sleep", "1000", name="beta", HostConfig={"Binds": ["psvol:/d"]})
    _ended(api, two)
    assert _listed(api, name=["^/?alpha"]) == ["alpha-2", "alpha-1"]
    assert _listed(api, name=["/beta"]) == ["beta"]
    assert _listed(api, exited=["3"]) == ["alpha-2"]
    assert _listed(api, status=["created", "running"]) == ["beta", "alpha-1"]
    assert _listed(api, label=["a=b"]) == ["alpha-1"]
    assert _listed(api, before=["beta"]) == ["alpha-2", "alpha-1"]
    assert _listed(api, since=["alpha-1"], status=["running"]) == ["beta"]
    assert _listed(api, volume=["psvol"]) == _listed(api, volume=["/d"]) == ["beta"]
    assert _listed(api, expose=["80"]) == ["alpha-1"]
    assert _listed(api, network=["none"]) == ["beta", "alpha-2", "alpha-1"]
    assert _listed(api, health=["none"], id=[one]) == ["alpha-1"]
    found = api.ok("GET", "/containers/json", limit=2)
    assert [item["Id"] for item in found] == [three, two]
    assert all("SizeRw" in item for item in api.ok("GET", "/containers/json", size=1))
    for name, value in (("status", "gone"), ("health", "fine"), ("exited", "x"), ("nope", "1")):
        status, text = api.refused("GET", "/containers/json", filters={name: [value]})
        assert (status, "invalid filter" in text) == (400, True)
    assert api.refused("GET", "/containers/json", filters={"before": ["nobody"]})[0] == 404
    api.remove(one, two, three)
    api.ok("DELETE", "/volumes/psvol")


def test_prune(api: Api) -> None:
    kept = api.create("true", Labels={"keep": "1"})
    running = api.run("sleep", "1000")
    old = api.create("true")
    assert (
        api.ok("POST", "/containers/prune", filters={"until": ["1h"]})["ContainersDeleted"] is None
    )
    labels = {"label!": ["keep"]}
    assert api.ok("POST", "/containers/prune", filters=labels)["ContainersDeleted"] == [old]
    assert api.refused("POST", "/containers/prune", filters={"name": ["x"]})[0] == 400
    assert api.refused("POST", "/containers/prune", filters={"until": ["x"]})[0] == 400
    labels = {"label": ["keep=1"]}
    assert api.ok("POST", "/containers/prune", filters=labels)["ContainersDeleted"] == [kept]
    api.remove(running)


def test_what_a_create_names_and_is_not_there_is_no_missing_image(api: Api) -> None:
    """A 404 of a create makes Docker's client pull the image and try again."""
    for host in (
        {"NetworkMode": "container:nobody"},
        {"PidMode": "container:nobody"},
        {"IpcMode": "container:nobody"},
        {"VolumesFrom": ["nobody"]},
        {"Links": ["nobody:alias"]},
    ):
        status, text = api.refused(
            "POST", "/containers/create", {"Image": IMAGE, "HostConfig": host}
        )
        assert (status, "No such container: nobody" in text) == (400, True), host


def test_links_are_refused_with_the_reason(api: Api) -> None:
    other = api.create("true", name="db")
    host = {"Links": ["db:database"], "NetworkMode": "slirp4netns"}
    body: dict[str, Any] = {"Image": IMAGE, "HostConfig": host}
    status, text = api.refused("POST", "/containers/create", body)
    assert status in (400, 501)
    assert "cannot link to db" in text
    assert "--network container:db" in text
    for links, mode, expected in (
        (["a:b:c"], "", "bad format for links: a:b:c"),
        (["db"], "host", "host type networking can't be used with links"),
        (["db"], "container:db", "container type network can't be used with links"),
    ):
        body["HostConfig"] = {"Links": links, "NetworkMode": mode}
        status, text = api.refused("POST", "/containers/create", body)
        assert (status, expected in text) == (400, True), text
    api.remove(other)


def test_whoever_joins_a_network_has_none_of_its_own_to_configure(api: Api) -> None:
    donor = api.run("sleep", "1000", name="donor", Hostname="of-donor")
    for config, host, text in (
        ({"Hostname": "mine"}, {}, "hostname and the network mode"),
        ({"ExposedPorts": {"80/tcp": {}}}, {}, "port exposing and the container type network mode"),
        (
            {},
            {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}},
            "port publishing and the container",
        ),
        ({}, {"PublishAllPorts": True}, "port publishing and the container type network mode"),
        ({}, {"Dns": ["9.9.9.9"]}, "dns and the network mode"),
        ({}, {"ExtraHosts": ["a:10.0.0.1"]}, "custom host-to-IP mapping and the network mode"),
        ({"MacAddress": "92:d0:c6:0a:29:33"}, {}, "mac-address and the network mode"),
    ):
        body = {"Image": IMAGE, **config, "HostConfig": {"NetworkMode": "container:donor", **host}}
        status, found = api.refused("POST", "/containers/create", body)
        assert (status, text in found) == (400, True), found
    joining = api.create("hostname", HostConfig={"NetworkMode": "container:donor"})
    api.ok("POST", f"/containers/{joining}/start")
    _ended(api, joining)
    _, _, output = api.raw("GET", f"/containers/{joining}/logs", stdout=1)
    assert output[8:].strip() == b"of-donor"
    api.ok("POST", f"/containers/{donor}/stop", t=0)
    assert api.refused("POST", f"/containers/{joining}/start") == (
        409,
        "cannot join network namespace of a non running container: container donor is exited "
        "(hint: rootless start donor)",
    )
    api.ok("POST", f"/containers/{donor}/start")
    api.ok("POST", f"/containers/{joining}/start")
    _ended(api, joining)
    api.remove(joining, donor)


def test_ipc_is_shared_by_who_says_so(api: Api) -> None:
    private = api.run("sleep", "1000", name="private-ipc")
    asked = {"IpcMode": "container:private-ipc"}
    joining = api.create("cat", "/dev/shm/x", HostConfig=asked)
    status, text = api.refused("POST", f"/containers/{joining}/start")
    assert (status, "non-shareable IPC (hint: use IpcMode:shareable for the donor" in text) == (
        400, True,
    )  # fmt: skip
    api.remove(joining, private)
    script = "echo shared > /dev/shm/x; sleep 1000"
    donor = api.run("sh", "-c", script, name="donor", HostConfig={"IpcMode": "shareable"})
    until(lambda: api("HEAD", f"/containers/{donor}/archive", path="/dev/shm/x")[0] == 200)
    joining = api.run("cat", "/dev/shm/x", HostConfig={"IpcMode": "container:donor"})
    assert _ended(api, joining)["ExitCode"] == 0
    api.ok("POST", f"/containers/{donor}/stop", t=0)
    assert api.refused("POST", f"/containers/{joining}/start")[0] == 409
    api.remove(joining, donor)


def test_ipc_none_has_no_shared_memory(api: Api) -> None:
    script = "grep -q ' /dev/shm ' /proc/mounts && exit 1; grep -q mqueue /proc/mounts"
    made = api.run("sh", "-c", script, HostConfig={"IpcMode": "none"})
    assert _ended(api, made)["ExitCode"] == 0
    assert api.ok("GET", f"/containers/{made}/json")["HostConfig"]["IpcMode"] == "none"
    api.remove(made)


def test_pids_are_seen_by_who_joins(api: Api) -> None:
    donor = api.run("sleep", "1234", name="donor")
    script = "cat /proc/1/cmdline | tr '\\0' ' '"
    joining = api.run("sh", "-c", script, HostConfig={"PidMode": "container:donor"})
    assert _ended(api, joining)["ExitCode"] == 0
    _, _, output = api.raw("GET", f"/containers/{joining}/logs", stdout=1)
    assert output[8:] == b"sleep 1234 "
    api.remove(joining, donor)


def test_stats_of_a_container_that_does_not_run_come_at_once(api: Api) -> None:
    made = api.create("true", name="idle")
    took = []
    while not took or (min(took) >= 0.9 and len(took) < 20):  # a second lies between two samples
        began = time.monotonic()
        found = api.ok("GET", f"/containers/{made}/stats", stream=0)
        took.append(time.monotonic() - began)
    assert min(took) < 0.9
    assert (found["id"], found["name"]) == (made, "/idle")
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert found["memory_stats"] == {}
    api.remove(made)


def test_stats_of_one_that_runs(api: Api) -> None:
    made = api.run("sh", "-c", "while :; do :; done")
    path = f"/containers/{made}/stats"
    one_shot = api.ok("GET", path, stream=0, **{"one-shot": 1})
    assert one_shot["preread"].startswith("0001-01-01")
    assert one_shot["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    twice = api.ok("GET", path, stream=0)
    assert not twice["preread"].startswith("0001-01-01")
    used = [twice[key]["cpu_usage"]["total_usage"] for key in ("precpu_stats", "cpu_stats")]
    assert 0 < used[0] < used[1]
    assert twice["cpu_stats"]["system_cpu_usage"] > twice["precpu_stats"]["system_cpu_usage"]
    assert twice["pids_stats"].get("current", 0) >= 1, twice
    assert twice["memory_stats"]["usage"] > 0
    with api.stream("GET", path) as lines:
        first, second = next(lines), next(lines)
        assert first["preread"].startswith("0001-01-01")
        assert second["preread"] == first["read"]
    assert api.refused("GET", path, stream=1, **{"one-shot": 1})[0] == 400
    api.remove(made)
