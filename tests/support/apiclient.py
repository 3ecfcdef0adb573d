"""Plain HTTP to an engine's socket, for tests of the API itself."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Docker's error text."""
        return str(self.json()["message"])


def request(path: Path, method: str, target: str, body: Any = None, **headers: str) -> Answer:
    """One request on a connection of its own; ``body`` is JSON unless it is bytes.

    ``_`` in the names of headers becomes ``-``.
    """
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body
    if body is not None and not isinstance(body, bytes):
        data = json.dumps(body).encode()
        names.setdefault("Content-Type", "application/json")
    connection = UnixConnection(path)
    try:
        connection.request(method, target, body=data, headers=names)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()
