"""Pull and push against Debian's docker-registry, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import (
    InvalidInput,
    NotFound,
    RootlessError,
    Unauthorized,
    Unavailable,
)
from rootless.images import manifest as manifests
from rootless.images import platform as platforms
from rootless.images.content import ContentStore
from rootless.images.image import Image, Layer
from rootless.images.platform import Platform
from rootless.images.reference import Reference, parse
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.login import login
from rootless.images.registry.progress import Meter
from rootless.images.registry.pull import Pulled, final_status, pull
from rootless.images.registry.push import Pushed, push
from rootless.images.registry.settings import Endpoint, RegistrySettings
from rootless.images.registry.transport import Transport
from tests.support import imagebuild, registry, tarmaker

pytestmark = pytest.mark.integration

USER, PASSWORD = "alice", "secret"
# bcrypt of PASSWORD, the only form docker-registry takes.
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    return RegistrySettings(
        docker_config=tmp_path / "docker" / "config.json",
        certificate_dirs=(tmp_path / "certs.d",),
        retry_delay=0.001,
    )


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "mine")


@pytest.fixture
def target(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "target")


@pytest.fixture
def image(store: ContentStore) -> Image:
    layers = [
        tarmaker.archive(tarmaker.file(b"base", os.urandom(300_000))),
        tarmaker.archive(tarmaker.file(b"top", b"x" * 1000)),
        tarmaker.archive(tarmaker.file(b"top", b"x" * 1000)),
    ]
    return imagebuild.make_image(store, layers)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    with registry.running(tmp_path / "registry") as running:
        yield running.host


async def _push(
    image: Image, to: str, store: ContentStore, settings: RegistrySettings, **more: Any
) -> Pushed:
    data = store.read(image.manifest_digest, manifests.MAX_MANIFEST)
    return await push(parse(to), data, store, settings, **more)


async def _pull(
    what: str | Reference, store: ContentStore, settings: RegistrySettings, **more: Any
) -> Pulled:
    reference = parse(what) if isinstance(what, str) else what
    return await pull(reference, store, settings, **{"wanted": platforms.host(), **more})


def _tmp(tmp_path: Path, store: str) -> list[str]:
    return os.listdir(tmp_path / store / "tmp")


@pytest.mark.parametrize(
    ("compression", "docker"), [("gzip", False), ("zstd", False), ("none", False), ("gzip", True)]
)
async def test_what_was_pushed_is_pulled_the_same(
    plain: str,
    store: ContentStore,
    target: ContentStore,
    settings: RegistrySettings,
    compression: imagebuild.Compression,
    docker: bool,
    tmp_path: Path,
) -> None:
    layer = tarmaker.archive(tarmaker.file(b"f", os.urandom(100_000)))
    image = imagebuild.make_image(store, [layer], compression=compression, docker=docker)
    pushed = await _push(image, f"{plain}/a/b:1", store, settings)
    assert pushed.digest == image.manifest_digest
    pulled = await _pull(f"{plain}/a/b:1", target, settings)
    assert pulled.image == image
    assert pulled.digest == image.manifest_digest
    assert set(target.digests()) == set(pulled.blobs) == set(image.blobs)
    assert _tmp(tmp_path, "target") == []
    by_digest = await _pull(f"{plain}/a/b@{pulled.digest}", target, settings)
    assert by_digest.image == image


async def test_progress_speaks_dockers_words(
    plain: str, image: Image, store: ContentStore, target: ContentStore, settings: RegistrySettings
) -> None:
    lines: list[dict[str, Any]] = []
    name = f"{plain}/x:tag"
    await _push(image, name, store, settings, progress=lines.append)
    words = [line.get("status") for line in lines]
    assert words[0] == f"The push refers to repository [{plain}/x]"
    assert words.count("Preparing") == words.count("Pushed") == 2  # two distinct blobs
    assert lines[-1]["aux"]["Digest"] == image.manifest_digest
    await _push(image, name, store, settings, progress=lines.append)
    assert [x.get("status") for x in lines].count("Layer already exists") == 2

    lines.clear()
    unpacked: list[str] = []

    async def unpack(layer: Layer, meter: Meter) -> None:
        meter.status("Extracting")
        unpacked.append(layer.diff_id)

    done: Callable[[str], bool] = unpacked.__contains__
    pulled = await _pull(
        name, target, settings, progress=lines.append, unpack=unpack, is_unpacked=done
    )
    assert sorted(unpacked) == sorted(set(image.config.diff_ids))
    first = [x["status"] for x in lines if x.get("id") == image.layers[0].descriptor.digest[7:19]]
    assert list(dict.fromkeys(first)) == [
        "Pulling fs layer",
        "Downloading",
        "Verifying Checksum",
        "Download complete",
        "Extracting",
        "Pull complete",
    ]
    bars = [x for x in lines if x.get("status") == "Downloading"]
    assert all(0 < x["progressDetail"]["current"] <= x["progressDetail"]["total"] for x in bars)
    assert lines[0]["status"] == "Pulling from x"
    assert lines[-1] == {"status": f"Digest: {image.manifest_digest}"}
    assert final_status(pulled.reference, newer=True) == {
        "status": f"Status: Downloaded newer image for {name}"
    }

    lines.clear()
    await _pull(name, target, settings, progress=lines.append, unpack=unpack, is_unpacked=done)
    told = [x["status"] for x in lines]
    assert told.count("Already exists") == 2
    assert "Pulling fs layer" not in told
    assert len(unpacked) == 2


async def test_index_and_platforms(
    plain: str, store: ContentStore, target: ContentStore, settings: RegistrySettings
) -> None:
    layer = tarmaker.archive(tarmaker.file(b"f", b"1"))
    arm = imagebuild.make_image(store, [layer], platform=Platform("linux", "arm64"))
    amd = imagebuild.make_image(store, [layer], platform=Platform("linux", "amd64"))
    for image in (arm, amd):
        await _push(image, f"{plain}/multi:{image.config.platform.architecture}", store, settings)
    digest = imagebuild.make_index(store, [arm, amd])
    connection = http.client.HTTPConnection(plain)
    connection.request(
        "PUT",
        "/v2/multi/manifests/latest",
        store.read(digest, 1 << 20),
        {"Content-Type": manifests.OCI_INDEX},
    )
    assert connection.getresponse().status == 201
    connection.close()
    for text, expected in (("linux/arm64", arm), ("linux/amd64", amd)):
        found = await _pull(f"{plain}/multi", target, settings, wanted=platforms.parse(text))
        assert (found.image, found.digest) == (expected, digest)
        assert digest in found.blobs
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        await _pull(f"{plain}/multi", target, settings, wanted=platforms.parse("linux/s390x"))
    with pytest.raises(NotFound, match="does not match the specified platform"):
        await _pull(
            f"{plain}/multi:arm64",
            target,
            settings,
            wanted=platforms.parse("linux/amd64"),
            explicit_platform=True,
        )


async def test_what_is_not_there(
    plain: str, target: ContentStore, settings: RegistrySettings, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match=rf"^manifest for {plain}/no:x not found: manifest unknown"):
        await _pull(f"{plain}/no:x", target, settings)
    free = registry.free_port()
    with pytest.raises(Unavailable, match="Connection refused"):
        await _pull(f"127.0.0.1:{free}/x", target, settings)
    assert list(target.digests()) == []
    assert _tmp(tmp_path, "target") == []


async def test_blobs_are_mounted_across_repositories(
    plain: str, image: Image, store: ContentStore, settings: RegistrySettings
) -> None:
    await _push(image, f"{plain}/one", store, settings)
    lines: list[dict[str, Any]] = []
    sources = {layer.digest: (parse(f"{plain}/one"),) for layer in image.manifest.layers}
    await _push(image, f"{plain}/two", store, settings, progress=lines.append, sources=sources)
    assert [x.get("status") for x in lines].count("Mounted from one") == 2


async def test_skopeo_reads_what_we_push_and_we_what_it_pushes(
    plain: str,
    image: Image,
    store: ContentStore,
    target: ContentStore,
    settings: RegistrySettings,
    tmp_path: Path,
) -> None:
    await _push(image, f"{plain}/ours:1", store, settings)
    process = await asyncio.create_subprocess_exec(
        "skopeo", "--tmpdir", str(tmp_path), "--insecure-policy", "copy", "--preserve-digests",
        "--src-tls-verify=false", "--dest-tls-verify=false",
        f"docker://{plain}/ours:1", f"docker://{plain}/theirs:1",
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert (await _pull(f"{plain}/theirs:1", target, settings)).image == image


# Authentication ---------------------------------------------------------------------


@pytest.fixture
def basic(tmp_path: Path) -> Iterator[str]:
    passwords = tmp_path / "htpasswd"
    passwords.write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(passwords)}}
    with registry.running(tmp_path / "registry", auth=auth) as running:
        yield running.host


async def test_basic_authentication(
    basic: str, image: Image, store: ContentStore, target: ContentStore, settings: RegistrySettings
) -> None:
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        await _push(image, f"{basic}/x", store, settings)
    with pytest.raises(Unauthorized):
        await _push(image, f"{basic}/x", store, settings, credentials=Credentials(USER, "no"))
    good = Credentials(USER, PASSWORD)
    await _push(image, f"{basic}/x", store, settings, credentials=good)
    with pytest.raises(Unauthorized):
        await _pull(f"{basic}/x", target, settings)
    pulled = await _pull(f"{basic}/x", target, settings, credentials=good)
    assert pulled.image == image
    assert PASSWORD not in repr(good)


async def test_login(basic: str, settings: RegistrySettings) -> None:
    assert await login(basic, Credentials(USER, PASSWORD), settings) == "Login Succeeded"
    with pytest.raises(Unauthorized, match="failed with status: 401"):
        await login(basic, Credentials(USER, "no"), settings)
    with pytest.raises(Unavailable, match="Connection refused"):
        await login(f"127.0.0.1:{registry.free_port()}", Credentials(USER, "x"), settings)


async def test_credentials_from_dockers_config_and_a_helper(
    basic: str,
    image: Image,
    store: ContentStore,
    target: ContentStore,
    settings: RegistrySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings.docker_config
    config.parent.mkdir()
    packed = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    config.write_text(json.dumps({"auths": {f"http://{basic}/v2/": {"auth": packed}}}))
    await _push(image, f"{basic}/x", store, settings)

    helper = tmp_path / "docker-credential-mine"
    helper.write_text(
        '#!/bin/sh\nread server || test -n "$server"\n'
        f'test "$1-$server" = "get-{basic}" || {{ echo "credentials not found"; exit 1; }}\n'
        f'echo \'{{"Username":"{USER}","Secret":"{PASSWORD}"}}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for entry in ({"credsStore": "mine"}, {"credHelpers": {basic: "mine"}, "auths": {}}):
        config.write_text(json.dumps(entry))
        assert (await _pull(f"{basic}/x", target, settings)).image == image
    config.write_text(json.dumps({"credHelpers": {basic: "absent"}}))
    with pytest.raises(Unavailable, match="cannot run credential helper docker-credential-absent"):
        await _pull(f"{basic}/x", target, settings)
    config.write_text(json.dumps({"credHelpers": {basic: "../mine"}}))
    with pytest.raises(InvalidInput, match="invalid credential helper name"):
        await _pull(f"{basic}/x", target, settings)
    config.write_text("{")
    with pytest.raises(InvalidInput, match="cannot read"):
        await _pull(f"{basic}/x", target, settings)


async def test_token_authentication(
    image: Image,
    store: ContentStore,
    target: ContentStore,
    settings: RegistrySettings,
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        realm = stack.enter_context(
            registry.token_realm(tmp_path / "realm", user=USER, password=PASSWORD)
        )
        running = stack.enter_context(registry.running(tmp_path / "registry", auth=realm.auth))
        name = f"{running.host}/team/app:1"
        with pytest.raises(Unauthorized, match=r"authentication required|access to the resource"):
            await _push(image, name, store, settings)
        with pytest.raises(Unauthorized, match="failed with status 401"):
            await _push(image, name, store, settings, credentials=Credentials(USER, "no"))
        await _push(image, name, store, settings, credentials=Credentials(USER, PASSWORD))
        assert (await _pull(name, target, settings)).image == image
        scopes = {path for _, path, _ in realm.server.seen}
        assert any("scope=repository:team/app:pull,push" in path for path in scopes)


# Servers that misbehave ----------------------------------------------------------------


class Fake:
    """A registry of one image, whose answers a test may replace."""

    def __init__(self, store: ContentStore, image: Image) -> None:
        self.store = store
        self.image = image
        self.blobs: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {}
        self.wants = ""

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        if self.wants and handler.headers.get("Authorization") != self.wants:
            registry.reply(handler, 401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
        elif handler.path == "/v2/":
            registry.reply(handler, 200)
        elif "/manifests/" in handler.path:
            data = self.store.read(self.image.manifest_digest, 1 << 20)
            headers = {"Content-Type": self.image.manifest.media_type}
            registry.reply(handler, 200, data, headers)
        else:
            digest = handler.path.rpartition("/")[2]
            data = self.store.read(digest, 1 << 30)
            answer = self.blobs.get(digest)
            if answer is None:
                registry.reply(handler, 200, data)
            else:
                answer(handler, data)


@pytest.fixture
def fake(store: ContentStore, image: Image) -> Fake:
    return Fake(store, image)


def _big(fake: Fake) -> str:
    return fake.image.layers[0].descriptor.digest


async def test_credentials_do_not_follow_a_redirect(
    fake: Fake, store: ContentStore, target: ContentStore, settings: RegistrySettings
) -> None:
    good = Credentials(USER, PASSWORD)
    fake.wants = good.basic

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        digest = handler.path.rpartition("/")[2]
        registry.reply(handler, 200, store.read(digest, 1 << 30))

    with registry.http_server(elsewhere) as other, registry.http_server(fake) as home:

        def away(handler: BaseHTTPRequestHandler, data: bytes) -> None:
            place = f"http://{other.host}/storage/{_big(fake)}"
            registry.reply(handler, 307, b"", {"Location": place})

        fake.blobs[_big(fake)] = away
        pulled = await _pull(f"{home.host}/x", target, settings, credentials=good)
        assert pulled.image == fake.image
        assert any("Authorization" in headers for _, _, headers in home.seen)
        assert len(other.seen) == 1
        assert "Authorization" not in other.seen[0][2]


async def test_redirects_in_circles_end(
    fake: Fake, target: ContentStore, settings: RegistrySettings
) -> None:
    with registry.http_server(fake) as home:
        fake.blobs[_big(fake)] = lambda handler, _: registry.reply(
            handler, 302, b"", {"Location": handler.path}
        )
        with pytest.raises(Unavailable, match="too many redirects"):
            await _pull(f"{home.host}/x", target, settings)


async def test_a_cut_download_is_resumed_where_it_stopped(
    fake: Fake, target: ContentStore, settings: RegistrySettings, tmp_path: Path
) -> None:
    ranges: list[str | None] = []

    def cut(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        ranges.append(handler.headers.get("Range"))
        start = int((ranges[-1] or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start : start + 100_000])
        handler.close_connection = True

    with registry.http_server(fake) as home:
        fake.blobs[_big(fake)] = cut
        pulled = await _pull(f"{home.host}/x", target, settings)
    assert pulled.image == fake.image
    assert ranges[0] is None
    assert ranges[1:] == [f"bytes={n}-" for n in (100_000, 200_000, 300_000)]
    assert _tmp(tmp_path, "target") == []


@pytest.mark.parametrize("habit", ["ignores ranges", "another place", "refuses ranges"])
async def test_servers_that_cannot_resume(
    fake: Fake, target: ContentStore, settings: RegistrySettings, habit: str
) -> None:
    calls = 0

    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:150_000])
            handler.close_connection = True
        elif "Range" in handler.headers and habit == "refuses ranges":
            registry.reply(handler, 416)
        elif "Range" in handler.headers and habit == "another place":
            headers = {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}
            registry.reply(handler, 206, data, headers)
        else:
            registry.reply(handler, 200, data)

    with registry.http_server(fake) as home:
        fake.blobs[_big(fake)] = answer
        assert (await _pull(f"{home.host}/x", target, settings)).image == fake.image
    assert calls >= 2


async def test_a_line_that_drops_at_random_places(
    plain: str, image: Image, store: ContentStore, target: ContentStore, settings: RegistrySettings
) -> None:
    await _push(image, f"{plain}/x", store, settings)

    def allowance(connection: int) -> int | None:
        # The first is spent on finding out that this is no TLS server.
        return 70_000 if 1 < connection < 12 else None

    with registry.cutting_proxy(plain, allowance) as proxy:
        pulled = await _pull(f"{proxy}/x", target, settings)
    assert pulled.image == image


@pytest.mark.parametrize("habit", ["other bytes", "longer", "shorter", "nothing", "500", "404"])
async def test_wrong_content_is_refused_and_leaves_nothing(
    fake: Fake, target: ContentStore, settings: RegistrySettings, habit: str, tmp_path: Path
) -> None:
    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        wrong = {
            "other bytes": data[:-1] + b"!",
            "longer": data + b"!",
            "shorter": data[:0],
            "nothing": b"",
        }
        if habit in wrong:
            registry.reply(handler, 200, wrong[habit])
        else:
            registry.reply(handler, int(habit))

    with registry.http_server(fake) as home:
        fake.blobs[_big(fake)] = answer
        with pytest.raises(RootlessError, match=_big(fake)):
            await _pull(f"{home.host}/x", target, settings)
    assert not target.has(_big(fake))
    assert _tmp(tmp_path, "target") == []


async def test_a_damaged_partial_download_is_thrown_away(
    fake: Fake, target: ContentStore, settings: RegistrySettings
) -> None:
    size = fake.store.size(_big(fake))
    with pytest.raises(ConnectionError):
        _leave_partial(target, _big(fake), size, b"not the beginning of it")
    with registry.http_server(fake) as home:
        assert (await _pull(f"{home.host}/x", target, settings)).image == fake.image


def _leave_partial(store: ContentStore, digest: str, size: int, data: bytes) -> None:
    with store.ingest(digest, size) as writer:
        writer.write(data)
        raise ConnectionError


async def test_a_cancelled_pull_can_go_on(
    store: ContentStore, target: ContentStore, settings: RegistrySettings, tmp_path: Path
) -> None:
    layer = tarmaker.archive(tarmaker.file(b"f", os.urandom(3 << 20)))
    fake = Fake(store, imagebuild.make_image(store, [layer], compression="none"))
    ranges: list[str | None] = []
    go, arrived = threading.Event(), asyncio.Event()

    def stall(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        ranges.append(handler.headers.get("Range"))
        start = int((ranges[-1] or "bytes=0-")[6:-1])
        if start:
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            registry.reply(handler, 206, data[start:], headers)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: 2 << 20])
        go.wait(30)
        handler.close_connection = True

    def progress(message: dict[str, Any]) -> None:
        if message.get("status") == "Downloading":
            arrived.set()

    with registry.http_server(fake) as home:
        fake.blobs[_big(fake)] = stall
        task = asyncio.create_task(_pull(f"{home.host}/x", target, settings, progress=progress))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert not target.has(_big(fake))
        assert (await _pull(f"{home.host}/x", target, settings)).image == fake.image
    assert len(ranges) == 2
    assert ranges[1] is not None
    assert _tmp(tmp_path, "target") == []


PULL = """
import asyncio, sys
from pathlib import Path
from rootless.images import platform, reference
from rootless.images.content import ContentStore
from rootless.images.registry.pull import pull
from rootless.images.registry.settings import RegistrySettings
def progress(message):
    if message.get("status") == "Downloading":
        print("downloading", flush=True)
asyncio.run(
    pull(
        reference.parse(sys.argv[1]),
        ContentStore(Path(sys.argv[2])),
        RegistrySettings(docker_config=Path("/nonexistent")),
        wanted=platform.host(),
        progress=progress,
    )
)
"""


async def test_a_killed_pull_can_go_on(
    store: ContentStore, settings: RegistrySettings, tmp_path: Path, repository: Path
) -> None:
    layer = tarmaker.archive(tarmaker.file(b"f", os.urandom(3 << 20)))
    fake = Fake(store, imagebuild.make_image(store, [layer], compression="none"))
    ranges: list[str | None] = []
    go = threading.Event()

    def stall(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        ranges.append(handler.headers.get("Range"))
        start = int((ranges[-1] or "bytes=0-")[6:-1])
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if start:
            registry.reply(handler, 206, data[start:], headers)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: 2 << 20])
        go.wait(30)
        handler.close_connection = True

    with registry.http_server(fake) as home:
        fake.blobs[_big(fake)] = stall
        name, place = f"{home.host}/x", tmp_path / "killed"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PULL, name, str(place),
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(repository)},
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"downloading\n"
        process.kill()
        await process.wait()
        go.set()
        target = ContentStore(place)
        assert not target.has(_big(fake))
        assert len(_tmp(tmp_path, "killed")) == 1
        assert (await _pull(name, target, settings)).image == fake.image
    assert ranges[1] is not None
    assert int(ranges[1][6:-1]) >= 1 << 20
    assert _tmp(tmp_path, "killed") == []


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"{}", "text/html", "refused"),
        (b"[" * 10_000, manifests.OCI_MANIFEST, "refused"),
        (b" " * (5 << 20), manifests.OCI_MANIFEST, "larger than 4194304 bytes"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "", "version 1 is not supported"),
    ],
)
async def test_bad_manifests(
    target: ContentStore, settings: RegistrySettings, body: bytes, kind: str, message: str
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        registry.reply(handler, 200, body, {"Content-Type": kind} if kind else {})

    with registry.http_server(answer) as home:
        with pytest.raises(InvalidInput, match=message):
            await _pull(f"{home.host}/x", target, settings)
        with pytest.raises(InvalidInput, match=r"its content has digest|larger than"):
            await _pull(f"{home.host}/x@sha256:{'0' * 64}", target, settings)
    assert list(target.digests()) == []


async def test_an_error_page_as_large_as_one_likes(
    target: ContentStore, settings: RegistrySettings
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        ok = handler.path == "/v2/"
        registry.reply(handler, 200 if ok else 404, b"" if ok else b"\x1b[31m" * 100_000)

    with registry.http_server(answer) as home, pytest.raises(NotFound) as caught:
        await _pull(f"{home.host}/x", target, settings)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


async def test_mirrors_serve_docker_hub_and_see_no_credentials(
    fake: Fake, target: ContentStore, settings: RegistrySettings
) -> None:
    with registry.http_server(fake) as mirror:
        dead = f"http://127.0.0.1:{registry.free_port()}"
        mirrored = dataclasses.replace(settings, mirrors=(dead, f"http://{mirror.host}"))
        good = Credentials(USER, PASSWORD)
        pulled = await _pull("busybox", target, mirrored, credentials=good)
        assert pulled.image == fake.image
        assert {path for _, path, _ in mirror.seen} >= {"/v2/library/busybox/manifests/latest"}
        assert not any("Authorization" in headers for _, _, headers in mirror.seen)
        fake.wants = good.basic
        with pytest.raises(Unauthorized):
            await _pull("busybox", target, mirrored, credentials=good)


# TLS -------------------------------------------------------------------------------------


def _certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        "-subj /CN=tests -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    ).split()
    subprocess.run(words, capture_output=True, check=True, cwd=directory)
    return directory / "cert.pem", directory / "key.pem"


async def _get(endpoint: Endpoint, settings: RegistrySettings, path: str, **more: Any) -> int:
    async with Transport(settings, more.pop("credentials", None)) as transport:
        response = await transport.request(endpoint, "GET", path, scopes=())
        response.release()
        return int(response.status)


async def test_tls_needs_a_trusted_certificate(tmp_path: Path, settings: RegistrySettings) -> None:
    pair = _certificate(tmp_path)
    with registry.running(tmp_path / "registry", tls=pair) as running:
        checked = Endpoint("https", running.host, verify=True)
        with pytest.raises(Unavailable, match=r"self.signed certificate") as caught:
            await _get(checked, settings, "/v2/")
        assert "certs.d" in str(caught.value.hint)
        assert await _get(Endpoint("https", running.host, verify=False), settings, "/v2/") == 200
        folder = settings.certificate_dirs[0] / running.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(pair[0].read_bytes())
        assert await _get(checked, settings, "/v2/") == 200
        (folder / "ca.crt").write_text("nonsense")
        with pytest.raises(InvalidInput, match=r"cannot use certificate .*ca\.crt"):
            await _get(checked, settings, "/v2/")


async def test_https_never_redirects_to_http(tmp_path: Path, settings: RegistrySettings) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(Unavailable, match="redirect from https to http refused"):
            await _get(Endpoint("https", f"127.0.0.1:{port}", verify=False), settings, "/v2/")
    finally:
        server.close()
        await server.wait_closed()


async def test_a_token_server_without_tls_gets_no_password(
    tmp_path: Path, settings: RegistrySettings
) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with registry.http_server(lambda handler: registry.reply(handler, 200)) as thief:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = f'WWW-Authenticate: Bearer realm="http://{thief.host}/token"\r\n'
            writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n" + head.encode() + b"\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        try:
            with pytest.raises(Unauthorized, match="which is not https"):
                await _get(
                    Endpoint("https", f"127.0.0.1:{port}", verify=False),
                    settings,
                    "/v2/",
                    credentials=Credentials(USER, PASSWORD),
                )
        finally:
            server.close()
            await server.wait_closed()
        assert thief.seen == []
