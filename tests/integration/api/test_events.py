"""What ``GET /events`` tells of containers, volumes, networks and images."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.api import IMAGE, Api
from tests.support.engine import Engine

pytestmark = pytest.mark.integration


class Heard:
    """What happened since it was made."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._since = f"{time.time_ns() / 1e9:.9f}"

    def __call__(self, **filters: list[str]) -> list[dict[str, Any]]:
        """Events up to now that pass the filters."""
        query = {"since": self._since, "until": f"{time.time_ns() / 1e9:.9f}", "filters": filters}
        with self._api.stream("GET", "/events", **query) as lines:
            return list(lines)

    def lines(self, **filters: list[str]) -> list[str]:
        """``type action`` of each."""
        return [f"{event['Type']} {event['Action']}" for event in self(**filters)]


@pytest.fixture
def heard(api: Api, engine: Engine) -> Heard:
    engine.ok("images", "--quiet")  # the built-in image is there, and no event of it comes later
    return Heard(api)


@contextmanager
def _volume(api: Api, name: str) -> Iterator[None]:
    api.ok("POST", "/volumes/create", {"Name": name})
    yield
    api.ok("DELETE", f"/volumes/{name}")


def test_a_life_with_a_volume_is_told_in_dockers_order(api: Api, heard: Heard) -> None:
    with _volume(api, "told"):
        made = api.run("sleep", "1000", name="told-of", HostConfig={"Binds": ["told:/d:ro"]})
        api.ok("POST", f"/containers/{made}/stop", t=0)
        api.remove(made)
    assert heard.lines() == [
        "volume create",
        "container create",
        "network connect",
        "volume mount",
        "container start",
        "container kill",
        "container kill",
        "network disconnect",
        "volume unmount",
        "container die",
        "container stop",
        "container destroy",
        "volume destroy",
    ]
    events = {f"{e['Type']} {e['Action']}": e["Actor"] for e in heard()}
    assert events["volume mount"] == {
        "ID": "told",
        "Attributes": {
            "driver": "local", "container": made, "destination": "/d", "read/write": "false",
            "propagation": "",
        },
    }  # fmt: skip
    assert events["network connect"]["Attributes"] == {
        "container": made, "name": "none", "type": "null",
    }  # fmt: skip
    die = events["container die"]["Attributes"]
    assert (die["exitCode"], die["name"], die["image"]) == ("137", "told-of", IMAGE)
    assert die["execDuration"].isdigit()
    signals = [e["Actor"]["Attributes"]["signal"] for e in heard(event=["kill"])]
    assert signals == ["15", "9"]


def test_a_restart_tells_of_the_stop_and_the_start_in_it(api: Api, heard: Heard) -> None:
    made = api.run("sleep", "1000")
    api.ok("POST", f"/containers/{made}/restart", t=0, signal="INT")
    lines = heard.lines(type=["container"], container=[made])
    assert lines[2:] == [
        "container kill",
        "container kill",
        "container die",
        "container stop",
        "container start",
        "container restart",
    ]
    api.remove(made)


def test_an_anonymous_volume_is_told_of(api: Api, heard: Heard) -> None:
    made = api.create("true", Volumes={"/data": {}})
    name = api.ok("GET", f"/containers/{made}/json")["Mounts"][0]["Name"]
    api.remove(made)
    assert [e["Actor"]["ID"] for e in heard(type=["volume"])] == [name, name]
    assert heard.lines(type=["volume"]) == ["volume create", "volume destroy"]


def test_everything_else_a_container_does(api: Api, heard: Heard) -> None:
    made = api.run("sleep", "1000", name="old-name", Labels={"tier": "front"})
    path = f"/containers/{made}"
    api.ok("GET", f"{path}/top")
    run = api.ok("POST", f"{path}/exec", {"Cmd": ["true"]})["Id"]
    api.ok("POST", f"/exec/{run}/start", {"Detach": True})
    api.ok("POST", f"{path}/rename", name="new-name")
    api.ok("POST", f"{path}/update", {"RestartPolicy": {"Name": "no"}})
    api.raw("GET", f"{path}/archive", path="/etc/passwd")
    tar = io.BytesIO()
    tarfile.open(fileobj=tar, mode="w").close()
    assert api.raw("PUT", f"{path}/archive", tar.getvalue(), path="/tmp")[0] == 200
    assert api.raw("GET", f"{path}/export")[0] == 200
    api.ok("POST", f"{path}/kill", signal="USR1")
    api.remove(made)
    actions = [line.removeprefix("container ") for line in heard.lines(container=[made])]
    for expected in (
        "create", "start", "top", "exec_create: true ", "exec_start: true ", "exec_die", "rename",
        "update", "archive-path", "extract-to-dir", "export", "kill", "die", "destroy",
    ):  # fmt: skip
        assert expected in actions, expected
    events = {e["Action"]: e["Actor"]["Attributes"] for e in heard(label=["tier=front"])}
    assert events["rename"]["oldName"] == "/old-name"
    assert events["rename"]["name"] == "new-name"
    assert events["exec_die"]["execID"] == run
    assert events["exec_die"]["exitCode"] == "0"


def test_images_are_told_of_with_their_labels(api: Api, heard: Heard) -> None:
    made = api.create("true")
    label = {"Labels": {"tier": "back"}}
    image = api.ok("POST", "/commit", label, container=made, repo="told/image", tag="1")["Id"]
    api.ok("POST", "/images/told/image:1/tag", repo="told/image", tag="2")
    api.raw("GET", "/images/told/image:1/get")
    api.ok("DELETE", "/images/told/image:2")
    api.ok("DELETE", "/images/told/image:1")
    api.remove(made)
    events = heard(type=["image"])
    found = [(e["Action"], e["Actor"]["ID"], e["Actor"]["Attributes"]["name"]) for e in events]
    assert found == [
        ("create", image, image),
        ("tag", image, "told/image:1"),
        ("tag", image, "told/image:2"),
        ("save", image, image),
        ("untag", image, "told/image:2"),
        ("untag", image, "told/image:1"),
        ("delete", image, image),
    ]
    assert {e["Actor"]["Attributes"].get("tier") for e in events[:4]} == {"back"}
    commit = heard(event=["commit"])[0]["Actor"]["Attributes"]
    assert commit["imageID"] == image
    assert heard.lines(image=["told/image"])[0] == "image tag"


def test_the_end_bounds_history_and_what_is_to_come(api: Api, heard: Heard) -> None:
    """``until`` alone shows what is remembered up to it; one to come ends the stream then."""
    made = api.create("true")
    later = time.time() + 1.5
    with api.stream("GET", "/events", until=f"{later:.9f}") as lines:
        assert next(line for line in lines if line["Actor"]["ID"] == made)["Action"] == "create"
        api.remove(made)
        rest = list(lines)
    assert [e["Action"] for e in rest if e["Actor"]["ID"] == made] == ["destroy"]
    assert time.time() >= later
    with api.stream("GET", "/events", since=0, filters={"container": [made]}) as lines:
        assert [next(lines)["Action"], next(lines)["Action"]] == ["create", "destroy"]
    times = [event["timeNano"] for event in heard()]
    assert times == sorted(times)


def test_wrong_bounds_and_filters(api: Api) -> None:
    status, text = api.refused("GET", "/events", since=20, until=10)
    assert (status, "cannot be after" in text) == (400, True)
    status, text = api.refused("GET", "/events", filters={"colour": ["red"]})
    assert (status, "invalid filter 'colour'" in text) == (400, True)
