"""Connections to an engine that become streams."""

from __future__ import annotations

import json
import socket
import struct
from urllib.parse import urlencode

from tests.support.engine import Engine

FRAME = struct.Struct(">BxxxI")
"""Head of Docker's multiplexed stream: number of the stream, length."""


class Hijacked:
    """A connection that became a stream."""

    def __init__(self, engine: Engine, path: str, body: object = None, **query: object) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(engine.socket))
        text = b"" if body is None else json.dumps(body).encode()
        self.sock.sendall(
            f"POST {path}?{urlencode(query)} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n"
            "Upgrade: tcp\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n".encode()
            + text
        )
        self._file = self.sock.makefile("rb", buffering=0)
        self.head = [self._line()]
        while self.head[-1]:
            self.head.append(self._line())

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._file.read(1) or b"\r\n"
        return line[:-2]

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.head[0].split()[1])

    def rest(self) -> bytes:
        """All until the daemon ends the stream."""
        found = []
        while data := self.sock.recv(1 << 16):
            found.append(data)
        return b"".join(found)

    def until(self, mark: bytes) -> bytes:
        """All up to ``mark`` and what came with it."""
        found = b""
        while mark not in found:
            data = self.sock.recv(1 << 16)
            assert data, found
            found += data
        return found


def unframed(data: bytes) -> bytes:
    """What Docker's frames hold, whatever the stream."""
    found, start = [], 0
    while start < len(data):
        _, size = FRAME.unpack_from(data, start)
        start += FRAME.size
        found.append(data[start : start + size])
        start += size
    return b"".join(found)
