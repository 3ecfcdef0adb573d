"""Images of as many layers as Docker allows (127): every driver runs them, they travel."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tarmaker
from tests.support.engine import Engine, new_engine
from tests.support.registry import running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
BASE, IMAGE = "rootless/busybox", "deep:latest"
LAYERS = 127
REMOVED = range(10, LAYERS, 10)
"""Layers that remove the file of the layer before."""
SHOWN = sorted(str(n) for n in range(1, LAYERS) if n + 1 not in REMOVED)


def _layer(number: int) -> bytes:
    text = str(number).encode()
    files = [tarmaker.file(b"l/" + text, text), tarmaker.file(b"last", text)]
    if number in REMOVED:
        files.append(tarmaker.file(f"l/.wh.{number - 1}".encode()))
    return tarmaker.archive(*files)


def _archive(base: Path, to: Path) -> None:
    """A docker-archive: the layers of the archive ``base`` and then small ones."""
    with tarfile.open(base) as source, tarfile.open(to, "w") as target:

        def read(name: str) -> bytes:
            file = source.extractfile(name)
            assert file is not None
            return file.read()

        def add(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            target.addfile(entry, io.BytesIO(data))

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        diff_ids, names = config["rootfs"]["diff_ids"], manifest["Layers"]
        for name in names:
            add(name, read(name))
        for number in range(len(names), LAYERS):
            data = _layer(number)
            digest = hashlib.sha256(data).hexdigest()
            diff_ids.append(f"sha256:{digest}")
            names.append(f"{digest}/layer.tar")
            add(names[-1], data)
        config["history"] = [{"created_by": f"step {number}"} for number in range(LAYERS)]
        add("config.json", json.dumps(config).encode())
        add(
            "manifest.json",
            json.dumps([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": names}]).encode(),
        )


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    place = tmp_path_factory.mktemp("deep")
    with new_engine() as engine:
        engine.ok("save", "--output", str(place / "base.tar"), BASE)
        _archive(place / "base.tar", place / "deep.tar")
        engine.ok("load", "--input", str(place / "deep.tar"), timeout=600)
        yield engine


@pytest.mark.parametrize(
    "options",
    [
        ("--storage-driver", "overlay"),
        ("--storage-driver", "fuse-overlayfs"),
        ("--storage-driver", "vfs"),
        ("--userns", "auto"),
    ],
    ids=lambda words: words[-1],
)
def test_every_driver_runs_it(engine: Engine, options: tuple[str, ...]) -> None:
    script = "cat /last; echo; ls /l; echo new > /l/1; rm /l/2; cat /l/1; ls /l/2 2>&1"
    shown = engine.ok(
        "run", "--name", "deep", "--network", "none", *options, IMAGE, "sh", "-c",
        f"{script}; exit 0", timeout=300,
    )  # fmt: skip
    lines = shown.splitlines()
    assert lines[0] == str(LAYERS - 1)
    assert sorted(lines[1:-2]) == SHOWN
    assert lines[-2] == "new"
    assert "No such file" in lines[-1]
    assert engine.ok("diff", "deep").splitlines() == ["C /l", "C /l/1", "D /l/2"]
    engine.ok("rm", "deep")


def test_it_travels_whole(engine: Engine, tmp_path: Path) -> None:
    history = engine.ok("history", "--format", "{{.CreatedBy}}", "--no-trunc", IMAGE).splitlines()
    assert history == [f"step {number}" for number in reversed(range(LAYERS))]
    ident = engine.ok("image", "inspect", "--format", "{{.Id}}", IMAGE)
    saved = tmp_path / "saved.tar"
    engine.ok("save", "--output", str(saved), IMAGE, timeout=300)
    with running(tmp_path / "registry") as registry, new_engine() as other:
        name = f"{registry.host}/deep:latest"
        engine.ok("tag", IMAGE, name)
        engine.ok("push", name, timeout=300)
        engine.ok("rmi", name)
        other.ok("pull", name, timeout=600)
        assert other.ok("image", "inspect", "--format", "{{.Id}}", name) == ident
        shown = other.ok("run", "--rm", "--network", "none", name, "ls", "/l")
        assert shown.split() == SHOWN
        # All of its layers are there, so loading it adds a name and nothing else.
        layers = set(other.data.glob("layers/*"))
        other.ok("load", "--input", str(saved), timeout=300)
        assert set(other.data.glob("layers/*")) == layers
        assert other.ok("image", "inspect", "--format", "{{.Id}}", IMAGE) == ident
        other.ok("rmi", name, IMAGE)
        assert len(list(other.data.glob("layers/*"))) == 1


def test_one_layer_more_can_be_committed(engine: Engine) -> None:
    engine.ok("create", "--name", "more", "--network", "none", IMAGE)
    engine.ok("commit", "more", "deeper:1", timeout=300)
    engine.ok("rm", "more")
    found = engine.ok("image", "inspect", "--format", "{{len .RootFS.Layers}}", "deeper:1")
    assert found in (str(LAYERS), str(LAYERS + 1))
    assert engine.ok("run", "--rm", "--network", "none", "deeper:1", "cat", "/last") == "126"
    engine.ok("rmi", "deeper:1")
