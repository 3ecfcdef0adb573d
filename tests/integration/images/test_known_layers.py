"""Archives whose layer is there already: what they bring must be that layer all the same."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.support.engine import Engine, new_engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"


def _archive(path: Path, config: bytes, layer: bytes) -> None:
    """A docker-archive of one image, ``again:1``."""
    manifest = [{"Config": "config.json", "RepoTags": ["again:1"], "Layers": ["layer.tar"]}]
    content = {
        "config.json": config,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


@pytest.fixture
def parts(engine: Engine, tmp_path: Path) -> tuple[bytes, bytes]:
    """Config and uncompressed layer of the built-in image, which is unpacked."""
    saved = tmp_path / "saved.tar"
    engine.ok("save", "-o", str(saved), IMAGE)
    with tarfile.open(saved) as tar:

        def read(name: str) -> bytes:
            found = tar.extractfile(name)
            assert found is not None
            return found.read()

        (entry,) = json.loads(read("manifest.json"))
        (layer,) = entry["Layers"]
        return read(entry["Config"]), gzip.decompress(read(layer))


def _blobs(engine: Engine) -> list[str]:
    return sorted(path.name for path in (engine.data / "content/blobs/sha256").iterdir())


@pytest.mark.parametrize("what", ["cut", "other", "bomb", "none"])
def test_a_layer_that_is_not_what_the_config_says_is_refused(
    engine: Engine, tmp_path: Path, parts: tuple[bytes, bytes], what: str
) -> None:
    """Else a push or a save would hand on what nobody can unpack."""
    config, layer = parts
    hostile = {
        "cut": gzip.compress(layer)[:-20],
        "other": layer[:-1] + b"x",
        "bomb": gzip.compress(bytes(64 << 20)),
        "none": b"no archive at all" * 100,
    }[what]
    path = tmp_path / "again.tar"
    _archive(path, config, hostile)
    before = set(_blobs(engine))
    done = engine.run("load", "-i", str(path))
    assert done.returncode == 1
    assert "refused" in done.stderr or "invalid tar archive" in done.stderr
    assert set(_blobs(engine)) <= before  # less where another test left what nobody uses
    assert "again" not in engine.ok("images")
    assert engine.ok("run", "--rm", "--network", "none", IMAGE, "echo", "on") == "on"


def test_the_same_layer_otherwise_compressed_is_taken(
    engine: Engine, tmp_path: Path, parts: tuple[bytes, bytes]
) -> None:
    config, layer = parts
    path = tmp_path / "again.tar"
    for content in (layer, gzip.compress(layer, 1)):
        _archive(path, config, content)
        assert "again:1" in engine.ok("load", "-i", str(path))
        engine.ok("rmi", "again:1")
    assert [p.name for p in (engine.data / "layers").iterdir() if p.name.startswith("tmp-")] == []


def test_an_image_that_comes_in_another_form_is_that_one(
    tmp_path: Path, parts: tuple[bytes, bytes]
) -> None:
    """After a collection and a restart, too: never the blobs of one and the record of the other."""
    config, layer = parts
    path = tmp_path / "again.tar"
    with new_engine() as engine:
        engine.ok("images")
        before = _blobs(engine)
        _archive(path, config, gzip.compress(layer, 1))
        engine.ok("load", "-i", str(path))
        assert len(_blobs(engine)) == len(before)
        engine.ok("image", "prune", "-f")
        engine.kill()
        engine.start()
        assert "again" in engine.ok("images")
        for name in ("again:1", IMAGE):
            saved = tmp_path / "saved.tar"
            engine.ok("save", "-o", str(saved), name)
            assert engine.ok("run", "--rm", "--network", "none", name, "echo", "on") == "on"
