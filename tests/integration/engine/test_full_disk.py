"""No space is left: what needs some fails in words, all else goes on, removing works."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from tests.integration.api.test_vanishing import SlowRegistry, registry_digest
from tests.support import registry
from tests.support.api import Api, until
from tests.support.smalldisk import SmallDisk, small_disk

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
MIB = 1 << 20


@pytest.fixture(scope="module")
def shared() -> Iterator[SmallDisk]:
    with small_disk("size=64m") as disk:
        disk.engine.ok("run", "--rm", "--network", "none", IMAGE, "true")
        yield disk


@pytest.fixture
def disk(shared: SmallDisk) -> Iterator[SmallDisk]:
    """A disk with room at first; afterwards no container is left and the engine works."""
    yield shared
    assert shared.engine.daemon is not None
    assert shared.engine.daemon.poll() is None
    left = shared.engine.leftovers()
    shared.engine.purge()
    assert not left
    assert shared.engine.ok("run", "--rm", "--network", "none", IMAGE, "echo", "on") == "on"


@pytest.fixture
def api(disk: SmallDisk) -> Api:
    return Api(disk.engine)


def full(text: str) -> bool:
    """The words every such error has."""
    return "no space left on device" in text.lower()


def refused(api: Api, method: str, path: str, body: object = None, /, **query: object) -> None:
    """In words, with Docker's status."""
    status, found = api(method, path, body, **query)
    assert status == 500, found
    assert full(found["message"]), found


def _archive(size: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo("d/big")
        entry.size = size
        tar.addfile(entry, io.BytesIO(os.urandom(size)))
    return made.getvalue()


@contextmanager
def space_back(disk: SmallDisk) -> Iterator[None]:
    """Afterwards no more is in use than before, but for the database's log."""
    before = disk.used
    yield
    until(lambda: disk.used <= before + MIB)


def test_a_container_that_fills_it(disk: SmallDisk) -> None:
    with space_back(disk):
        done = disk.engine.run(
            "run", "--name", "greedy", "--network", "none", IMAGE,
            "sh", "-c", "cat /dev/zero > /big",
        )  # fmt: skip
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert disk.left <= MIB  # what the engine had set aside
        shown = disk.engine.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "greedy")
        assert shown == "exited 1"
        disk.engine.ok("rm", "greedy")


def test_the_end_of_a_container(disk: SmallDisk, api: Api) -> None:
    """Its exit status is told and kept, also by a daemon that is killed and started again."""
    ends = {name: api.create("sh", "-c", "read x; exit 7", name=name, OpenStdin=True)
            for name in ("one", "two")}  # fmt: skip
    for ref in ends.values():
        api.ok("POST", f"/containers/{ref}/start")
    with disk.filled():
        for ref in ends.values():
            disk.engine.ok("kill", "-s", "TERM", ref)
            disk.engine.ok("stop", "-t", "0", ref)
            assert api.ok("POST", f"/containers/{ref}/wait")["StatusCode"] == 137
            assert api.state(ref)["Status"] == "exited"
        disk.engine.ok("rm", "one")
        assert [c["Names"] for c in api.ok("GET", "/containers/json", all=1)] == [["/two"]]
    disk.engine.ok("rm", "two")


def test_what_cannot_be_made(disk: SmallDisk, api: Api) -> None:
    """What needs no space may still be had, and is whole then."""
    known = {api.run("sleep", "1000")}
    with disk.filled():
        for _ in range(3):
            status, found = api("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"]})
            if status == 201:
                known.add(found["Id"])
            else:
                assert full(found["message"]), found
        refused(api, "POST", "/volumes/create", {"Name": "none"})
        status, found = api("POST", f"/containers/{min(known)}/exec", {"Cmd": ["true"]})
        assert status in (201, 409) or full(found["message"]), found
        done = disk.engine.run("run", "--rm", "--network", "none", IMAGE, "true")
        assert done.returncode == 0 or full(done.stderr), done
        assert {c["Id"] for c in api.ok("GET", "/containers/json", all=1)} == known
        assert not api.ok("GET", "/volumes")["Volumes"]
        assert api.ok("GET", "/info")["Containers"] == len(known)
        disk.engine.ok("rm", "-f", *known)


def test_a_container_made_before(disk: SmallDisk, api: Api) -> None:
    """Starting needs little, which may be there; when it is not, the error says so."""
    ref = api.create("true")
    with disk.filled():
        status, found = api("POST", f"/containers/{ref}/start")
        if status == 204:
            assert api.ok("POST", f"/containers/{ref}/wait")["StatusCode"] == 0
        else:
            assert full(found["message"]), found
            assert api.state(ref)["Status"] == "created"
        disk.engine.ok("rm", ref)


def test_files_into_a_container(disk: SmallDisk, api: Api) -> None:
    ref = api.run("sleep", "1000")
    with disk.filled(leave=4 * MIB):
        refused(api, "PUT", f"/containers/{ref}/archive", _archive(16 * MIB), path="/tmp")
        api.remove(ref)


@pytest.mark.parametrize("what", ["import", "load"])
def test_an_image(disk: SmallDisk, api: Api, what: str) -> None:
    """Nothing of it stays, not even for a later try: an archive is sent as a whole."""
    images = disk.engine.ok("images", "-aq")
    with disk.filled(leave=4 * MIB), space_back(disk):
        data = _archive(16 * MIB)
        query = {"fromSrc": "-", "repo": "x"} if what == "import" else {}
        path = "/images/create" if what == "import" else "/images/load"
        status, _, answer = api.raw("POST", path, data, **query)
        text = answer.decode()
        assert full(text), (status, text)
        assert disk.engine.ok("images", "-aq") == images


def test_a_pull(disk: SmallDisk, api: Api) -> None:
    images = disk.engine.ok("images", "-aq")
    served = SlowRegistry()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith(registry_digest(served.layer)) and handler.command == "GET":
            registry.reply(handler, 200, served.layer)
        else:
            served(handler)

    with registry.http_server(answer) as home, disk.filled(leave=4 * MIB), space_back(disk):
        _, _, told = api.raw("POST", "/images/create", None, fromImage=f"{home.host}/x", tag="a")
        assert full(json.loads(told.splitlines()[-1])["error"]), told
        assert disk.engine.ok("images", "-aq") == images


def test_a_commit(disk: SmallDisk, api: Api) -> None:
    ref = api.run("dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=8")
    api.ok("POST", f"/containers/{ref}/wait")
    images = disk.engine.ok("images", "-aq")
    with disk.filled(leave=2 * MIB), space_back(disk):
        refused(api, "POST", "/commit", {}, container=ref, repo="x")
        assert disk.engine.ok("images", "-aq") == images
    api.remove(ref)


def test_removing(disk: SmallDisk, api: Api) -> None:
    """rm, volume rm, rmi and prune, while not a byte is free."""
    api.ok("POST", "/images/create", _archive(2 * MIB), fromSrc="-", repo="one")
    api.ok("POST", "/images/create", _archive(2 * MIB), fromSrc="-", repo="two")
    api.ok("POST", "/volumes/create", {"Name": "vol"})
    refs = [api.create("true"), api.create("true")]
    with disk.filled():
        api.remove(refs[0])
        disk.engine.ok("volume", "rm", "vol")
        disk.engine.ok("rmi", "one")
        until(lambda: disk.left > MIB)
    with disk.filled():
        disk.engine.ok("system", "prune", "--all", "--force", "--volumes")
    assert not api.ok("GET", "/containers/json", all=1)
    assert not [i for i in api.ok("GET", "/images/json") if "two:latest" in i["RepoTags"]]


def test_the_content_of_an_image_for_a_volume(disk: SmallDisk, api: Api) -> None:
    """Copied up when the container is made or started, or not at all."""
    api.ok("POST", "/images/create", _archive(8 * MIB), fromSrc="-", repo="seed")
    with disk.filled(leave=2 * MIB):
        body = {
            "Image": "seed",
            "Cmd": ["x"],
            "HostConfig": {"Binds": ["v:/"], "NetworkMode": "none"},
        }
        status, found = api("POST", "/containers/create", body)
        assert status >= 400, found
    api.ok("DELETE", "/images/seed")
    api("DELETE", "/volumes/v")
