"""The json-file log driver: Docker's format, written by the shim itself.

One JSON object a line, ``{"log":"…\\n","stream":"stdout","time":"RFC 3339 with
nanoseconds"}``. A line longer than 16 KiB is written in parts, of which only
the last ends in a newline, as Docker does.
"""

from __future__ import annotations

import os
import time
from json.encoder import encode_basestring

_PART = 16 << 10
_NAMES = {1: "stdout", 2: "stderr"}


def timestamp(now_ns: int) -> str:
    """RFC 3339 in UTC with nine decimals."""
    seconds, rest = divmod(now_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class JsonLog:
    """Appends to ``path`` and rotates: ``path.1`` is the youngest of the old files."""

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max(1, max_files)
        self._rest: dict[int, bytes] = {}
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, stream: int, data: bytes) -> None:
        """Log ``data`` of ``stream``; an unfinished line waits for its end."""
        rest = self._rest.pop(stream, b"")
        lines = (rest + data).split(b"\n") if rest else data.split(b"\n")
        last = lines.pop()
        parts: list[tuple[bytes, str]] = []
        for line in lines:
            head = line
            while len(head) > _PART:
                parts.append((head[:_PART], ""))
                head = head[_PART:]
            parts.append((head, "\\n"))
        while len(last) > _PART:
            parts.append((last[:_PART], ""))
            last = last[_PART:]
        if last:
            self._rest[stream] = last
        if parts:
            self._append(stream, parts)

    def _append(self, stream: int, parts: list[tuple[bytes, str]]) -> None:
        end = f'","stream":"{_NAMES[stream]}","time":"{timestamp(time.time_ns())}"}}\n'
        text = "".join(
            '{"log":' + encode_basestring(part.decode("utf-8", "replace"))[:-1] + newline + end
            for part, newline in parts
        )
        raw = text.encode("utf-8", "replace")
        if self._max_size and self._size and self._size + len(raw) > self._max_size:
            self._rotate()
        try:
            written = os.write(self._fd, raw)
            while written < len(raw):
                written += os.write(self._fd, raw[written:])
        except OSError:
            # A full disk must not stop the container; what could not be logged is lost.
            return
        self._size += len(raw)

    def _rotate(self) -> None:
        os.close(self._fd)
        if self._max_files == 1:
            os.unlink(self._path)
        for index in range(self._max_files - 1, 0, -1):
            older = f"{self._path}.{index}"
            newer = self._path if index == 1 else f"{self._path}.{index - 1}"
            if os.path.exists(newer):
                os.replace(newer, older)
        self._fd = self._open()
        self._size = 0

    def close(self) -> None:
        """Write unfinished lines as they are and close the file."""
        for stream, rest in sorted(self._rest.items()):
            self._append(stream, [(rest, "")])
        self._rest.clear()
        os.close(self._fd)
