"""``--mount type=image``: the files of another image, read-only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
RUN = ("run", "--rm", "--network", "none")
FILES = (
    "mkdir -p /data/sub /data/hack; echo bar > /data/foo; echo world > /data/sub/hello; "
    "ln -s ../sub /data/hack/good; ln -s ../../../../../../etc /data/hack/bad"
)


@pytest.fixture(scope="module")
def shown(shared_engine: Engine) -> Iterator[str]:
    """An image of several layers, with a file that the upper one removed."""
    api = Api(shared_engine)
    shared_engine.ok("images", "--quiet")
    first = api.run("sh", "-c", f"{FILES}; echo gone > /data/gone")
    until(lambda: api.state(first)["Status"] == "exited")
    api.ok("POST", "/commit", container=first, repo="shown", tag="1")
    second = api.run("rm", "/data/gone", image="shown:1")
    until(lambda: api.state(second)["Status"] == "exited")
    api.ok("POST", "/commit", container=second, repo="shown", tag="2")
    api.remove(first, second)
    yield "shown:2"
    shared_engine.ok("rmi", "shown:2", "shown:1")


def _mount(source: str, **more: object) -> dict[str, Any]:
    return {"Type": "image", "Source": source, "Target": "/image", **more}


@pytest.mark.parametrize("userns", ["shared", "auto"])
def test_the_files_of_all_layers_are_there_and_stay(
    engine: Engine, shown: str, userns: str
) -> None:
    script = (
        "cat /image/data/foo; ls /image/data; touch /image/x 2>&1 | grep -o 'Read-only.*'; "
        "stat -c %u /image/data/foo; grep ' /image ' /proc/mounts"
    )
    mount = f"type=image,src={shown},dst=/image"
    out = engine.ok(*RUN, f"--userns={userns}", "--mount", mount, IMAGE, "sh", "-c", script)
    lines = out.splitlines()
    assert lines[:5] == ["bar", "foo", "hack", "sub", "Read-only file system"]
    assert lines[5] == "0"
    options = lines[6].split()[3].split(",")
    assert {"ro", "nosuid", "nodev"} <= set(options)


@pytest.mark.parametrize(
    ("subpath", "command", "said"),
    [
        ("data", ("cat", "/image/foo"), "bar"),
        ("data/sub", ("ls", "/image"), "hello"),
        ("data/hack/good", ("ls", "/image"), "hello"),
        ("data/sub/hello", ("cat", "/image"), "world"),
    ],
)
def test_a_part_of_it(
    engine: Engine, shown: str, subpath: str, command: tuple[str, ...], said: str
) -> None:
    mount = f"type=image,src={shown},dst=/image,image-subpath={subpath}"
    assert engine.ok(*RUN, "--mount", mount, IMAGE, *command) == said
    assert "/dev/.image" not in engine.ok(*RUN, "--mount", mount, IMAGE, "cat", "/proc/mounts")


def test_a_file_over_one_of_the_container(engine: Engine, shown: str) -> None:
    mount = f"type=image,src={shown},dst=/etc/passwd,image-subpath=data/foo"
    assert engine.ok(*RUN, "--mount", mount, IMAGE, "cat", "/etc/passwd") == "bar"


def test_a_part_that_leads_out_or_is_not_there(api: Api, shown: str) -> None:
    for subpath, text in (
        ("data/hack/bad", "path concatenation escapes the base directory"),
        ("data/missing", "cannot access path"),
        ("data/gone", "cannot access path"),
    ):
        mount = _mount(shown, ImageOptions={"Subpath": subpath})
        made = api.create("true", HostConfig={"Mounts": [mount]})
        status, found = api.refused("POST", f"/containers/{made}/start")
        assert (status, text in found) == (400, True), found
        api.remove(made)
    for subpath in ("/data", "../x", "a/../../b"):
        body = {
            "Image": IMAGE,
            "HostConfig": {"Mounts": [_mount(shown, ImageOptions={"Subpath": subpath})]},
        }
        status, found = api.refused("POST", "/containers/create", body)
        assert "subpath must be a relative path within the volume" in found


def test_inspect_and_wrong_requests(api: Api, shown: str) -> None:
    mount = _mount(shown, ImageOptions={"Subpath": "data"})
    made = api.create("true", HostConfig={"Mounts": [mount, _mount(IMAGE, Target="/other")]})
    found = api.ok("GET", f"/containers/{made}/json")
    points = {m["Destination"]: m for m in found["Mounts"]}
    assert points["/image"]["Type"] == "image"
    assert points["/image"]["Name"] == shown
    assert points["/image"]["RW"] is False
    assert points["/other"]["Name"] == IMAGE
    assert found["HostConfig"]["Mounts"][0] == mount
    api.remove(made)
    for wrong, status, text in (
        (_mount("nosuch"), 400, "No such image: nosuch"),
        (_mount(""), 400, "field Source must not be empty"),
        (_mount(shown, BindOptions={}), 400, "BindOptions must not be specified"),
    ):
        body = {"Image": IMAGE, "HostConfig": {"Mounts": [wrong]}}
        answer = api.refused("POST", "/containers/create", body)
        assert (answer[0], text in answer[1]) == (status, True), answer


def test_a_mounted_image_is_in_use(api: Api, engine: Engine) -> None:
    source = api.run("sh", "-c", "echo kept > /kept")
    until(lambda: api.state(source)["Status"] == "exited")
    image = api.ok(
        "POST", "/commit", {"Labels": {"in": "use"}}, container=source, repo="in-use", tag="1"
    )["Id"]
    made = api.create("cat", "/image/kept", HostConfig={"Mounts": [_mount("in-use:1")]})
    text = f"container {made[:12]} is using its referenced image {image.partition(':')[2][:12]}"
    status, found = api.refused("DELETE", "/images/in-use:1")
    assert (status, text in found) == (409, True), found
    filters = {"dangling": ["false"], "label": ["in=use"]}
    assert api.ok("POST", "/images/prune", filters=filters)["ImagesDeleted"] is None
    # Forced, its name and record go; the files stay as long as a container needs them.
    api.ok("DELETE", "/images/in-use:1", force=1)
    for _ in range(2):
        api.ok("POST", f"/containers/{made}/start")
        assert api.ok("POST", f"/containers/{made}/wait") == {"StatusCode": 0}
    api.remove(made, source)
    assert engine.ok("run", "--rm", "--network", "none", IMAGE, "echo", "ok") == "ok"
