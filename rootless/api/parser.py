"""Request heads and bodies: aiohttp's pure-Python parser with bounds and rules of its own.

* Heads are bounded as a whole, not only line by line.
* What is no HTTP/1 request for a path of this server (another version, a proxy's
  ``CONNECT``, bytes that are no text) is refused before anything looks at it.
* After a body that cannot be read nothing is taken for another request.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import HttpRequestParserPy
from multidict import CIMultiDict, CIMultiDictProxy

MAX_LINE = 64 << 10
"""Longest request line or header: X-Registry-Auth carries whole tokens."""
MAX_HEAD = 1 << 20
"""Bytes of request line and headers together, as Go's server has it."""
_MAX_LENGTH_DIGITS = 18
"""Of a Content-Length: an exbibyte has 19, and Python converts no number of 5000."""

_HIJACKABLE = re.compile(r"(?:/v\d+\.\d+)?/(?:containers/[^/?]+/attach|exec/[^/?]+/start)(?:\?|$)")


class Refused(BadHttpMessage):
    """A head that is not served, with the status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.code = status


class RequestParser(HttpRequestParserPy):
    """Also stops parsing behind the head of a request that will be hijacked.

    Clients may leave ``Upgrade: tcp`` out and still send raw bytes after the
    body; without the header those bytes would be read as another request. A
    declined upgrade (``exec`` with Detach) makes aiohttp parse them again.
    """

    broken = False
    """A body could not be read: what follows it is of no known meaning."""

    @property
    def inside_head(self) -> bool:
        """Some of a request's head has come, but not all."""
        return bool(self._lines or self._tail) and self._payload_parser is None

    def feed_data(self, data: bytes, *rest: Any, **named: Any) -> Any:
        """Messages, whether the last one upgrades, and what follows that."""
        if self.broken:
            return [], False, b""
        body: Any = self._payload_parser
        try:
            found = super().feed_data(data, *rest, **named)
        except BadHttpMessage:
            self.broken = True
            raise
        for payload in (body.payload if body else None, *(payload for _, payload in found[0])):
            if payload is not None and payload.exception() is not None:
                self.broken = True
        if self._lines and sum(map(len, self._lines)) + len(self._tail) > MAX_HEAD:
            self.broken = True
            raise Refused(431, f"the request's head is larger than {MAX_HEAD >> 10} KiB")
        return found

    def parse_message(self, lines: list[bytes]) -> Any:
        """One request head."""
        if sum(map(len, lines)) > MAX_HEAD:
            raise Refused(431, f"the request's head is larger than {MAX_HEAD >> 10} KiB")
        message = super().parse_message(lines)
        if message.version.major != 1:
            raise Refused(505, "unsupported HTTP version: this server speaks HTTP/1.1")
        if message.method == "CONNECT":
            raise Refused(400, "this server is no proxy")
        if not message.path.isascii() and not _is_text(message.path):
            raise Refused(400, "the path must be UTF-8")
        if len(message.headers.get("Content-Length", "")) > _MAX_LENGTH_DIGITS:
            raise Refused(413, "Content-Length is too large")
        if message.url.absolute:
            # The target names the host, whatever Host says (RFC 9112, section 3.2.2).
            headers = CIMultiDict(message.headers)
            headers["Host"] = message.url.authority
            message = message._replace(
                path=message.url.raw_path_qs,
                url=message.url.relative(),
                headers=CIMultiDictProxy(headers),
            )
        if message.method != "POST" or _HIJACKABLE.match(message.path) is None:
            return message
        headers = CIMultiDict(message.headers)
        headers["X-Rootless-Upgrade"] = "1" if message.upgrade else "0"
        headers["Upgrade"] = "tcp"
        return message._replace(headers=CIMultiDictProxy(headers), upgrade=True)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 were decoded to lone surrogates
        return False
    return True
