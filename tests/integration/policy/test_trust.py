"""``images.trust`` on a running engine: what runs is what somebody signed."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml

from rootless.images.content import ContentStore, digest_of
from rootless.images.manifest import OCI_INDEX, OCI_MANIFEST
from rootless.images.signatures import attached
from tests.integration.policy.forced import HEAD
from tests.support import imagebuild, registry, tarmaker
from tests.support.api import IMAGE, Api
from tests.support.engine import Engine
from tests.support.signing import Signer, ecdsa, ed, manifest_of

pytestmark = pytest.mark.integration
TEAM, OTHER = ecdsa("team"), ed("other")
_numbers = itertools.count(os.getpid() * 1000)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry.running(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


@contextmanager
def trusting(
    engine: Engine, host: str, *signers: Signer, mode: str = "enforce", **more: object
) -> Iterator[None]:
    """A policy that wants a signature of one of these keys of images in ``team``."""
    keys = [signer.public.pem for signer in signers]
    trust = [{"repositories": [f"{host}/team/*"], "keys": keys, **more}]
    path = engine.root / "c/rootless/policy.yaml"
    text = yaml.safe_dump({"mode": mode, "spec": {"images": {"trust": trust}}})
    path.write_text(HEAD + text)
    try:
        yield
    finally:
        path.unlink()


@pytest.fixture
def image(engine: Engine, host: str) -> Iterator[str]:
    """An image of its own in the registry, and nowhere else; its name."""
    name = f"{host}/team/app{next(_numbers)}:1.0"
    made = engine.ok("create", "--network", "none", IMAGE, "true")
    engine.ok("commit", "--change", f"LABEL n={name}", made, name)
    engine.ok("rm", made)
    engine.ok("push", name)
    engine.ok("rmi", name)
    yield name
    engine.run("rmi", "--force", name)


def _digest_of(name: str) -> str:
    host, _, rest = name.partition("/")
    path, _, tag = rest.rpartition(":")
    ask = Request(f"http://{host}/v2/{path}/manifests/{tag}", headers={"Accept": OCI_MANIFEST})
    with urlopen(ask) as answer:
        return digest_of(answer.read())


def sign(engine: Engine, signer: Signer, name: str, tmp_path: Path) -> None:
    """By the command, with a key that is not encrypted."""
    key = tmp_path / f"{next(_numbers)}.key"
    key.write_text(signer.pem)
    engine.ok("image", "sign", "--key", str(key), name)


def run(engine: Engine, name: str, *more: str) -> str:
    return engine.ok("run", "--rm", "--network", "none", *more, name, "echo", "it runs")


def refused(engine: Engine, *words: str) -> str:
    done = engine.run(*words)
    assert done.returncode != 0, done.stdout
    assert "images.trust" in done.stderr, done.stderr
    return done.stderr


def test_only_a_signed_image_is_pulled(
    engine: Engine, host: str, image: str, tmp_path: Path
) -> None:
    with trusting(engine, host, TEAM):
        blobs = engine.data / "content/blobs/sha256"
        before = set(os.listdir(blobs))
        assert "no verified signature" in refused(engine, "pull", image)
        refused(engine, "run", "--rm", image, "true")
        kept = set(os.listdir(blobs)) - before  # no layer was fetched
        assert all((blobs / name).stat().st_size < 10_000 for name in kept)
        sign(engine, OTHER, image, tmp_path)
        refused(engine, "pull", image)
        sign(engine, TEAM, image, tmp_path)
        engine.ok("pull", image)
        assert run(engine, image) == "it runs"
        assert run(engine, f"{image.rpartition(':')[0]}@{_digest_of(image)}") == "it runs"
        # What is not in the team's repositories needs nothing.
        assert run(engine, IMAGE) == "it runs"


def test_what_was_there_before_the_policy(
    engine: Engine, host: str, image: str, tmp_path: Path
) -> None:
    engine.ok("pull", image)
    sign(engine, TEAM, image, tmp_path)
    with trusting(engine, host, TEAM):
        assert "pull it again" in refused(engine, "create", image, "true")
        engine.ok("pull", image)
        assert run(engine, image) == "it runs"


def test_names_that_are_moved_to_other_images(
    engine: Engine, host: str, image: str, tmp_path: Path
) -> None:
    sign(engine, TEAM, image, tmp_path)
    with trusting(engine, host, TEAM):
        engine.ok("pull", image)
        made = engine.ok("create", "--network", "none", image, "true")
        # Tagged over it, committed from it, loaded under its name: none of them is what was signed.
        engine.ok("tag", IMAGE, image)
        refused(engine, "run", "--rm", image, "true")
        committed = f"{host}/team/committed:1"
        engine.ok("commit", made, committed)
        refused(engine, "run", "--rm", committed, "true")
        archive = tmp_path / "archive.tar"
        engine.ok("save", "-o", str(archive), committed)
        engine.ok("rmi", committed)
        engine.ok("load", "-i", str(archive))
        refused(engine, "run", "--rm", committed, "true")
        # The container is of the image that was signed, whatever the name means now.
        engine.ok("start", "--attach", made)
        engine.ok("rm", made)
        engine.ok("rmi", committed)


def test_what_was_verified_is_saved_and_loaded_without_it(
    engine: Engine, host: str, image: str, tmp_path: Path
) -> None:
    """An archive says nothing of signatures: what comes of one is as good as its content is
    known already, and once the image is gone nobody vouches for it."""
    sign(engine, TEAM, image, tmp_path)
    archive, other = tmp_path / "archive.tar", f"{image.rpartition(':')[0]}:2"
    with trusting(engine, host, TEAM):
        engine.ok("pull", image)
        engine.ok("save", "-o", str(archive), image)
        # Beside the image that was verified, the same content under its name is that image.
        engine.ok("load", "-i", str(archive))
        assert run(engine, image) == "it runs"
        engine.ok("rmi", image)
        engine.ok("load", "-i", str(archive))
        assert "pull it again" in refused(engine, "run", "--rm", image, "true")
        engine.ok("tag", image, other)
        refused(engine, "run", "--rm", other, "true")
        engine.ok("rmi", other)
        engine.ok("pull", image)
        assert run(engine, image) == "it runs"


@pytest.mark.parametrize("gone", [False, True])
def test_an_archive_with_other_layers_under_a_verified_configuration(
    engine: Engine, host: str, image: str, tmp_path: Path, *, gone: bool
) -> None:
    """An image's id is its configuration's digest: the layers in an archive must be those that
    it names, or somebody else's files would run by a signature."""
    sign(engine, TEAM, image, tmp_path)
    archive = tmp_path / "archive.tar"
    with trusting(engine, host, TEAM):
        engine.ok("pull", image)
        engine.ok("save", "-o", str(archive), image)
        bent = _with_another_layer(archive.read_bytes())
        if gone:
            engine.ok("rmi", image)
        (tmp_path / "bent.tar").write_bytes(bent)
        done = engine.run("load", "-i", str(tmp_path / "bent.tar"))
        assert done.returncode != 0, done.stdout
        engine.ok("pull", image)
        assert run(engine, image) == "it runs"


def _with_another_layer(archive: bytes) -> bytes:
    """The archive with another tree in the place of its last layer, as docker-archive names it."""
    layer = tarmaker.file(b"evil", b"evil") + tarmaker.END_MARK
    changed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        tarfile.open(fileobj=changed, mode="w") as new,
    ):
        contents = {one.name: old.extractfile(one) for one in old if one.isfile()}
        read = {name: file.read() for name, file in contents.items() if file is not None}
        named = json.loads(read["manifest.json"])[0]["Layers"][-1]
        for name, data in {**read, named: layer}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return changed.getvalue()


def test_a_container_starts_only_while_its_image_is_trusted(
    engine: Engine, host: str, image: str, api: Api, tmp_path: Path
) -> None:
    sign(engine, TEAM, image, tmp_path)
    with trusting(engine, host, TEAM):
        engine.ok("pull", image)
        made = engine.ok("create", "--network", "none", image, "true")
        engine.ok("start", "--attach", made)
    with trusting(engine, host, OTHER):
        status, message = api.refused("POST", f"/containers/{made}/start")
        assert (status, "images.trust" in message) == (403, True)
        refused(engine, "run", "--rm", image, "true")
        sign(engine, OTHER, image, tmp_path)
        engine.ok("pull", image)
        engine.ok("start", "--attach", made)
    engine.ok("rm", made)


def test_check_policy_knows_what_was_verified(
    engine: Engine, host: str, image: str, tmp_path: Path
) -> None:
    """By any policy, not only the one that is in force; the daemon says what it knows."""
    sign(engine, TEAM, image, tmp_path)
    with trusting(engine, host, TEAM):
        engine.ok("pull", image)
    for signer, status in ((TEAM, 0), (OTHER, 1)):
        trust = [{"repositories": ["*"], "keys": [signer.public.pem]}]
        areas = {"images": {"trust": trust, "maximumAge": "1d", "maximumSize": "1g"}}
        areas["privileges"] = {"denySetuidFiles": True}
        file = tmp_path / f"{status}.yaml"
        file.write_text(HEAD + yaml.safe_dump({"spec": areas}))
        done = engine.run("check-policy", "--policy", str(file), "--image", image)
        assert (done.returncode, "images.trust" in done.stdout) == (status, bool(status)), done


def test_more_than_one_key(engine: Engine, host: str, image: str, tmp_path: Path) -> None:
    with trusting(engine, host, TEAM, OTHER, minimum=2):
        sign(engine, TEAM, image, tmp_path)
        assert "2 of the keys" in refused(engine, "pull", image)
        sign(engine, OTHER, image, tmp_path)
        engine.ok("pull", image)
        assert run(engine, image) == "it runs"


def test_images_that_are_mounted(engine: Engine, host: str, image: str, tmp_path: Path) -> None:
    engine.ok("pull", image)
    mount = ("--mount", f"type=image,src={image},dst=/m")
    assert run(engine, IMAGE, *mount) == "it runs"
    with trusting(engine, host, TEAM):
        refused(engine, "run", "--rm", "--network", "none", *mount, IMAGE, "true")
        made = engine.run("run", "--dry-run", *mount, IMAGE, "true")
        assert "images.trust" in made.stdout + made.stderr


def test_a_warning(engine: Engine, host: str, image: str) -> None:
    with trusting(engine, host, TEAM, mode="warn"):
        assert "policy: images.trust" in engine.ok("pull", image)
        done = engine.run("run", "--rm", "--network", "none", image, "true")
        assert (done.returncode, "images.trust" in done.stderr) == (0, True)


def test_what_was_verified_outlives_the_daemon(
    fresh_engine: Engine, host: str, tmp_path: Path
) -> None:
    engine = fresh_engine
    name = f"{host}/team/lasting:1"
    engine.ok("tag", IMAGE, name)
    engine.ok("push", name)
    engine.ok("rmi", name)
    sign(engine, TEAM, name, tmp_path)
    with trusting(engine, host, TEAM):
        engine.ok("pull", name)
        engine.kill()
        engine.start()
        assert run(engine, name) == "it runs"
        engine.ok("rmi", name)
        engine.ok("tag", IMAGE, name)
        # The image is the same one, by another name too; what was said of it still holds.
        assert run(engine, name) == "it runs"


# -- registries that mean harm ----------------------------------------------------------------


class Liar:
    """A registry with a signed index, and lies in it on demand."""

    def __init__(self, directory: Path) -> None:
        store = ContentStore(directory)
        layer = tarmaker.archive(tarmaker.file(b"f", os.urandom(64)))
        evil = tarmaker.archive(tarmaker.file(b"f", os.urandom(64)))
        self.good = imagebuild.make_image(store, [layer], compression="none")
        self.bad = imagebuild.make_image(store, [evil], compression="none")
        self.index = imagebuild.make_index(store, [self.good])
        self.bad_index = imagebuild.make_index(store, [self.bad])
        self.blobs = {digest: store.path(digest).read_bytes() for digest in store.digests()}
        self.signatures: dict[str, bytes] = {}
        self.instead: dict[str, str] = {}
        self.asked: list[str] = []

    def sign(self, signer: Signer, name: str, digest: str) -> None:
        """Add a signature of ``digest``."""
        signed = signer.signed(name, digest)
        self.signatures[attached.tag_of(digest)] = json.dumps(manifest_of(signed)).encode()
        self.blobs[digest_of(signed.payload)] = signed.payload

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        name = handler.path.rpartition("/")[2]
        self.asked.append(name)
        name = self.instead.get(name, name)
        if handler.path == "/v2/":
            registry.reply(handler, 200)
        elif name in self.signatures:
            registry.reply(handler, 200, self.signatures[name], {"Content-Type": OCI_MANIFEST})
        elif name in self.blobs:
            kind = OCI_INDEX if name in (self.index, self.bad_index) else OCI_MANIFEST
            registry.reply(handler, 200, self.blobs[name], {"Content-Type": kind})
        else:
            registry.reply(handler, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[tuple[Liar, str]]:
    served = Liar(tmp_path / "content")
    served.instead["1"] = served.index
    with registry.http_server(served) as home:
        yield served, home.host


@pytest.mark.parametrize("what", ["the index", "the manifest"])
def test_a_signature_of_either(engine: Engine, liar: tuple[Liar, str], what: str) -> None:
    served, host = liar
    name = f"{host}/team/x"
    with trusting(engine, host, TEAM):
        refused(engine, "pull", f"{name}:1")
        digest = served.index if what == "the index" else served.good.manifest_digest
        served.sign(TEAM, name, digest)
        engine.ok("pull", f"{name}:1")
    engine.ok("rmi", f"{name}:1")


def test_content_that_is_not_what_was_signed(engine: Engine, liar: tuple[Liar, str]) -> None:
    """Whatever the registry serves the second time, what was verified is what is unpacked."""
    served, host = liar
    name = f"{host}/team/x"
    served.sign(TEAM, name, served.index)
    good, bad = served.good, served.bad
    with trusting(engine, host, TEAM):
        for asked, given in (
            (good.manifest_digest, bad.manifest_digest),
            (good.manifest.config.digest, bad.manifest.config.digest),
            (good.manifest.layers[0].digest, bad.manifest.layers[0].digest),
        ):
            served.instead[asked] = given
            done = engine.run("pull", f"{name}:1")
            assert (done.returncode, "refused" in done.stderr) == (1, True), done.stderr
            del served.instead[asked]
        # A tag that was moved between the two requests of a pull: it is asked for once.
        served.asked.clear()
        engine.ok("pull", f"{name}:1")
        assert served.asked.count("1") == 1
        # The signature of the good index beside another image.
        served.instead["1"] = served.bad_index
        served.signatures[attached.tag_of(served.bad_index)] = served.signatures[
            attached.tag_of(served.index)
        ]
        refused(engine, "pull", f"{name}:1")
        # Another repository's signature, copied.
        served.sign(TEAM, f"{host}/team/y", served.bad_index)
        assert "under another name" in refused(engine, "pull", f"{name}:1")
    engine.ok("rmi", f"{name}:1")


def test_signatures_that_cannot_be_read(engine: Engine, liar: tuple[Liar, str]) -> None:
    served, host = liar
    name = f"{host}/team/x"
    tag = attached.tag_of(served.index)
    with trusting(engine, host, TEAM):
        for data in (b"", b"{", b"[]", json.dumps({"layers": []}).encode()):
            served.signatures[tag] = data
            done = engine.run("pull", f"{name}:1")
            assert (done.returncode, "refused" in done.stderr) == (1, True), done.stderr


def test_age_and_size(engine: Engine, liar: tuple[Liar, str]) -> None:
    """Made images have no time of their making: not known is not young."""
    _, host = liar
    name = f"{host}/team/x:1"
    path = engine.root / "c/rootless/policy.yaml"
    path.write_text(HEAD + "spec: {images: {maximumAge: 30d}}\n")
    try:
        done = engine.run("pull", name)
        assert "images.age" in done.stderr
        path.write_text(HEAD + "spec: {images: {maximumSize: 10}}\n")
        engine.ok("pull", name)
        done = engine.run("run", "--rm", name, "true")
        assert "images.size" in done.stderr
        assert "64B" in done.stderr
    finally:
        path.unlink()
        engine.run("rmi", name)
