"""A client that speaks HTTP byte by byte, so that tests see what is on the wire."""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass
class Answer:
    """One answer; header names in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Docker's error text."""
        return str(self.json()["message"])


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: str) -> Client:
        """Connect to a Unix socket."""
        return cls(*await asyncio.open_unix_connection(path, limit=1 << 20))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close both halves."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        """Write one request; ``body`` is JSON unless it is bytes. ``_`` in names becomes ``-``."""
        self.writer.write(head(method, path, body, **headers))

    async def read_head(self) -> Answer:
        """The head of an answer."""
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw.rstrip().split("\r\n")
        _, status, *reason = first.split(" ", 2)
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        return Answer(int(status), " ".join(reason), headers)

    async def read_chunk(self) -> bytes:
        """One chunk of a chunked body; b'' at its end."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def read_answer(self, method: str = "GET") -> Answer:
        """A whole answer."""
        answer = await self.read_head()
        if method == "HEAD" or answer.status in (204, 304):
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            chunks = []
            while chunk := await self.read_chunk():
                chunks.append(chunk)
            answer.body = b"".join(chunks)
        elif "content-length" in answer.headers:
            answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
        return answer

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and read its answer."""
        self.send(method, path, body, **headers)
        return await self.read_answer(method)

    async def read_frame(self) -> tuple[int, bytes]:
        """One frame of the multiplexed stream; (0, b'') at its end."""
        try:
            stream, size = struct.unpack(">BxxxI", await self.reader.readexactly(8))
        except asyncio.IncompleteReadError:
            return 0, b""
        return stream, await self.reader.readexactly(size)

    async def read_frames(self) -> dict[int, bytes]:
        """All that comes until the end, by stream."""
        found: dict[int, bytes] = {}
        while True:
            stream, data = await self.read_frame()
            if not stream:
                return found
            found[stream] = found.get(stream, b"") + data


def head(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """The bytes of one request."""
    names = {"Host": "localhost"} | {k.replace("_", "-"): v for k, v in headers.items()}
    data = b""
    if isinstance(body, bytes):
        data = body
    elif body is not None:
        data = json.dumps(body).encode()
        names.setdefault("Content-Type", "application/json")
    if data:
        names.setdefault("Content-Length", str(len(data)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in names.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data
