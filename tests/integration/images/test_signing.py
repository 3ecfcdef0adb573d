"""``image sign``, ``verify`` and ``generate-key-pair``: against a real registry."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from rootless.errors import InvalidInput, RootlessError
from rootless.images.content import ContentStore, digest_of
from rootless.images.manifest import OCI_INDEX, OCI_MANIFEST
from rootless.images.reference import parse
from rootless.images.registry.client import Repository
from rootless.images.registry.progress import Meter, nobody
from rootless.images.registry.settings import RegistrySettings
from rootless.images.signatures import attached, payload
from rootless.images.signatures.fetch import attach, fetch
from rootless.images.signatures.verify import examine
from tests.support import imagebuild, registry, tarmaker
from tests.support.engine import Engine, new_engine
from tests.support.signing import Signer, ecdsa, ed, manifest_of

pytestmark = pytest.mark.integration
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry.running(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


@pytest.fixture(scope="module")
def cli() -> Iterator[Engine]:
    """Commands only: no daemon is ever started."""
    with new_engine(start=False) as engine:
        engine.variables["COSIGN_PASSWORD"] = PASSWORD
        yield engine
        assert not engine.socket.exists()


@pytest.fixture
def image(host: str, tmp_path: Path) -> str:
    """A new image in the registry; its reference."""
    store = ContentStore(tmp_path / "content")
    layer = tarmaker.archive(tarmaker.file(b"f", os.urandom(100)))
    made = imagebuild.make_image(store, [layer])
    data = store.read(made.manifest_digest, 1 << 20)
    name = f"{host}/team/{os.urandom(4).hex()}"
    _push(name, store, made.blobs[1:], data, OCI_MANIFEST)
    return f"{name}:1.0"


def _push(
    name: str, store: ContentStore, blobs: tuple[str, ...], manifest: bytes, media_type: str
) -> None:
    async def work() -> None:
        async with Repository(parse(name), RegistrySettings(), None, push=True) as repository:
            await repository.ping()
            for blob in blobs:
                size = store.size(blob)
                await repository.upload(blob, size, store, Meter(nobody, blob, size))
            await repository.put_manifest("1.0", manifest, media_type)

    asyncio.run(work())


def _keys(cli: Engine, tmp_path: Path, name: str, *more: str) -> tuple[str, str]:
    prefix = str(tmp_path / name)
    cli.ok("image", "generate-key-pair", "--output-key-prefix", prefix, *more)
    return f"{prefix}.key", f"{prefix}.pub"


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ed25519"])
def test_sign_and_verify(cli: Engine, image: str, tmp_path: Path, kind: str) -> None:
    key, pub = _keys(cli, tmp_path, "team", "--type", kind)
    assert os.stat(key).st_mode & 0o777 == 0o600
    refused = cli.run("image", "verify", "--key", pub, image)
    assert refused.returncode == 1
    assert "it has no signatures" in refused.stderr
    signed = cli.ok("image", "sign", "--key", key, "-a", "build=7", image)
    assert " signed by sha256:" in signed
    verified = cli.ok("image", "verify", "--key", pub, image)
    assert verified == f"{signed} build=7"
    found = json.loads(cli.ok("image", "verify", "--format", "json", "--key", pub, image))
    assert found["signedAs"] == image.removesuffix(":1.0")
    assert found["annotations"] == {"build": "7"}
    # What was verified can be named by its digest, and be verified so.
    assert cli.ok("image", "verify", "--key", pub, found["image"]) == verified


def test_signing_again_changes_nothing(cli: Engine, image: str, tmp_path: Path) -> None:
    key, pub = _keys(cli, tmp_path, "team")
    other, other_pub = _keys(cli, tmp_path, "other")
    cli.ok("image", "sign", "--key", key, image)
    assert "signed already" in cli.ok("image", "sign", "--key", key, image)
    cli.ok("image", "sign", "--key", other, image)
    assert "signed already" in cli.ok("image", "sign", "--key", key, image)
    lines = cli.ok("image", "verify", "--key", pub, "--key", other_pub, image).splitlines()
    assert len(lines) == 2


def test_a_key_that_did_not_sign(cli: Engine, image: str, tmp_path: Path) -> None:
    key, pub = _keys(cli, tmp_path, "team")
    _, stranger = _keys(cli, tmp_path, "stranger")
    cli.ok("image", "sign", "--key", key, image)
    refused = cli.run("image", "verify", "--key", pub, "--key", stranger, image)
    assert refused.returncode == 1
    assert "is not signed by sha256:" in refused.stderr
    assert len(refused.stdout.splitlines()) == 1  # what holds is said all the same


def test_a_tag_that_was_moved(cli: Engine, image: str, host: str, tmp_path: Path) -> None:
    key, pub = _keys(cli, tmp_path, "team")
    cli.ok("image", "sign", "--key", key, image)
    store = ContentStore(tmp_path / "later")
    made = imagebuild.make_image(store, [tarmaker.archive(tarmaker.file(b"f", b"other"))])
    data = store.read(made.manifest_digest, 1 << 20)
    _push(image.removesuffix(":1.0"), store, made.blobs[1:], data, OCI_MANIFEST)
    assert "has no signatures" in cli.run("image", "verify", "--key", pub, image).stderr


def test_a_signature_under_another_name(cli: Engine, image: str, host: str, tmp_path: Path) -> None:
    """One that was copied along with its image proves nothing of the copy's name."""
    key, pub = _keys(cli, tmp_path, "team")
    cli.ok("image", "sign", "--key", key, image)
    copy = f"{host}/elsewhere/{os.urandom(4).hex()}"
    digest = cli.ok("image", "verify", "--key", pub, image).partition(" ")[0].partition("@")[2]
    for tag in ("1.0", attached.tag_of(digest)):
        _skopeo(
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            f"docker://{image.removesuffix(':1.0')}:{tag}",
            f"docker://{copy}:{tag}",
        )
    refused = cli.run("image", "verify", "--key", pub, f"{copy}:1.0")
    assert refused.returncode == 1
    assert f"signed it as {image.removesuffix(':1.0')}" in refused.stderr
    cli.ok("image", "verify", "--key", pub, "--signed-as", f"{host}/team/*", f"{copy}:1.0")


def test_an_index_is_signed_as_a_whole(cli: Engine, image: str, host: str, tmp_path: Path) -> None:
    key, pub = _keys(cli, tmp_path, "team")
    store = ContentStore(tmp_path / "index")
    one = imagebuild.make_image(store, [tarmaker.archive(tarmaker.file(b"f", b"1"))])
    name = image.removesuffix(":1.0")
    _push(name, store, one.blobs[1:], store.read(one.manifest_digest, 1 << 20), OCI_MANIFEST)
    index = imagebuild.make_index(store, [one])
    _push(name, store, (), store.read(index, 1 << 20), OCI_INDEX)
    assert f"@{index} signed" in cli.ok("image", "sign", "--key", key, f"{name}:1.0")
    cli.ok("image", "verify", "--key", pub, f"{name}:1.0")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("sign", "--key", "nowhere.key", "127.0.0.1:1/x"), 1, "No such file"),
        (("sign", "127.0.0.1:1/x"), 2, "--key"),
        (("sign", "--key", "/etc/passwd", "127.0.0.1:1/x"), 1, "not one PEM block"),
        (("verify", "--key", "/etc/passwd", "127.0.0.1:1/x"), 1, "not one PEM block"),
        (("verify", "--key", "PUB", "127.0.0.1:1/x"), 1, "cannot connect"),
        (("verify", "--key", "KEY", "127.0.0.1:1/x"), 1, "name the file that ends with .pub"),
        (("sign", "--key", "KEY", "-a", "x", "127.0.0.1:1/x"), 1, "NAME=VALUE"),
        (("sign", "--key", "KEY", "UPPER!"), 1, "reference"),
        (("generate-key-pair", "--output-key-prefix", "team"), 1, "not overwritten"),
        (("generate-key-pair", "--output-key-prefix", "/nowhere/x"), 1, "No such file"),
    ],
)
def test_what_goes_wrong_is_one_line(
    cli: Engine, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    key, pub = _keys(cli, tmp_path, "team")
    places = {"PUB": pub, "KEY": key, "team": str(tmp_path / "team")}
    done = cli.run("image", *(places.get(word, word) for word in arguments))
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_password(cli: Engine, image: str, tmp_path: Path) -> None:
    key, _ = _keys(cli, tmp_path, "team")
    wrong = cli.run("image", "sign", "--key", key, image, env={"COSIGN_PASSWORD": "no"})
    assert (wrong.returncode, "password is wrong" in wrong.stderr) == (1, True)
    del cli.variables["COSIGN_PASSWORD"]
    try:
        asked = cli.run("image", "sign", "--key", key, image)
    finally:
        cli.variables["COSIGN_PASSWORD"] = PASSWORD
    assert (asked.returncode, "no terminal" in asked.stderr) == (1, True)


def _skopeo(*arguments: str) -> None:
    done = subprocess.run(
        ["skopeo", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


# -- a registry that means harm --------------------------------------------------------------

D = digest_of(b"the image")


def _serving(
    manifest: bytes, blobs: dict[str, bytes], media_type: str = OCI_MANIFEST
) -> registry.Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        if handler.path == "/v2/":
            registry.reply(handler, 200)
        elif name == attached.tag_of(D):
            registry.reply(handler, 200, manifest, {"Content-Type": media_type})
        elif name in blobs:
            registry.reply(handler, 200, blobs[name])
        else:
            registry.reply(handler, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')

    return answer


async def _fetch(answer: registry.Answer, signer: Signer) -> int:
    """How many signatures of ``signer`` a registry gets us to believe."""
    with registry.http_server(answer) as home:
        settings = RegistrySettings(attempts=1, retry_delay=0.001)
        async with Repository(parse(f"{home.host}/x"), settings, None) as repository:
            await repository.ping()
            found = await fetch(repository, D)
    return len(examine(found, {D}, [signer.public]).verified)


async def test_a_registry_that_lies() -> None:
    signer = ecdsa()
    good = signer.signed("registry.example/x", D)
    body = json.dumps(manifest_of(good)).encode()
    blob = digest_of(good.payload)
    assert await _fetch(_serving(body, {blob: good.payload}), signer) == 1
    assert await _fetch(_serving(body, {blob: good.payload}), ed()) == 0
    other = payload.encode("registry.example/x", digest_of(b"another image"))
    with pytest.raises(InvalidInput, match="its content has digest"):
        await _fetch(_serving(body, {blob: other}), signer)
    with pytest.raises(InvalidInput, match="larger than"):
        await _fetch(_serving(body, {blob: b"x" * 200_000}), signer)
    with pytest.raises(RootlessError):
        await _fetch(_serving(body, {}), signer)
    with pytest.raises(InvalidInput, match="refused"):
        await _fetch(_serving(body, {blob: good.payload}, OCI_INDEX), signer)
    many = json.dumps(manifest_of(*[good] * 65)).encode()
    with pytest.raises(InvalidInput, match="more than 64"):
        await _fetch(_serving(many, {blob: good.payload}), signer)


async def test_another_signer_came_in_between(host: str) -> None:
    """A registry cannot change a tag only if it is as it was: whoever is put away comes again."""
    name = f"{host}/race/{os.urandom(4).hex()}"
    first, second = ecdsa("first"), ed("second")
    lost = []

    class Racing(Repository):
        async def put_manifest(self, selector: str, data: bytes, media_type: str) -> None:
            await super().put_manifest(selector, data, media_type)
            if not lost:  # the other had read before us, and writes after us
                lost.append(data)
                async with Repository(parse(name), RegistrySettings(), None, push=True) as other:
                    await other.ping()
                    await other.put_manifest(selector, empty, media_type)

    async with Racing(parse(name), RegistrySettings(), None, push=True) as repository:
        await repository.ping()
        lost.append(b"")
        await attach(repository, D, second.signed(name, D))
        empty = (await repository.manifest(attached.tag_of(D))).data
        lost.clear()
        await attach(repository, D, first.signed(name, D))
        found = await fetch(repository, D)
    makers = {first.public.fingerprint, second.public.fingerprint}
    done = examine(found, {D}, [first.public, second.public])
    assert {each.key for each in done.verified} == makers
