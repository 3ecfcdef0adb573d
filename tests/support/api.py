"""Requests to an engine's API as JSON, for what no client shows."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from tests.support.engine import Engine

IMAGE = "rootless/busybox"
T = TypeVar("T")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; ``seconds`` bound every wait."""

    def __init__(self, path: str, *, seconds: float = 60.0) -> None:
        super().__init__("localhost", timeout=seconds)
        self.path = path

    def connect(self) -> None:
        """To the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    """``api("GET", "/containers/json", all=1)`` is (status, decoded body).

    ``headers`` go with every request.
    """

    def __init__(self, engine: Engine, headers: Mapping[str, str] | None = None) -> None:
        self.engine = engine
        self.headers = {"Content-Type": "application/json", **(headers or {})}

    def connection(self) -> http.client.HTTPConnection:
        """A new connection to the engine."""
        return UnixConnection(str(self.engine.socket))

    def __call__(
        self, method: str, path: str, body: object = None, /, **query: object
    ) -> tuple[int, Any]:
        """One request. A body of bytes is sent as it is; lists in a query are JSON."""
        status, _, data = self.raw(method, path, body, **query)
        return status, json.loads(data) if data else None

    def raw(
        self, method: str, path: str, body: object = None, /, **query: object
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """(status, headers, body)."""
        connection = self.connection()
        words = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in query.items()}
        if words:
            path = f"{path}?{urlencode(words)}"
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body)
            connection.request(method, path, data, self.headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: object = None, /, **query: object) -> Any:
        """The body of a request that must succeed."""
        status, found = self(method, path, body, **query)
        assert status < 400, (method, path, status, found)
        return found

    def refused(self, method: str, path: str, body: object = None, /, **query: object
                ) -> tuple[int, str]:  # fmt: skip
        """Status and message of a request that must not succeed."""
        status, found = self(method, path, body, **query)
        assert status >= 400, (method, path, status, found)
        return status, str(found["message"])

    def create(self, *command: str, name: str = "", image: str = IMAGE, **config: object) -> str:
        """A container without a network unless ``HostConfig`` says one; its id."""
        host = {"NetworkMode": "none", **dict(config.pop("HostConfig", {}))}  # type: ignore[call-overload]  # HostConfig is a mapping
        body = {"Image": image, "Cmd": list(command), **config, "HostConfig": host}
        query = {"name": name} if name else {}
        return str(self.ok("POST", "/containers/create", body, **query)["Id"])

    def run(self, *command: str, name: str = "", **config: object) -> str:
        """A container that was started; its id."""
        made = self.create(*command, name=name, **config)
        self.ok("POST", f"/containers/{made}/start")
        return made

    def state(self, ref: str) -> dict[str, Any]:
        """``State`` of an inspect."""
        return dict(self.ok("GET", f"/containers/{ref}/json")["State"])

    def remove(self, *refs: str) -> None:
        """Remove containers with their anonymous volumes, whatever they do."""
        for ref in refs:
            self.ok("DELETE", f"/containers/{ref}", force=1, v=1)

    @contextmanager
    def stream(self, method: str, path: str, /, **query: object) -> Iterator[Iterator[Any]]:
        """JSON lines of an answer, while it comes."""
        connection = self.connection()
        words = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in query.items()}
        try:
            connection.request(method, f"{path}?{urlencode(words)}")
            answer = connection.getresponse()
            assert answer.status < 400, answer.read()
            yield (json.loads(line) for line in answer)
        finally:
            connection.close()


class TlsApi(Api):
    """Requests to ``localhost:port`` with a client's files, as ``pki.write`` makes them."""

    def __init__(self, engine: Engine, port: int, files: Path) -> None:
        super().__init__(engine)
        self.port = port
        self.context = ssl.create_default_context(cafile=str(files / "ca.pem"))
        self.context.load_cert_chain(files / "cert.pem", files / "key.pem")

    def connection(self) -> http.client.HTTPConnection:
        """A new connection, over TLS."""
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=60.0, context=self.context
        )


def until(check: Callable[[], T], *, seconds: float = 60.0) -> T:
    """What ``check`` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found
