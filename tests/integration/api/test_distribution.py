"""``GET /distribution/{name}/json`` asks a real registry, and fetches no image."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from tests.integration.images.test_registry import HTPASSWD, PASSWORD, USER
from tests.support.api import IMAGE, Api
from tests.support.engine import Engine
from tests.support.registry import running

pytestmark = pytest.mark.integration


def blobs(engine: Engine) -> set[str]:
    return {path.name for path in engine.data.glob("content/blobs/sha256/*")}


def test_descriptor_and_platforms(engine: Engine, api: Api, tmp_path: Path) -> None:
    with running(tmp_path) as registry:
        name = f"{registry.host}/team/box:v1"
        engine.ok("tag", IMAGE, name)
        engine.ok("push", name)
        engine.ok("rmi", name)
        before = blobs(engine)
        found = api.ok("GET", f"/distribution/{name}/json")
        stored = [*registry.storage.glob("**/blobs/sha256/*/*/data")]
        digest = found["Descriptor"]["digest"].removeprefix("sha256:")
        manifest = next(path for path in stored if path.parent.name == digest).read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == digest
        assert found["Descriptor"]["size"] == len(manifest)
        assert found["Descriptor"]["mediaType"] == json.loads(manifest)["mediaType"]
        own = engine.ok("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}")
        assert [f"{p['os']}/{p['architecture']}" for p in found["Platforms"]] == [own]
        assert blobs(engine) == before
        by_digest = f"{registry.host}/team/box@sha256:{digest}"
        assert api.ok("GET", f"/distribution/{by_digest}/json") == found
        status, text = api.refused("GET", f"/distribution/{registry.host}/team/no/json")
        assert (status, "not found" in text) == (404, True)


def test_credentials_of_the_request(engine: Engine, tmp_path: Path) -> None:
    passwords = tmp_path / "htpasswd"
    passwords.write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(passwords)}}

    def header(password: str) -> dict[str, str]:
        text = json.dumps({"username": USER, "password": password})
        return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}

    with running(tmp_path / "registry", auth=auth) as registry:
        path = f"/distribution/{registry.host}/x/json"
        assert Api(engine)("GET", path)[0] == 401
        assert Api(engine, header("no"))("GET", path)[0] == 401
        # Let in, it learns that there is no such image.
        assert Api(engine, header(PASSWORD))("GET", path)[0] == 404


def test_what_is_no_credentials_counts_as_none(engine: Engine, tmp_path: Path) -> None:
    """aiodocker sends a word for a push without any, and names the tag twice."""
    with running(tmp_path) as registry:
        name = f"{registry.host}/team/box"
        engine.ok("tag", IMAGE, f"{name}:v1")
        anonymous = Api(engine, {"X-Registry-Auth": "placeholder"})
        status, headers, body = anonymous.raw("POST", f"/images/{name}:v2/push", tag="v1")
        assert (status, "error" in body.decode()) == (200, False)
        assert "X-Registry-Auth was ignored" in headers["Warning"]
        engine.ok("rmi", f"{name}:v1")
        assert anonymous.raw("POST", "/images/create", fromImage=f"{name}:v2", tag="v1")[0] == 200
        engine.ok("rmi", f"{name}:v1")


@pytest.mark.parametrize("name", ["UPPER", "a:b:c", "127.0.0.1:1/x@sha256:12"])
def test_names_that_are_none(api: Api, name: str) -> None:
    status, text = api.refused("GET", f"/distribution/{name}/json")
    assert (status, text.startswith("invalid reference format")) == (400, True)


def test_a_registry_that_is_not_there(api: Api) -> None:
    status, text = api.refused("GET", "/distribution/127.0.0.1:1/x/json")
    assert (status, "127.0.0.1:1" in text) == (503, True)
