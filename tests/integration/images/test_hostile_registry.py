"""Registries that mean harm: nothing they send costs more than its bound, or surprises anybody."""

from __future__ import annotations

import contextlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from rootless.errors import InvalidInput, RootlessError, Unauthorized, Unavailable
from rootless.images import manifest as manifests
from rootless.images import platform as platforms
from rootless.images.content import ContentStore, digest_of
from rootless.images.reference import parse
from rootless.images.registry import client, transport
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.pull import pull, tags_of
from rootless.images.registry.settings import RegistrySettings
from tests.support import imagebuild, registry, tarmaker

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    return RegistrySettings(
        docker_config=tmp_path / "config.json", certificate_dirs=(tmp_path,), retry_delay=0.001
    )


async def _pull(answer: registry.Answer, tmp_path: Path, settings: RegistrySettings) -> None:
    target = ContentStore(tmp_path / "target")
    with registry.http_server(answer) as home:
        await pull(parse(f"{home.host}/x"), target, settings, wanted=platforms.host())


def _behind_ping(answer: registry.Answer) -> registry.Answer:
    def both(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/v2/":
            registry.reply(handler, 200)
        else:
            answer(handler)

    return both


def _flood(handler: BaseHTTPRequestHandler, head: bytes, piece: bytes) -> None:
    with contextlib.suppress(OSError):  # until the other side hangs up
        handler.wfile.write(head)
        while True:
            handler.wfile.write(piece)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" " * 10_000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"", b"\x1b[31m\n" * 1000),
    ],
    ids=["headers", "a header", "body", "interim answers", "no HTTP"],
)
async def test_floods_end(
    tmp_path: Path,
    settings: RegistrySettings,
    monkeypatch: pytest.MonkeyPatch,
    head: bytes,
    piece: bytes,
) -> None:
    monkeypatch.setattr(transport, "_HEAD_SECONDS", 0.5)
    with pytest.raises((Unavailable, InvalidInput)) as caught:
        await _pull(_behind_ping(lambda h: _flood(h, head, piece)), tmp_path, settings)
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "place",
    ["file:///etc/passwd", "gopher://127.0.0.1/", "http+unix://%2Frun%2Fdocker.sock/x",
     "javascript:1", "http://[::1", "http://127.0.0.1:99999999/", "", "data:,x"],
)  # fmt: skip
async def test_redirects_to_nowhere(tmp_path: Path, settings: RegistrySettings, place: str) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        registry.reply(handler, 307, b"", {"Location": place})

    with pytest.raises(Unavailable, match="redirect"):
        await _pull(_behind_ping(answer), tmp_path, settings)


@pytest.mark.parametrize(
    "realm", ["file:///etc/passwd", "", "/x", "http://[", "http://127.0.0.1:99999999/", "\\" * 5000]
)
async def test_token_servers_that_are_none(
    tmp_path: Path, settings: RegistrySettings, realm: str
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        registry.reply(handler, 401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with pytest.raises(Unauthorized):
        await _pull(answer, tmp_path, settings)


async def test_a_token_server_that_sends_us_on_gets_no_follower(
    tmp_path: Path, settings: RegistrySettings
) -> None:
    """The password went to the realm alone."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.startswith("/token"):
            registry.reply(handler, 307, b"", {"Location": "/elsewhere"})
        else:
            place = f"http://{handler.headers['Host']}/token"
            registry.reply(handler, 401, b"", {"WWW-Authenticate": f'Bearer realm="{place}"'})

    with registry.http_server(answer) as home:
        with pytest.raises(Unauthorized, match="status 307"):
            await pull(
                parse(f"{home.host}/x"),
                ContentStore(tmp_path / "target"),
                settings,
                wanted=platforms.host(),
            )
        assert not any("elsewhere" in path for _, path, _ in home.seen)


async def test_beginning_anew_is_no_progress(tmp_path: Path, settings: RegistrySettings) -> None:
    """A byte, a cut, no resuming, a byte …: the attempts are counted."""
    store = ContentStore(tmp_path / "mine")
    image = imagebuild.make_image(store, [tarmaker.archive(tarmaker.file(b"f", b"x" * 50_000))])
    layer = image.layers[0].descriptor.digest
    attempts = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        digest = handler.path.rpartition("/")[2]
        if "/manifests/" in handler.path:
            data = store.read(image.manifest_digest, 1 << 20)
            registry.reply(handler, 200, data, {"Content-Type": image.manifest.media_type})
        elif digest != layer:
            registry.reply(handler, 200, store.read(digest, 1 << 20))
        elif "Range" in handler.headers:
            registry.reply(handler, 416)
        else:
            attempts.append(1)
            handler.send_response(200)
            handler.send_header("Content-Length", str(store.size(digest)))
            handler.end_headers()
            handler.wfile.write(store.read(digest, 1 << 20)[:1])
            handler.close_connection = True

    with pytest.raises(Unavailable):
        await _pull(_behind_ping(answer), tmp_path, settings)
    assert len(attempts) <= settings.attempts


async def test_lists_of_tags_without_end(
    settings: RegistrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MAX_TAGS", 5000)
    page = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal page
        page += 1
        body = json.dumps({"tags": [f"{page}-{i}" for i in range(1000)]}).encode()
        registry.reply(handler, 200, body, {"Link": '</v2/x/tags/list?last=z>; rel="next"'})

    with (
        registry.http_server(_behind_ping(answer)) as home,
        pytest.raises(InvalidInput, match="more than 5000"),
    ):
        await tags_of(parse(f"{home.host}/x"), settings, None)
    assert page == 6


@pytest.mark.parametrize("size", [-1, 1 << 62, 1 << 63, 1 << 70, 1e300])
async def test_sizes_no_blob_has(tmp_path: Path, settings: RegistrySettings, size: float) -> None:
    store = ContentStore(tmp_path / "mine")
    image = imagebuild.make_image(store, [tarmaker.archive(tarmaker.file(b"f", b"x"))])
    body = json.loads(store.read(image.manifest_digest, 1 << 20))
    body["layers"][0]["size"] = size

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "/manifests/" in handler.path:
            data = json.dumps(body).encode()
            registry.reply(handler, 200, data, {"Content-Type": manifests.OCI_MANIFEST})
        else:
            data = store.read(handler.path.rpartition("/")[2], 1 << 20)
            registry.reply(handler, 200, data)

    with pytest.raises(RootlessError):
        await _pull(_behind_ping(answer), tmp_path, settings)
    assert not list((tmp_path / "target/blobs/sha256").glob("*")) or size > 0


@pytest.mark.parametrize("status", [404, 500, 401])
async def test_error_pages_without_end(
    tmp_path: Path, settings: RegistrySettings, status: int
) -> None:
    head = f"HTTP/1.1 {status} No\r\nWWW-Authenticate: Basic\r\n\r\n".encode()
    with pytest.raises(RootlessError) as caught:
        await _pull(_behind_ping(lambda h: _flood(h, head, b"x" * 10_000)), tmp_path, settings)
    assert len(caught.value.message) < 1000


async def test_a_token_without_end(tmp_path: Path, settings: RegistrySettings) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.startswith("/token"):
            _flood(handler, b'HTTP/1.1 200 OK\r\n\r\n{"token":"', b"x" * 10_000)
        else:
            place = f"http://{handler.headers['Host']}/token"
            registry.reply(handler, 401, b"", {"WWW-Authenticate": f'Bearer realm="{place}"'})

    with pytest.raises(InvalidInput, match="token refused: it is larger"):
        await _pull(answer, tmp_path, settings)


@pytest.mark.parametrize("asks", [True, False])
async def test_who_we_were_sent_to_learns_nothing(
    tmp_path: Path, settings: RegistrySettings, *, asks: bool
) -> None:
    """A redirect's target that asks for credentials, or names a token server, gets neither."""
    secret = Credentials("alice", "secret")

    def other(handler: BaseHTTPRequestHandler) -> None:
        place = f"http://{handler.headers['Host']}/token"
        registry.reply(handler, 401, b"", {"WWW-Authenticate": f'Bearer realm="{place}"'})

    with registry.http_server(other) as elsewhere:

        def home(handler: BaseHTTPRequestHandler) -> None:
            if asks and handler.headers.get("Authorization") != secret.basic:
                registry.reply(handler, 401, b"", {"WWW-Authenticate": "Basic"})
            else:
                registry.reply(handler, 307, b"", {"Location": f"http://{elsewhere.host}/there"})

        with registry.http_server(_behind_ping(home)) as here, pytest.raises(Unauthorized):
            await pull(
                parse(f"{here.host}/x"),
                ContentStore(tmp_path / "target"),
                settings,
                wanted=platforms.host(),
                credentials=secret,
            )
        assert [path for _, path, _ in elsewhere.seen] == ["/there"]
        assert "Authorization" not in elsewhere.seen[0][2]


def _index(entries: list[dict[str, object]]) -> bytes:
    body = {"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": entries}
    return json.dumps(body).encode()


async def test_indexes_that_nest_lie_or_grow(tmp_path: Path, settings: RegistrySettings) -> None:
    here = platforms.host()
    platform = {"os": here.os, "architecture": here.architecture}
    inner = _index([])

    def entry(size: int) -> dict[str, object]:
        kind, digest = manifests.OCI_MANIFEST, digest_of(inner)
        return {"mediaType": kind, "digest": digest, "size": size, "platform": platform}

    for body, message in (
        (_index([entry(len(inner) + 1)]), "another size than its index says"),
        (_index([entry(len(inner))]), r"does not fit|served as|index inside"),
        (_index([entry(1)] * 5000), "more than 4096 entries"),
    ):

        def answer(handler: BaseHTTPRequestHandler, body: bytes = body) -> None:
            asked = handler.path.rpartition("/")[2]
            data = inner if asked == digest_of(inner) else body
            registry.reply(handler, 200, data, {"Content-Type": manifests.OCI_INDEX})

        with pytest.raises(InvalidInput, match=message):
            await _pull(_behind_ping(answer), tmp_path, settings)


async def test_a_config_as_large_as_one_likes(tmp_path: Path, settings: RegistrySettings) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "/manifests/" not in handler.path:
            _flood(handler, b"HTTP/1.1 200 OK\r\n\r\n", b" " * 10_000)
            return
        config = {"mediaType": manifests.OCI_CONFIG, "digest": f"sha256:{'0' * 64}"}
        body = {"schemaVersion": 2, "config": {**config, "size": 1 << 40}, "layers": []}
        data = json.dumps(body).encode()
        registry.reply(handler, 200, data, {"Content-Type": manifests.OCI_MANIFEST})

    with pytest.raises(InvalidInput, match="image config refused"):
        await _pull(_behind_ping(answer), tmp_path, settings)
