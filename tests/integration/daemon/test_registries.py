"""The settings of registries, seen by registries that count."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest

from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine, new_engine
from tests.support.registry import http_server, reply

pytestmark = pytest.mark.integration
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Stubborn:
    """A registry whose layers never come, and that takes no upload; it counts tries at once."""

    def __init__(self, layers: int, *, expected: int) -> None:
        """``expected`` are waited for; more are given a moment to come."""
        self.expected = expected
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "config": {},
             "rootfs": {"type": "layers", "diff_ids": [_digest(b"%d" % n) for n in range(layers)]}}
        ).encode()  # fmt: skip
        self.config = config
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": _digest(config), "size": len(config),
                },
                "layers": [
                    {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                     "digest": _digest(b"layer %d" % number), "size": 7}
                    for number in range(layers)
                ],
            }
        ).encode()  # fmt: skip
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.tries: dict[str, int] = {}

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = handler.path
        if "/manifests/" in path and handler.command != "PUT":
            names = {"Content-Type": MANIFEST, "Docker-Content-Digest": _digest(self.manifest)}
            reply(handler, 200, self.manifest, names)
        elif path.endswith(_digest(self.config)) and handler.command == "GET":
            reply(handler, 200, self.config)
        elif "/blobs/" in path and handler.command in ("GET", "POST"):
            self._hold(path)
            reply(handler, 500)
        else:
            reply(handler, 404 if "/blobs/" in path else 200)

    def _hold(self, path: str) -> None:
        """Count who is here; stay long enough for all others that may come."""
        with self.lock:
            self.tries[path] = self.tries.get(path, 0) + 1
            self.now += 1
            self.most = max(self.most, self.now)
        deadline = time.monotonic() + 20
        while self.most < self.expected and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("limit", [1, 3])
def test_downloads_at_once_and_attempts(limit: int) -> None:
    registry = Stubborn(layers=5, expected=limit)
    with (
        http_server(registry) as server,
        new_engine(max_concurrent_downloads=limit, max_download_attempts=2) as engine,
    ):
        assert engine.run("pull", f"{server.host}/x").returncode != 0
        assert registry.most == limit
        assert max(registry.tries.values()) == 2
        engine.configure(max_concurrent_downloads=2, max_download_attempts=1)
        assert engine.daemon is not None
        with Api(engine).stream("GET", "/events", filters={"type": ["daemon"]}) as events:
            engine.daemon.send_signal(signal.SIGHUP)
            next(events)
        until(lambda: not registry.now)  # those that the client gave up on
        registry.most, registry.tries, registry.expected = 0, {}, 2
        assert engine.run("pull", f"{server.host}/x").returncode != 0
        assert registry.most == 2
        assert max(registry.tries.values()) == 1


def _layered(engine: Engine, layers: int) -> str:
    """An image with some layers more than the built-in one."""
    name = IMAGE
    for number in range(layers):
        engine.ok("run", "--name", "step", name, "touch", f"/file{number}")
        name = f"layered:{number}"
        engine.ok("commit", "step", name)
        engine.ok("rm", "step")
    return name


@pytest.mark.parametrize("limit", [1, 2])
def test_uploads_at_once(limit: int) -> None:
    registry = Stubborn(layers=1, expected=limit)
    with http_server(registry) as server, new_engine(max_concurrent_uploads=limit) as engine:
        target = f"{server.host}/layered:1"
        engine.ok("tag", _layered(engine, 3), target)
        assert engine.run("push", target).returncode != 0
        assert registry.most == limit


def test_mirrors_proxies_and_insecure_registries() -> None:
    def nothing(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200 if handler.path == "/v2/" else 404)

    with http_server(nothing) as mirror, http_server(nothing) as proxy:
        address = f"http://{proxy.host}"
        with new_engine(
            registry_mirrors=[f"http://{mirror.host}"],
            insecure_registries=["plain.invalid"],
            proxies={"http-proxy": address, "https-proxy": address, "no-proxy": "direct.invalid"},
            max_download_attempts=1,
        ) as engine:
            assert engine.run("pull", "hubimage").returncode != 0
            asked = [path for _, path, _ in mirror.seen]
            assert "/v2/library/hubimage/manifests/latest" in asked, "registry-mirrors"
            assert ("CONNECT", "registry-1.docker.io:443") in _lines(proxy.seen), "https-proxy"
            assert engine.run("pull", "plain.invalid/x").returncode != 0
            plain = "http://plain.invalid/v2/"
            assert any(path.startswith(plain) for _, path, _ in proxy.seen), (
                "insecure-registries lets it go on without TLS, http-proxy says where"
            )
            assert engine.run("pull", "secure.invalid/x").returncode != 0
            assert ("CONNECT", "secure.invalid:443") in _lines(proxy.seen)
            assert not any("http://secure.invalid" in path for _, path, _ in proxy.seen)
            engine.run("pull", "direct.invalid/x")
            assert not any("direct.invalid" in path for _, path, _ in proxy.seen), "no-proxy"


def _lines(seen: list[tuple[str, str, dict[str, str]]]) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in seen]


def test_layers_larger_than_allowed_are_refused() -> None:
    with new_engine(max_layer_size="4k") as engine:
        made = engine.run("run", "--rm", IMAGE, "true")
        assert made.returncode != 0
        assert "4096" in made.stderr or "4 KiB" in made.stderr or "larger" in made.stderr
