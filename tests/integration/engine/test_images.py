"""Images through the engine: registry, archives, deletion, and pulls that a crash cuts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.test_crash_points import (
    _assert_whole,
    _await_crash,
    _docker,
    _ident,
    _start_crashing,
)
from tests.support.engine import Engine
from tests.support.registry import RunningRegistry, running

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
QUIET = ("--network", "none")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    with running(tmp_path) as found:
        yield found


def _image_id(engine: Engine, name: str) -> str:
    return str(json.loads(engine.ok("inspect", "--type", "image", name))[0]["Id"])


def _content(engine: Engine) -> set[str]:
    found = {path.name for path in engine.data.glob("content/blobs/sha256/*")}
    return found | {path.name for path in engine.data.glob("layers/*")}


def test_push_and_pull(engine: Engine, registry: RunningRegistry) -> None:
    name = f"{registry.host}/team/box:v1"
    engine.ok("tag", IMAGE, name)
    engine.ok("push", name)
    before = _image_id(engine, name)
    engine.ok("rmi", name)
    assert "No such image" in engine.run("inspect", "--type", "image", name).stderr
    engine.ok("pull", name)
    assert _image_id(engine, name) == before
    assert engine.ok("run", "--rm", *QUIET, name, "echo", "pulled") == "pulled"
    engine.ok("rmi", name)


def test_all_tags_of_a_repository(engine: Engine, registry: RunningRegistry) -> None:
    names = [f"{registry.host}/many:{tag}" for tag in ("a", "b", "latest")]
    for name in names:
        engine.ok("tag", IMAGE, name)
        engine.ok("push", name)
        engine.ok("rmi", name)
    form = ("images", "--format", "{{.Repository}}:{{.Tag}}", f"{registry.host}/many")
    assert engine.ok(*form) == ""
    said = engine.ok("pull", "--all-tags", f"{registry.host}/many")
    assert said.splitlines()[-1] == f"{registry.host}/many"
    assert sorted(engine.ok(*form).split()) == names
    engine.ok("rmi", *names)
    done = engine.run("pull", "-a", f"{registry.host}/nothing")
    assert done.returncode == 1
    assert "nothing not found: name unknown" in done.stderr
    assert engine.run("pull", "-a", names[0]).returncode == 125


def test_run_pulls_what_is_missing(engine: Engine, registry: RunningRegistry) -> None:
    name = f"{registry.host}/auto:1"
    engine.ok("tag", IMAGE, name)
    engine.ok("push", name)
    engine.ok("rmi", name)
    assert engine.ok("run", "--rm", *QUIET, name, "echo", "ran") == "ran"
    engine.ok("rmi", name)


def test_a_missing_tag_says_so_and_leaves_nothing(
    engine: Engine, registry: RunningRegistry
) -> None:
    before = _content(engine)
    done = engine.run("pull", f"{registry.host}/nobody/nothing:1")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "nothing" in done.stderr
    assert _content(engine) <= before


def test_save_and_load(engine: Engine, tmp_path: Path) -> None:
    engine.ok("tag", IMAGE, "saved:1")
    archive = tmp_path / "image.tar"
    engine.ok("save", "-o", str(archive), "saved:1")
    engine.ok("rmi", "saved:1")
    assert "saved:1" in engine.ok("load", "-i", str(archive))
    assert engine.ok("run", "--rm", *QUIET, "saved:1", "echo", "loaded") == "loaded"
    engine.ok("rmi", "saved:1")


def test_import_makes_an_image_of_an_archive(engine: Engine) -> None:
    engine.ok("create", "--name", "source", *QUIET, IMAGE)
    exported = _docker_bytes(engine, "export", "source")
    _docker_bytes(engine, "import", "-c", 'CMD ["echo", "imported"]', "-", "flat:1", data=exported)
    assert engine.ok("run", "--rm", *QUIET, "flat:1") == "imported"
    engine.ok("rm", "source")
    engine.ok("rmi", "flat:1")


def _docker_bytes(engine: Engine, *arguments: str, data: bytes = b"") -> bytes:
    done = subprocess.run(
        ["docker", "--host", f"unix://{engine.socket}", *arguments],
        env=engine.env, input=data, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_used_images_are_kept(engine: Engine) -> None:
    engine.ok("tag", IMAGE, "used:1")
    engine.ok("run", "--name", "box", *QUIET, IMAGE, "sh", "-c", "echo x > /x")
    _docker_bytes(engine, "commit", "box", "child:1")
    engine.ok("rm", "box")
    engine.ok("run", "-d", "--name", "run", *QUIET, "child:1", "sleep", "1000")
    done = engine.run("rmi", "child:1")
    assert "must force" in done.stderr
    done = engine.run("rmi", "--force", _image_id(engine, "child:1"))
    assert "cannot be forced" in done.stderr
    engine.ok("rm", "-f", "run")
    engine.ok("rmi", "child:1", "used:1")


PULL = [
    ("rootless.engine.unpacking", "Unpacker", "_unpack", "before"),
    ("rootless.storage.layers", "LayerStore", "begin", "after"),
    ("rootless.storage.layers", "LayerStore", "commit", "before"),
    ("rootless.storage.layers", "LayerStore", "commit", "after"),
    ("rootless.engine.state", "State", "put_image", "before"),
    ("rootless.engine.state", "State", "put_image", "after"),
]


@pytest.mark.parametrize("point", PULL, ids=_ident)
def test_kill_during_pull(
    fresh_engine: Engine, registry: RunningRegistry, point: tuple[str, str, str, str]
) -> None:
    engine = fresh_engine
    name = f"{registry.host}/crash:1"
    engine.ok("run", "--name", "box", *QUIET, IMAGE, "sh", "-c", "echo layer > /layer")
    _docker_bytes(engine, "commit", "box", name)
    engine.ok("push", name)
    engine.ok("rm", "box")
    engine.ok("rmi", name)
    # A stop waits for the collection of what the deletion left.
    engine.stop()
    _start_crashing(engine, point)
    _docker(engine, "pull", name)
    _await_crash(engine)
    engine.start()
    engine.ok("pull", name)
    assert engine.ok("run", "--rm", *QUIET, name, "cat", "/layer") == "layer"
    engine.ok("rmi", name)
    _assert_whole(engine)
    assert list(engine.data.glob("layers/tmp-*")) == []
