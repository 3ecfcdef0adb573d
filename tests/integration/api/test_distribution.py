"""``GET /distribution/{name}/json`` asks a real registry, and fetches no image."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from tests.integration.images.test_registry import HTPASSWD, PASSWORD, USER
from tests.support.apiclient import request
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli
from tests.support.registry import running

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"


def blobs(engine: Engine) -> set[str]:
    return {path.name for path in engine.data.glob("content/blobs/sha256/*")}


def test_descriptor_and_platforms(engine: Engine, docker_cli: DockerCli, tmp_path: Path) -> None:
    with running(tmp_path) as registry:
        name = f"{registry.host}/team/box:v1"
        engine.ok("tag", IMAGE, name)
        engine.ok("push", name)
        engine.ok("rmi", name)
        before = blobs(engine)
        answer = request(engine.socket, "GET", f"/distribution/{name}/json")
        assert answer.status == 200, answer.body
        found = answer.json()
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
        assert request(engine.socket, "GET", f"/distribution/{by_digest}/json").json() == found
        absent = request(engine.socket, "GET", f"/distribution/{registry.host}/team/no/json")
        assert (absent.status, "not found" in absent.message) == (404, True)


def test_credentials_of_the_request(engine: Engine, tmp_path: Path) -> None:
    passwords = tmp_path / "htpasswd"
    passwords.write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(passwords)}}

    def header(password: str) -> str:
        text = json.dumps({"username": USER, "password": password})
        return base64.urlsafe_b64encode(text.encode()).decode()

    with running(tmp_path / "registry", auth=auth) as registry:
        path = f"/distribution/{registry.host}/x/json"
        assert request(engine.socket, "GET", path).status == 401
        wrong = request(engine.socket, "GET", path, X_Registry_Auth=header("no"))
        assert wrong.status == 401
        # Let in, it learns that there is no such image.
        right = request(engine.socket, "GET", path, X_Registry_Auth=header(PASSWORD))
        assert right.status == 404


@pytest.mark.parametrize("name", ["UPPER", "a:b:c", "127.0.0.1:1/x@sha256:12"])
def test_names_that_are_none(engine: Engine, name: str) -> None:
    answer = request(engine.socket, "GET", f"/distribution/{name}/json")
    assert (answer.status, answer.message.startswith("invalid reference format")) == (400, True)


def test_a_registry_that_is_not_there(engine: Engine) -> None:
    answer = request(engine.socket, "GET", "/distribution/127.0.0.1:1/x/json")
    assert (answer.status, "127.0.0.1:1" in answer.message) == (503, True)
