"""``rootlessd`` that also notes down what it answers.

Tests start the daemon through this module when they want every answer checked
against Docker's description (:mod:`tests.support.swagger`). The hook is here and
not in the daemon: :func:`main` wraps the one function every request goes through.

Each line of the file is a JSON array: method, path, status, content type, body.
Of a stream the beginning is kept; equal answers are written once, and of the answers
of one row with one status so many that a load test does not fill the disk.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

FILE = "ROOTLESS_TEST_RECORD"
"""Names the file; it is made when absent and written to its end."""
KEPT = 64 << 10
"""Bytes of a stream."""
EACH = 200
"""Answers of one row with one status."""


@dataclass
class Stream:
    """An answer that is written as it comes, and the beginning of its body."""

    response: Any = None
    data: bytearray = field(default_factory=bytearray)


_stream: ContextVar[Stream | None] = ContextVar("stream", default=None)


class Recorder:
    """Writes down answers."""

    def __init__(self, path: str) -> None:
        from rootless.api.router import Router
        from rootless.api.routes.table import ROUTES

        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._router = Router(ROUTES)
        self._seen: set[int] = set()
        self._count: Counter[tuple[str, str, int]] = Counter()

    def note(self, method: str, path: str, status: int, kind: str, body: bytes) -> None:
        """One answer."""
        bare = path.partition("/")[2]
        if bare.startswith("v") and bare[1:2].isdigit():
            bare = bare.partition("/")[2]
        found = self._router.find(method, f"/{bare}")
        if found is None:
            return
        row = (method, found[0].path, status)
        key = hash((row, body))
        if key in self._seen or self._count[row] >= EACH:
            return
        self._seen.add(key)
        self._count[row] += 1
        line = [method, f"/{bare}", status, kind, body.decode("utf-8", "surrogateescape")]
        os.write(self._file, json.dumps(line).encode() + b"\n")


def install(recorder: Recorder) -> None:
    """Wrap what the daemon answers with; before it makes its application."""
    from aiohttp.web_response import Response, StreamResponse

    from rootless.api.app import Api
    from rootless.api.hijack import Hijacked

    handle, write, write_eof = Api.handle, StreamResponse.write, StreamResponse.write_eof

    def keep(response: StreamResponse, data: Any) -> None:
        stream = _stream.get()
        if stream is not None:
            stream.response = response
            if len(stream.data) < KEPT:
                stream.data += data

    async def recorded_write(self: StreamResponse, data: Any) -> None:
        keep(self, data)
        await write(self, data)

    async def recorded_eof(self: StreamResponse, data: bytes = b"") -> None:
        if not isinstance(self, Response):
            keep(self, data)
        await write_eof(self, data)

    async def recorded(self: Api, request: Any) -> StreamResponse:
        stream = Stream()
        token = _stream.set(stream)
        answer: StreamResponse | None = None
        try:
            answer = await handle(self, request)
            return answer
        finally:
            _stream.reset(token)
            # A client that goes away ends a stream by cancelling it.
            answer = answer or stream.response
            if answer is not None and not isinstance(answer, Hijacked) and answer.status != 101:
                body = answer.body if isinstance(answer, Response) else bytes(stream.data)
                data = body if isinstance(body, bytes) else b""
                kind = answer.headers.get("Content-Type", "")
                recorder.note(request.method, request.path, answer.status, kind, data)

    Api.handle = recorded  # type: ignore[method-assign]  # the recorder goes in between
    StreamResponse.write = recorded_write  # type: ignore[method-assign]  # the recorder goes in between
    StreamResponse.write_eof = recorded_eof  # type: ignore[method-assign]  # the recorder goes in between


def main() -> int:
    """``rootlessd`` with its arguments."""
    from rootless.daemon.main import main as rootlessd

    os.environ.setdefault("AIOHTTP_NO_EXTENSIONS", "1")
    install(Recorder(os.environ.pop(FILE)))
    return rootlessd()


if __name__ == "__main__":
    sys.exit(main())
