"""Images as Docker's clients know them: lists, names, removal, archives, search."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support import registry
from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _only_the_built_in_image_is_left(api: Api, engine: Engine) -> Iterator[None]:
    engine.ok("images", "--quiet")
    yield
    images = [
        i for i in api.ok("GET", "/images/json", all=1) if f"{IMAGE}:latest" not in i["RepoTags"]
    ]
    for image in images:
        api("DELETE", f"/images/{image['Id']}", force=1)
    assert not images


def _made(api: Api, name: str, script: str = "date > /made", **config: object) -> str:
    """An image committed from a container that ran ``script``; its id."""
    container = api.run("sh", "-c", f"{script}; echo {name} >> /names", **config)
    until(lambda: api.state(container)["Status"] == "exited")
    repo, _, tag = name.partition(":")
    made = api.ok("POST", "/commit", container=container, repo=repo, tag=tag)["Id"]
    api.remove(container)
    return str(made)


def _tags(api: Api, **filters: list[str]) -> list[str]:
    found = api.ok("GET", "/images/json", filters=filters)
    return sorted(tag for image in found for tag in image["RepoTags"])


def _short(image: str) -> str:
    return image.partition(":")[2][:12]


def test_a_name_goes_and_the_image_with_the_last_one(api: Api) -> None:
    image = _made(api, "going:1")
    api.ok("POST", "/images/going:1/tag", repo="going", tag="2")
    api.ok("POST", "/images/going:1/tag", repo="other/going")
    assert api.ok("DELETE", "/images/going:1") == [{"Untagged": "going:1"}]
    assert api.ok("DELETE", "/images/going:2") == [{"Untagged": "going:2"}]
    assert api.ok("DELETE", "/images/other/going") == [
        {"Untagged": "other/going:latest"},
        {"Deleted": image},
    ]
    assert api.refused("DELETE", "/images/going:1") == (404, "No such image: going:1")


def test_by_its_id_an_image_goes_when_it_has_one_name(api: Api) -> None:
    image = _made(api, "named:1")
    api.ok("POST", "/images/named:1/tag", repo="named", tag="2")
    assert api.refused("DELETE", f"/images/{image}") == (
        409,
        f"conflict: unable to delete {_short(image)} (must be forced) - "
        "image is referenced in multiple repositories",
    )
    assert api.ok("DELETE", f"/images/{_short(image)}", force=1) == [
        {"Untagged": "named:1"},
        {"Untagged": "named:2"},
        {"Deleted": image},
    ]
    again = _made(api, "named:1")
    assert api.ok("DELETE", f"/images/{_short(again)}")[-1] == {"Deleted": again}


def test_containers_hold_their_image(api: Api) -> None:
    image = _made(api, "held:1")
    running = api.run("sleep", "1000", image="held:1")
    using = (
        409,
        'conflict: unable to remove repository reference "held:1" (must force) - '
        f"container {running[:12]} is using its referenced image {_short(image)}",
    )
    assert api.refused("DELETE", "/images/held:1") == using
    hard = (
        f"conflict: unable to delete {_short(image)} (cannot be forced) - "
        f"image is being used by running container {running[:12]}"
    )
    for force in (0, 1):
        assert api.refused("DELETE", f"/images/{image}", force=force) == (409, hard)
    # By its name and with force only the name goes.
    assert api.ok("DELETE", "/images/held:1", force=1) == [{"Untagged": "held:1"}]
    assert api.ok("GET", f"/images/{image}/json")["RepoTags"] == []
    api.ok("POST", f"/containers/{running}/stop", t=0)
    assert api.refused("DELETE", f"/images/{image}") == (
        409,
        f"conflict: unable to delete {_short(image)} (must be forced) - "
        f"image is being used by stopped container {running[:12]}",
    )
    assert api.ok("DELETE", f"/images/{image}", force=1) == [{"Deleted": image}]
    api.ok("POST", f"/containers/{running}/start")  # its layers are there as long as it is
    api.remove(running)


def test_parents_stay_hidden_and_go_with_their_last_child(api: Api) -> None:
    parent = _made(api, "family:1")
    child = _made(api, "family:2", image="family:1")
    assert api.ok("GET", f"/images/{child}/json")["Parent"] == parent
    assert api.refused("DELETE", f"/images/{parent}", force=1) == (
        409,
        f"conflict: unable to delete {_short(parent)} (cannot be forced) - "
        "image has dependent child images",
    )
    assert api.ok("DELETE", "/images/family:1") == [{"Untagged": "family:1"}]
    ids = [i["Id"] for i in api.ok("GET", "/images/json")]
    assert child in ids
    assert parent not in ids
    assert parent in [i["Id"] for i in api.ok("GET", "/images/json", all=1)]
    assert api.ok("POST", "/images/prune")["ImagesDeleted"] is None
    history = api.ok("GET", "/images/family:2/history")
    assert [(line["Id"], line["Tags"]) for line in history[:2]] == [
        (child, ["family:2"]), (parent, []),
    ]  # fmt: skip
    assert api.ok("DELETE", "/images/family:2", noprune=0) == [
        {"Untagged": "family:2"},
        {"Deleted": child},
        {"Deleted": parent},
    ]


def test_noprune_leaves_parents(api: Api) -> None:
    parent = _made(api, "line:1")
    child = _made(api, "line:2", image="line:1")
    api.ok("DELETE", "/images/line:1")
    assert api.ok("DELETE", "/images/line:2", noprune=1)[-1] == {"Deleted": child}
    assert api.ok("POST", "/images/prune")["ImagesDeleted"] == [{"Deleted": parent}]


def test_prune_of_all_takes_parents_after_their_children(api: Api) -> None:
    parent = _made(api, "elder:1", Labels={"kin": "a"})
    made = api.create("true", image="elder:1")
    child = api.ok("POST", "/commit", container=made, repo="younger", tag="1")["Id"]
    api.remove(made)
    all_of_them = {"dangling": ["false"], "label": ["kin"]}
    deleted = api.ok("POST", "/images/prune", filters=all_of_them)["ImagesDeleted"]
    gone = [line["Deleted"] for line in deleted if "Deleted" in line]
    assert gone.index(child) < gone.index(parent)
    assert {"elder:1", "younger:1"} <= {line.get("Untagged") for line in deleted}


def test_prune(api: Api) -> None:
    _made(api, "pruned:1", Labels={"tier": "a"})
    used = api.create("true", image="pruned:1")
    dangling = _made(api, "pruned:2")
    api.ok("POST", f"/images/{IMAGE}/tag", repo="pruned", tag="2")
    api.ok("DELETE", "/images/pruned:2")
    recent = {"until": ["1h"]}
    assert api.ok("POST", "/images/prune", filters=recent)["ImagesDeleted"] is None
    found = api.ok("POST", "/images/prune")
    assert found["ImagesDeleted"] == [{"Deleted": dangling}]
    assert found["SpaceReclaimed"] > 0
    # Of a used image the names that nobody used go.
    api.ok("POST", f"/images/{IMAGE}/tag", repo="unused-name", tag="1")
    keep = api.create("true")
    every = {"dangling": ["false"], "label!": ["tier"]}
    gone = api.ok("POST", "/images/prune", filters=every)["ImagesDeleted"]
    assert gone == [{"Untagged": "unused-name:1"}]
    assert api.refused("POST", "/images/prune", filters={"dangling": ["x"]})[0] == 400
    assert api.refused("POST", "/images/prune", filters={"name": ["x"]})[0] == 400
    api.remove(used)
    gone = api.ok("POST", "/images/prune", filters={"dangling": ["false"]})["ImagesDeleted"]
    assert [line for line in gone if "Untagged" in line] == [{"Untagged": "pruned:1"}]
    api.remove(keep)


def test_lists(api: Api) -> None:
    one = _made(api, "list/one:1", Labels={"tier": "a"})
    two = _made(api, "list/two:1", image="list/one:1")
    assert _tags(api, reference=["list/*"]) == ["list/one:1", "list/two:1"]
    assert _tags(api, reference=["list/two"]) == ["list/two:1"]
    assert _tags(api, reference=["list/*:2"]) == []
    assert _tags(api, label=["tier=a"]) == ["list/one:1", "list/two:1"]
    assert _tags(api, since=["list/one:1"]) == ["list/two:1"]
    assert "list/one:1" in _tags(api, before=["list/two:1"])
    assert "list/two:1" not in _tags(api, before=["list/two:1"])
    assert _tags(api, dangling=["true"]) == []
    assert _tags(api, until=["1h"]) == [f"{IMAGE}:latest"]
    assert api.refused("GET", "/images/json", filters={"colour": ["red"]})[0] == 400
    assert api.refused("GET", "/images/json", filters={"before": ["nosuch"]})[0] == 404
    plain = {i["Id"]: i for i in api.ok("GET", "/images/json")}
    assert {i["SharedSize"] for i in plain.values()} == {-1}
    container = api.create("true", image="list/two:1")
    found = {i["Id"]: i for i in api.ok("GET", "/images/json", **{"shared-size": 1}, manifests=1)}
    base = next(i for i in found.values() if f"{IMAGE}:latest" in i["RepoTags"])
    assert base["SharedSize"] == base["Size"]
    assert base["Size"] < found[one]["SharedSize"] < found[two]["Size"]
    manifest = found[two]["Manifests"][0]
    assert manifest["ImageData"]["Containers"] == [container]
    assert manifest["Descriptor"]["size"] > 0
    assert manifest["Size"]["Total"] == manifest["Size"]["Content"] + found[two]["Size"]
    assert api.ok("GET", "/images/list/two:1/json")["Descriptor"] == manifest["Descriptor"]
    api.remove(container)
    api.ok("DELETE", f"/images/{two}")
    api.ok("DELETE", f"/images/{one}")


def test_save_of_a_repository_and_of_several_names(api: Api) -> None:
    image = _made(api, "saved:1")
    api.ok("POST", "/images/saved:1/tag", repo="saved", tag="2")

    def names_in(archive: bytes) -> list[str]:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.extractfile("manifest.json")
            assert member is not None
            return sorted(tag for entry in json.load(member) for tag in entry["RepoTags"] or [])

    whole = api.raw("GET", "/images/saved/get")[2]
    assert names_in(whole) == ["saved:1", "saved:2"]
    assert names_in(api.raw("GET", "/images/saved:2/get")[2]) == ["saved:2"]
    assert names_in(api.raw("GET", f"/images/{image}/get")[2]) == []
    both = api.raw("GET", f"/images/get?names=saved:1&names={IMAGE}")[2]
    assert names_in(both) == [f"{IMAGE}:latest", "saved:1"]
    assert api.refused("GET", "/images/get?names=saved:1&names=nosuch") == (
        404, "No such image: nosuch:latest",
    )  # fmt: skip
    api.ok("DELETE", f"/images/{image}", force=1)
    status, _, said = api.raw("POST", "/images/load", whole, quiet=1)
    assert status == 200
    assert [json.loads(line)["stream"] for line in said.splitlines()] == [
        "Loaded image: saved:1\n", "Loaded image: saved:2\n",
    ]  # fmt: skip
    layers = api.ok("GET", "/images/saved:1/json")["RootFS"]["Layers"]
    known = api.ok("GET", f"/images/{IMAGE}/json")["RootFS"]["Layers"]
    api.ok("DELETE", f"/images/{image}", force=1)
    lines = [json.loads(line) for line in api.raw("POST", "/images/load", whole)[2].splitlines()]
    *told, one, two = lines
    assert [line["stream"] for line in (one, two)] == [
        "Loaded image: saved:1\n", "Loaded image: saved:2\n",
    ]  # fmt: skip
    new = [layer.partition(":")[2][:12] for layer in layers if layer not in known]
    assert {(line["id"], line["status"]) for line in told} == {(i, "Loading layer") for i in new}
    assert told[-1]["progressDetail"]["current"] == told[-1]["progressDetail"]["total"] > 0
    api.ok("DELETE", f"/images/{image}", force=1)


def test_import_with_changes(api: Api) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("hello"), io.BytesIO())
    query = (
        "fromSrc=-&repo=imported&tag=1&message=by+hand&changes=CMD+%5B%22x%22%5D&changes=ENV+A%3Db"
    )
    status, _, said = api.raw("POST", f"/images/create?{query}", tar.getvalue())
    assert status == 200
    image = json.loads(said.splitlines()[-1])["status"]
    found = api.ok("GET", "/images/imported:1/json")
    assert found["Id"] == image
    assert (found["Config"]["Cmd"], found["Config"]["Env"], found["Comment"]) == (
        ["x"], ["A=b"], "by hand",
    )  # fmt: skip
    api.ok("DELETE", "/images/imported:1")
    for wrong, text in (
        ("fromSrc=-&repo=UPPER", "must be lowercase"),
        ("fromSrc=http://127.0.0.1/x.tar", "fetches nothing by URL"),
        ("fromSrc=-&changes=FROM+x", "from is not a valid change command"),
    ):
        status, found = api.refused("POST", f"/images/create?{wrong}", tar.getvalue())
        assert (status, text in found) == (400, True), found


def test_commit_merges_the_config_it_is_given(api: Api) -> None:
    made = api.create("sleep", "5", Env=["A=1", "B=2"], Labels={"x": "1"}, WorkingDir="/srv")
    body = {"Env": ["B=3"], "Labels": {"y": "2"}, "Cmd": ["other"], "User": "7"}
    query = {"container": made, "author": "me", "comment": "why", "changes": "EXPOSE 80"}
    image = api.ok("POST", "/commit", body, **query)["Id"]
    found = api.ok("GET", f"/images/{image}/json")
    config = found["Config"]
    assert {"A=1", "B=3"} <= set(config["Env"])
    assert "B=2" not in config["Env"]
    assert config["Labels"] == {"x": "1", "y": "2"}
    assert (config["Cmd"], config["User"], config["WorkingDir"]) == (["other"], "7", "/srv")
    assert "80/tcp" in config["ExposedPorts"]
    assert (found["Author"], found["Comment"]) == ("me", "why")
    assert api.refused("POST", "/commit", container="nobody")[0] == 404
    assert api.refused("POST", "/commit", container=made, repo="UPPER")[0] == 400
    assert api.refused("POST", "/commit", container=made, changes="RUN x")[0] == 400
    api.remove(made)
    api.ok("DELETE", f"/images/{image}")


def test_names_that_cannot_be_given(api: Api) -> None:
    path = f"/images/{IMAGE}/tag"
    assert api.refused("POST", "/images/nosuch/tag", repo="x") == (
        404, "No such image: nosuch:latest",
    )  # fmt: skip
    assert "must be lowercase" in api.refused("POST", path, repo="UPPER")[1]
    assert api.refused("POST", path, repo="x", tag="not/valid") == (400, "invalid tag format")
    digest = f"x@sha256:{'a' * 64}"
    assert api.refused("POST", path, repo=digest) == (
        400, "refusing to create a tag with a digest reference",
    )  # fmt: skip
    status, text = api.refused("POST", "/images/nosuch/push", tag="1")
    assert (status, text) == (404, "An image does not exist locally with the tag: nosuch")


def test_push_of_a_repository_takes_every_tag(api: Api, tmp_path: Any) -> None:
    with registry.running(tmp_path) as server:
        name = f"{server.host}/whole"
        for tag in ("a", "b"):
            api.ok("POST", f"/images/{IMAGE}/tag", repo=name, tag=tag)
        status, _, said = api.raw("POST", f"/images/{name}/push")
        assert status == 200
        pushed = [m["aux"]["Tag"] for m in map(json.loads, said.splitlines()) if "aux" in m]
        assert pushed == ["a", "b"]
        for tag in ("a", "b"):
            api.ok("DELETE", f"/images/{name}:{tag}")


def test_search(api: Api, engine: Engine) -> None:
    asked = []

    def index(handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        asked.append((parts.path, parse_qs(parts.query)))
        names = [("box", 5, True), ("team/box", 50, False)]
        results = [
            {
                "name": n,
                "description": "d",
                "star_count": s,
                "is_official": o,
                "is_automated": False,
            }
            for n, s, o in names
        ]
        registry.reply(handler, 200, json.dumps({"results": results}).encode())

    with registry.http_server(index) as server:
        found = api.ok("GET", "/images/search", term=f"{server.host}/box", limit=10)
        assert asked[-1] == ("/v1/search", {"q": ["box"], "n": ["10"]})
        assert found[1] == {
            "name": "team/box", "description": "d", "star_count": 50,
            "is_official": False, "is_automated": False,
        }  # fmt: skip
        for filters, count in (
            ({"stars": ["10"]}, 1), ({"is-official": ["true"]}, 1),
            ({"is-automated": ["true"]}, 0), ({"is-official": ["false"]}, 1),
        ):  # fmt: skip
            found = api.ok("GET", "/images/search", term=f"{server.host}/box", filters=filters)
            assert len(found) == count
        words = ("search", "--no-trunc", "--filter", "stars=10", f"{server.host}/box")
        assert engine.ok(*words).splitlines()[1].split() == ["team/box", "d", "50"]
        for query, text in (
            ({"term": ""}, "no search term given"),
            ({"term": "x", "limit": 101}, "imit 101 is outside the range of [1, 100]"),
            ({"term": "x", "filters": {"colour": ["red"]}}, "invalid filter 'colour'"),
            ({"term": "x", "filters": {"stars": ["many"]}}, "invalid filter 'stars=many'"),
            ({"term": "http://x/y"}, "it has a scheme"),
        ):
            status, said = api.refused("GET", "/images/search", **query)
            assert (status, text in said) == (400, True), said
    with registry.http_server(lambda handler: registry.reply(handler, 404)) as server:
        status, said = api.refused("GET", "/images/search", term=f"{server.host}/box")
        assert (status, "has no search" in said) == (503, True), said


def test_the_built_in_image_is_for_this_machine_only(api: Api) -> None:
    here = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    other = {"amd64": "arm64", "arm64": "amd64"}[here]
    asked = {"fromImage": IMAGE, "tag": "latest"}
    status, text = api.refused("POST", "/images/create", platform=f"linux/{other}", **asked)
    assert (status, text) == (
        404,
        f"no matching manifest for linux/{other}: {IMAGE}:latest is made on this machine, "
        f"for linux/{here}",
    )
    said = api.raw("POST", "/images/create", platform=f"linux/{here}", **asked)[2]
    assert b"up to date" in said
