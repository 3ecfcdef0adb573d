"""Debian's docker-registry on loopback, with the kinds of authentication registries have."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import select
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_START_SECONDS = 30


@dataclass(frozen=True)
class RunningRegistry:
    """``host`` is ``127.0.0.1:PORT``."""

    host: str
    storage: Path


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, tls: bool) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        connection.getresponse().read()
    except http.client.HTTPException:
        return tls  # a TLS server answers plain HTTP with an alert or an error
    except OSError:
        return False
    finally:
        connection.close()
    return True


@contextlib.contextmanager
def running(
    directory: Path,
    *,
    auth: dict[str, Any] | None = None,
    tls: tuple[Path, Path] | None = None,
    schema: dict[str, Any] | None = None,
) -> Iterator[RunningRegistry]:
    """``docker-registry serve`` with its storage below ``directory``.

    ``auth`` is the configuration's ``auth`` section, ``tls`` (certificate, key).
    """
    port = free_port()
    storage = directory / "storage"
    storage.mkdir(parents=True)
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "not-a-secret-test-only"},
        **(schema or {}),
    }
    if auth is not None:
        config["auth"] = auth
    if tls is not None:
        config["http"]["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
    file = directory / "config.yml"
    file.write_text(yaml.safe_dump(config))
    log = directory / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port, tls is not None):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry did not start: {log.read_text()[-2000:]}")
            select.select([], [], [], 0.02)
        yield RunningRegistry(f"127.0.0.1:{port}", storage)
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class HttpServer:
    """A small server in a thread; ``seen`` are (method, path, headers) of its requests."""

    host: str = ""
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def http_server(answer: Answer) -> Iterator[HttpServer]:
    """Serve ``answer`` on loopback; it writes the whole response itself."""
    record = HttpServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            record.seen.append((self.command, self.path, dict(self.headers)))
            answer(self)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = _do

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up is part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    record.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> None:
    """Write one whole response."""
    handler.send_response(status)
    for key, value in (headers or {}).items():
        handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@dataclass(frozen=True)
class TokenRealm:
    """A real token server: ``url`` and the certificate docker-registry trusts."""

    url: str
    auth: dict[str, Any]
    server: HttpServer


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.contextmanager
def token_realm(directory: Path, *, user: str, password: str) -> Iterator[TokenRealm]:
    """A token server (distribution's token specification) that signs with a key of its own.

    Pull is granted to everyone, push to ``user`` only.
    """
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    bundle = directory / "token.crt"
    bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()

    def token(scopes: list[str], granted: bool) -> str:
        access = []
        for scope in scopes:
            kind, path, actions = scope.split(":")
            wanted = actions.split(",")
            given = wanted if granted else [a for a in wanted if a == "pull"]
            access.append({"type": kind, "name": path, "actions": given})
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        stamp = int(time.time())
        claims = {
            "iss": "tests",
            "sub": user if granted else "",
            "aud": "registry",
            "exp": stamp + 300,
            "nbf": stamp - 60,
            "iat": stamp,
            "jti": "1",
            "access": access,
        }
        signed = f"{_segment(json.dumps(head).encode())}.{_segment(json.dumps(claims).encode())}"
        signature = key.sign(signed.encode(), PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_segment(signature)}"

    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        given = handler.headers.get("Authorization")
        if given is not None and given != expected:
            reply(handler, 401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong"}]}')
            return
        scopes = [part for value in query.get("scope", []) for part in value.split(" ")]
        body = json.dumps({"token": token(scopes, given is not None)}).encode()
        reply(handler, 200, body, {"Content-Type": "application/json"})

    with http_server(answer) as server:
        url = f"http://{server.host}/token"
        auth = {
            "token": {
                "realm": url,
                "service": "registry",
                "issuer": "tests",
                "rootcertbundle": str(bundle),
            }
        }
        yield TokenRealm(url, auth, server)


@contextlib.contextmanager
def cutting_proxy(target: str, allowance: Callable[[int], int | None]) -> Iterator[str]:
    """Forwards TCP to ``target`` and cuts connection N after ``allowance(N)`` response bytes."""
    counter = iter(range(1_000_000))
    host, _, port = target.partition(":")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            limit = allowance(next(counter))
            with socket.create_connection((host, int(port))) as upstream:
                _forward(self.request, upstream, limit)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _forward(client: socket.socket, upstream: socket.socket, limit: int | None) -> None:
    left = limit
    while True:
        ready, _, _ = select.select([client, upstream], [], [])
        if client in ready:
            data = client.recv(65536)
            if not data:
                return
            upstream.sendall(data)
        if upstream in ready:
            data = upstream.recv(65536)
            if not data:
                return
            if left is not None:
                data = data[:left]
                left -= len(data)
            client.sendall(data)
            if left == 0:
                return
