"""HTTP/1.1 over a Unix socket: just what the Engine API needs.

One ``Connection`` carries any number of requests one after another
(keep-alive) and can be handed over as a raw byte stream after
``101 Switching Protocols`` ("hijacked" in Docker's words).
"""

from __future__ import annotations

import errno
from _socket import AF_UNIX, SHUT_RDWR, SHUT_WR, SOCK_CLOEXEC, SOCK_STREAM
from _socket import socket as RawSocket

from rootless.client import jsonlite
from rootless.client import lightos as os
from rootless.errors import InvalidInput, RootlessError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

API = "/v1.51"
CHUNK = 256 * 1024
HEAD_LIMIT = 64 * 1024


class ApiError(RootlessError):
    """The daemon answered with a status of 400 or more."""

    code = "api"

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class BrokenReply(Unavailable):
    """The daemon's answer is cut short or is not HTTP."""


class Connection:
    """One connection to the daemon's socket.

    ``sock`` is one that is connected already; ``trouble`` is where its carrier writes why it
    ended. ``headers`` are lines that go into the head of every request.
    """

    __slots__ = ("_buffer", "_trouble", "headers", "path", "sock")

    def __init__(
        self, path: str, sock: RawSocket | None = None, trouble: list[str] | None = None
    ) -> None:
        self.path = path
        self.headers = ""
        self._buffer = b""
        self._trouble = trouble
        if sock is not None:
            self.sock = sock
            return
        self.sock = RawSocket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
        try:
            self.sock.connect(path)
        except BaseException:
            self.sock.close()
            raise

    def close(self) -> None:
        """Close at once; both directions end."""
        self.sock.close()

    def send(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        upload: Iterable[bytes | memoryview] | None = None,
    ) -> None:
        """Write one request. ``body`` is encoded as JSON; ``upload`` goes out in chunks."""
        lines = [f"{method} {API}{target} HTTP/1.1\r\nHost: rootless\r\nUser-Agent: rootless\r\n"]
        lines.append(self.headers)
        lines.extend([f"{name}: {value}\r\n" for name, value in headers])
        payload = b""
        if upload is not None:
            lines.append("Transfer-Encoding: chunked\r\n")
        elif body is not None:
            text = jsonlite.dumps(body)
            if "\\udc" in text:  # half of a pair, or a byte of an argument that is no text
                _check_text(body)
            payload = text.encode()
            lines.append(f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n")
        elif method != "GET":
            lines.append("Content-Length: 0\r\n")
        lines.append("\r\n")
        self.sock.sendall("".join(lines).encode() + payload)
        if upload is not None:
            self._send_chunks(upload)

    def _send_chunks(self, upload: Iterable[bytes | memoryview]) -> None:
        send = self.sock.sendall
        try:
            for piece in upload:
                if len(piece):
                    send(b"%x\r\n" % len(piece))
                    send(piece)
                    send(b"\r\n")
            send(b"0\r\n\r\n")
        except OSError as error:
            # The daemon may refuse early and close; its answer says why and is read next.
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def response(self) -> Response:
        """Read one response's head; the body is read through the result."""
        while True:
            status, headers = self._read_head()
            if status >= 200 or status == 101:
                return Response(self, status, headers)

    def _read_head(self) -> tuple[int, dict[str, str]]:
        data = self._buffer
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > HEAD_LIMIT:
                raise BrokenReply("the daemon's answer has endless headers")
            piece = self._receive()
            if not piece:
                if self._trouble:
                    raise BrokenReply(self._trouble[0])
                if not data:
                    raise BrokenReply(
                        "the daemon closed the connection without an answer",
                        hint="see the daemon's log, or run `rootless doctor`",
                    )
                raise BrokenReply("the daemon's answer ends inside its headers")
            data += piece
        self._buffer = data[end + 4 :]
        first, *rest = data[:end].decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise BrokenReply(
                f"{self.path} does not speak HTTP (it said {first[:40]!r})",
                hint="is another program listening on this socket?",
            )
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(words[1]), headers

    def _receive(self, size: int = CHUNK) -> bytes:
        try:
            return self.sock.recv(size)
        except OSError as error:
            if error.errno == errno.ECONNRESET:
                return b""
            raise

    def take(self, size: int) -> bytes:
        """Up to ``size`` bytes, what is buffered first; empty at the end."""
        if self._buffer:
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            return piece
        return self._receive(size)

    def take_line(self) -> bytes:
        """One line without its end."""
        data = self._buffer
        while (end := data.find(b"\n")) < 0:
            piece = self._receive()
            if not piece:
                raise BrokenReply("the daemon's answer is cut short")
            data += piece
        self._buffer = data[end + 1 :]
        return data[:end].rstrip(b"\r")

    def leftover(self) -> bytes:
        """Bytes that came after the head, given away once (for a hijacked stream)."""
        data, self._buffer = self._buffer, b""
        return data

    def shutdown_write(self) -> None:
        """Half-close: the peer sees the end of our input."""
        try:
            self.sock.shutdown(SHUT_WR)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EPIPE):
                raise

    def shutdown(self) -> None:
        """End both directions, also for a thread that is blocked reading."""
        try:
            self.sock.shutdown(SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise


class Response:
    """Status and headers of one answer, and its body as a stream."""

    __slots__ = ("_chunk_left", "_done", "_left", "connection", "headers", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self._chunk_left = 0
        self._done = status in (204, 304, 101)
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._left: int | None = -1
        elif (length := headers.get("content-length")) is not None:
            if not length.isdigit():
                raise BrokenReply("the daemon sent a malformed Content-Length")
            self._left = int(length)
        else:
            self._left = None  # until the connection closes

    @property
    def reusable(self) -> bool:
        """True once the body is read and the connection may carry another request."""
        closing = self.headers.get("connection", "").lower() == "close"
        return self._done and not closing and self._left is not None and self.status != 101

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece as it arrives."""
        while not self._done:
            if self._left == -1:
                piece = self._chunked()
            elif self._left is None:
                piece = self.connection.take(CHUNK)
            else:
                piece = self.connection.take(min(CHUNK, self._left)) if self._left else b""
                if not piece and self._left:
                    raise BrokenReply("the daemon's answer is cut short")
                self._left -= len(piece)
            if not piece:
                self._done = True
                return
            yield piece

    def _chunked(self) -> bytes:
        connection = self.connection
        if not self._chunk_left:
            line = connection.take_line().partition(b";")[0].strip()
            try:
                self._chunk_left = int(line, 16)
            except ValueError:
                raise BrokenReply("the daemon sent a malformed chunk") from None
            if not self._chunk_left:
                while connection.take_line():
                    pass  # trailers
                return b""
        piece = connection.take(min(CHUNK, self._chunk_left))
        if not piece:
            raise BrokenReply("the daemon's answer is cut short")
        self._chunk_left -= len(piece)
        if not self._chunk_left:
            connection.take_line()
        return piece

    def read(self) -> bytes:
        """The rest of the body."""
        return b"".join(self.chunks())

    def json(self) -> Any:
        """The body as JSON; ``None`` when it is empty."""
        data = self.read()
        if not data.strip():
            return None
        try:
            return jsonlite.loads(data)
        except (ValueError, RecursionError):
            raise BrokenReply("the daemon's answer is not JSON") from None

    def documents(self) -> Iterator[Any]:
        """A stream of JSON documents, each given as soon as it is complete."""
        rest = ""
        tail = b""
        for piece in self.chunks():
            text, tail = _decode(tail + piece)
            rest += text
            while rest.strip():
                try:
                    value, rest = jsonlite.loads_prefix(rest)
                except ValueError:
                    break
                yield value
        if rest.strip():
            raise BrokenReply("the daemon's answer ends inside a JSON document")

    def check(self) -> Response:
        """Raise ``ApiError`` when the status says so; otherwise return self."""
        if self.status < 400:
            return self
        raise error_from(self.status, self.read())


def _check_text(value: object) -> None:
    """Refuse bytes that are no UTF-8: JSON has no way to write them (RFC 8259, section 8.1)."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_text(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_text(item)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            shown = repr(value.encode("utf-8", "surrogateescape"))[1:]
            raise InvalidInput(
                f"not UTF-8: {shown}", hint="the daemon's API takes text only"
            ) from None


def _decode(data: bytes) -> tuple[str, bytes]:
    """Decode UTF-8, leaving an incomplete character at the end for later."""
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return data[: error.start].decode(), data[error.start :]
        return data.decode("utf-8", "replace"), b""


def error_from(status: int, body: bytes) -> ApiError:
    """The daemon's message (``{"message": …}``, and our ``hint``) as an exception."""
    message, hint = "", None
    try:
        document = jsonlite.loads(body)
        if isinstance(document, dict):
            message = str(document.get("message", ""))
            hint = document.get("hint") or None
    except (ValueError, RecursionError):
        message = body.decode("utf-8", "replace").strip().partition("\n")[0][:200]
    head, mark, tail = message.rpartition(" (hint: ")
    if mark and tail.endswith(")"):
        message, hint = head, hint or tail[:-1]
    return ApiError(status, message or f"the daemon answered with status {status}", hint=hint)


def quote(text: object, safe: str = "") -> str:
    """Percent-encode for a path or a query (RFC 3986)."""
    out = []
    for byte in str(text).encode("utf-8", "surrogateescape"):
        char = chr(byte)
        if byte < 128 and (char.isalnum() or char in "-._~" or char in safe):
            out.append(char)
        else:
            out.append(f"%{byte:02X}")
    return "".join(out)


def query(**values: object) -> str:
    """``?a=1&b=x``; None is left out, booleans become 1 and 0, lists repeat, dicts are JSON."""
    parts = []
    for name, value in values.items():
        if value is None:
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, bool):
                text = "1" if item else "0"
            elif isinstance(item, dict):
                text = jsonlite.dumps(item)
            else:
                text = str(item)
            parts.append(f"{name}={quote(text)}")
    return "?" + "&".join(parts) if parts else ""


def read_file(fd: int, size: int = CHUNK) -> Iterator[bytes]:
    """A descriptor's content for an upload."""
    while piece := os.read(fd, size):
        yield piece
