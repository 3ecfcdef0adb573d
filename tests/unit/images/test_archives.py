"""Saving, loading, importing, committing, and archives that pretend to be images."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import HostUnsupported, InvalidInput, NotFound
from rootless.images import builtin, commit, load, platform, save
from rootless.images import reference as references
from rootless.images.builtin import Busybox
from rootless.images.content import ContentStore, digest_of
from rootless.images.image import Image
from rootless.images.save import Saved
from rootless.images.unpack import Packed
from rootless.model.request import ContainerConfig
from tests.support import tarmaker as tar


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "a")


@pytest.fixture
def other(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "b")


@pytest.fixture
def image(store: ContentStore, tmp_path: Path) -> Image:
    program = tmp_path / "busybox"
    program.write_bytes(b"a program")
    return builtin.build(store, Busybox(program, ("cat", "sh")))[0]


def _saved(store: ContentStore, *items: Saved, kind: save.Format = "docker-archive") -> bytes:
    out = io.BytesIO()
    save.save(items, store, out, kind=kind)
    return out.getvalue()


def _second(store: ContentStore, image: Image) -> Image:
    layer = commit.store_layer(store, io.BytesIO(tar.archive(tar.file(b"new", b"x"))))
    return commit.commit(
        store, image, layer, ContainerConfig(cmd=("x",), tty=True), created_ns=5, changes=["USER u"]
    )


def test_the_built_in_image_has_one_digest(store: ContentStore, other: ContentStore) -> None:
    found = builtin.find()
    assert "sh" in found.applets
    one, name = builtin.build(store, found)
    two, _ = builtin.build(other, found)
    assert one == two
    assert name.familiar == builtin.NAME
    path = store.path(one.layers[0].descriptor.digest)
    with tarfile.open(path, mode="r:gz") as layer:
        members = {m.name: m for m in layer.getmembers()}
    assert members["bin/sh"].linkname == "bin/busybox"
    assert members["tmp"].mode == 0o1777
    assert members["bin/busybox"].size == found.path.stat().st_size
    assert {m.uid for m in members.values()} == {0}
    assert {m.mtime for m in members.values()} == {0}


def test_only_a_static_busybox_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not builtin.is_static(Path(os.path.realpath("/bin/sh")))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(builtin, "_CANDIDATES", ("/bin/sh", "/nonexistent"))
    with pytest.raises(HostUnsupported, match="busybox-static"):
        builtin.find()


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_saved_loads_the_same(
    store: ContentStore, other: ContentStore, image: Image, kind: save.Format, packed: bool
) -> None:
    second = _second(store, image)
    names = (references.parse("a:1"), references.parse("reg.example/b:x"))
    data = _saved(store, Saved(image, names), Saved(second), kind=kind)
    assert data == _saved(store, Saved(image, names), Saved(second), kind=kind)
    loaded = load.load(io.BytesIO(gzip.compress(data) if packed else data), other)
    assert [one.image for one in loaded] == [image, second]
    assert [one.tags for one in loaded] == [names, ()]
    assert set(other.digests()) == {*image.blobs, *second.blobs}
    assert load.messages(loaded) == [
        {"stream": "Loaded image: a:1\n"},
        {"stream": "Loaded image: reg.example/b:x\n"},
        {"stream": f"Loaded image ID: {second.id}\n"},
    ]


def test_saving_without_a_blob_writes_nothing(store: ContentStore, image: Image) -> None:
    store.remove(image.layers[0].descriptor.digest)
    out = io.BytesIO()
    with pytest.raises(NotFound, match=image.layers[0].descriptor.digest):
        save.save([Saved(image)], store, out)
    assert out.getvalue() == b""


def test_commit_keeps_the_parent_and_drops_what_belongs_to_a_run(
    store: ContentStore, image: Image
) -> None:
    child = _second(store, image)
    assert child.layers[:1] == image.layers
    assert child.config.config.user == "u"
    assert child.config.config.cmd == ("x",)
    assert not child.config.config.tty
    assert [step.empty_layer for step in child.config.history] == [False, False]
    same = commit.commit(store, child, None, ContainerConfig(), created_ns=6, comment="c")
    assert same.layers == child.layers
    assert same.config.history[-1].empty_layer
    assert same.config.history[-1].comment == "c"


@pytest.mark.parametrize("packed", [lambda data: data, gzip.compress])
def test_import(store: ContentStore, packed: Any) -> None:
    data = tar.archive(tar.directory(b"etc"), tar.file(b"etc/hostname", b"x\n"))
    image = commit.import_archive(
        store,
        io.BytesIO(packed(data)),
        created_ns=7,
        platform=platform.host(),
        changes=["CMD sh"],
    )
    assert image.config.diff_ids == (digest_of(data),)
    assert image.config.config.cmd == ("/bin/sh", "-c", "sh")
    blob = store.path(image.layers[0].descriptor.digest)
    assert gzip.decompress(blob.read_bytes()) == data


def test_import_of_what_is_no_tar_leaves_nothing(store: ContentStore, tmp_path: Path) -> None:
    for data in (b"text" * 500, tar.file(b"f", b"x" * 600)[:700], gzip.compress(b"x" * 999)):
        with pytest.raises(InvalidInput):
            commit.import_archive(store, io.BytesIO(data), created_ns=7, platform=platform.host())
    assert list(store.digests()) == []
    assert os.listdir(tmp_path / "a" / "tmp") == []


# The format docker save had before version 25 ------------------------------------

LAYER = tar.archive(tar.file(b"hello", b"world"))
CONFIG = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(LAYER)] * 2},
    }
).encode()


def _old(manifest: object, *more: bytes) -> bytes:
    return tar.archive(
        tar.directory(b"l1"),
        tar.file(b"l1/layer.tar", LAYER),
        tar.directory(b"l2"),
        tar.symlink(b"l2/layer.tar", b"../l1/layer.tar"),
        tar.file(b"config.json", CONFIG),
        *more,
        tar.file(b"manifest.json", json.dumps(manifest).encode()),
    )


GOOD = {
    "Config": "config.json",
    "RepoTags": ["old:1"],
    "Layers": ["l1/layer.tar", "l2/layer.tar"],
}


def test_archives_of_older_docker(other: ContentStore) -> None:
    (loaded,) = load.load(io.BytesIO(_old([GOOD])), other)
    assert loaded.image.id == digest_of(CONFIG)
    assert [t.familiar for t in loaded.tags] == ["old:1"]
    assert {layer.descriptor.digest for layer in loaded.image.layers} == {digest_of(LAYER)}
    assert other.has(digest_of(LAYER))


def test_a_platform_that_is_asked_for_is_the_one_that_is_loaded(other: ContentStore) -> None:
    data = _old([GOOD])
    with pytest.raises(NotFound, match="has no image for linux/s390x, it has one for linux/amd64"):
        load.load(io.BytesIO(data), other, wanted=platform.Platform("linux", "s390x"))
    assert list(other.digests()) == []
    (loaded,) = load.load(io.BytesIO(data), other, wanted=platform.Platform("linux", "amd64"))
    assert loaded.image.id == digest_of(CONFIG)


def _layout(index: object, *blobs: bytes, names: tuple[str, ...] = ()) -> bytes:
    parts = [tar.file(b"oci-layout", b"{}"), tar.file(b"index.json", json.dumps(index).encode())]
    for i, blob in enumerate(blobs):
        name = names[i] if i < len(names) else digest_of(blob).removeprefix("sha256:")
        parts.append(tar.file(f"blobs/sha256/{name}".encode(), blob))
    return tar.archive(*parts)


def _index(digest: str, size: int = 5) -> dict[str, Any]:
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": size,
    }
    return {"schemaVersion": 2, "manifests": [entry]}


HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (tar.archive(), "neither manifest.json nor index.json"),
    "a root file system": (tar.archive(tar.file(b"etc/passwd")), "neither manifest.json"),
    "not a tar": (b"x" * 2000, "checksum"),
    "empty": (b"", "neither manifest.json"),
    "cut": (_old([GOOD])[:4000], "ends in the middle|no 'config.json'|neither"),
    "absolute name": (tar.archive(tar.file(b"/manifest.json", b"[]")), "name is absolute"),
    "outside": (tar.archive(tar.file(b"../manifest.json", b"[]")), r"contains '\.\.'"),
    "link outside": (
        _old([GOOD], tar.symlink(b"x", b"../../../etc/passwd")),
        "'x' refused: its link target is outside",
    ),
    "absolute link": (_old([GOOD], tar.symlink(b"x", b"/etc/passwd")), "target is absolute"),
    "layer by a link to the host": (
        _old([{**GOOD, "Layers": ["../../etc/passwd"] * 2}]),
        "it has no",
    ),
    "config by an absolute path": (_old([{**GOOD, "Config": "/etc/passwd"}]), "it has no"),
    "links in a circle": (
        _old([{**GOOD, "Config": "p"}], tar.symlink(b"p", b"q"), tar.symlink(b"q", b"p")),
        "it has no 'p'",
    ),
    "device": (_old([GOOD], tar.special(b"null", b"3")), "'null' refused: an image archive has"),
    "duplicate": (_old([GOOD], tar.file(b"config.json", b"{}")), "an earlier entry has the same"),
    "manifest of another shape": (_old({"a": 1}), "manifest.json"),
    "no images": (_old([]), "has 0 images"),
    "missing layer": (_old([{**GOOD, "Layers": ["l3/layer.tar"] * 2}]), "no 'l3/layer.tar'"),
    "wrong number of layers": (_old([{**GOOD, "Layers": ["l1/layer.tar"]}]), "1 layers but"),
    "tag that is none": (_old([{**GOOD, "RepoTags": ["UPPER"]}]), "must be lowercase"),
    "tag that is a digest": (
        _old([{**GOOD, "RepoTags": ["a@sha256:" + "0" * 64]}]),
        "is not a tag",
    ),
    "config that is none": (_old([{**GOOD, "Config": "l1/layer.tar"}]), "refused"),
    "blob with another digest": (
        _layout(_index("sha256:" + "a" * 64), b"evil!", names=("a" * 64,)),
        "has the digest",
    ),
    "missing blob": (_layout(_index("sha256:" + "a" * 64)), "it has no 'blobs/sha256/aaa"),
    "manifest that is none": (_layout(_index(digest_of(b"evil!")), b"evil!"), "refused"),
    "index without images": (_layout({"schemaVersion": 2, "manifests": []}), "has 0 images"),
    "index that is a manifest": (_layout({"schemaVersion": 2}), "refused"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_image_archives_leave_nothing(
    tmp_path: Path, other: ContentStore, kind: str
) -> None:
    data, message = HOSTILE[kind]
    with pytest.raises((InvalidInput, NotFound), match=message):
        load.load(io.BytesIO(data), other)
    assert list(other.digests()) == []
    assert os.listdir(tmp_path / "b" / "tmp") == []
    assert sorted(os.listdir(tmp_path)) == ["b"]


def test_one_bad_image_of_two_loads_neither(other: ContentStore) -> None:
    bad = {**GOOD, "Layers": ["gone"] * 2}
    with pytest.raises(InvalidInput, match="no 'gone'"):
        load.load(io.BytesIO(_old([GOOD, bad])), other)
    assert list(other.digests()) == []


def test_a_packed_layer_describes_itself() -> None:
    packed = Packed("d", "x", 5, "type", 1)
    assert (packed.descriptor.digest, packed.descriptor.size) == ("x", 5)
