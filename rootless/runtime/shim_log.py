"""The json-file log driver: Docker's format, written by the shim itself.

One JSON object a line, ``{"log":"…\\n","stream":"stdout","time":"RFC 3339 with
nanoseconds"}``. A line longer than 16 KiB is written in parts, of which only
the last ends in a newline, as Docker does.

Whatever was read at once is encoded at once, by a handful of searches through
the bytes instead of work per line: lines of a flood cost little more than
their bytes, and have one time stamp.
"""

from __future__ import annotations

import os
import time

_PART = 16 << 10
_NAMES = {1: b"stdout", 2: b"stderr"}
_SHORT = {8: b"\\b", 9: b"\\t", 12: b"\\f", 13: b"\\r", 0x22: b'\\"', 0x5C: b"\\\\"}
# RFC 8259, section 7: what a string must not contain as it is. The newline is
# left out: the end of a line is put there with all that follows it.
_ESCAPED = bytes(byte for byte in (*range(32), 0x22, 0x5C) if byte != 10)
_PLAIN = bytes(byte for byte in range(256) if byte not in _ESCAPED)
_HEAD = b'{"log":"'
_ZEROS = bytes(256)


def timestamp(now_ns: int) -> str:
    """RFC 3339 in UTC with nine decimals."""
    seconds, rest = divmod(now_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def escape(data: bytes) -> bytes:
    """``data`` as the inside of a JSON string, newlines left alone.

    What is not UTF-8 becomes U+FFFD, as in Docker's logs.
    """
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "replace").encode()
    found = set(data.translate(None, _PLAIN))
    if 0x5C in found:  # first: the other replacements bring new ones
        data = data.replace(b"\\", b"\\\\")
        found.discard(0x5C)
    if 0 in found:  # they come in runs: holes of files, disks
        data = data.replace(_ZEROS, b"\\u0000" * len(_ZEROS))
    for byte in found:
        data = data.replace(bytes((byte,)), _SHORT.get(byte) or b"\\u%04x" % byte)
    return data


def encode(data: bytes, tail: bytes) -> tuple[list[bytes], bytes]:
    """Log lines for ``data``, run together, and the unfinished line at its end.

    ``tail`` is what follows the text in each of them, from the closing quote on.
    """
    found: list[bytes] = []
    start, size = 0, len(data)
    while start < size:
        end = start
        while (newline := data.rfind(b"\n", end, end + _PART + 1)) >= 0:
            end = newline + 1
        if end > start:
            text = escape(data[start : end - 1])
            found += (_HEAD, text.replace(b"\n", b"\\n" + tail + _HEAD), b"\\n", tail)
            start = end
        if size - start <= _PART:
            break
        cut = start + _PART
        while cut > start + _PART - 4 and data[cut] & 0xC0 == 0x80:
            cut -= 1  # between characters: half of one would be no UTF-8
        found += (_HEAD, escape(data[start:cut]), tail)
        start = cut
    return found, data[start:]


class JsonLog:
    """Appends to ``path`` and rotates: ``path.1`` is the youngest of the old files."""

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max(1, max_files)
        self._rest: dict[int, bytes] = {}
        self._fd = self._open()
        self._size = os.lseek(self._fd, 0, os.SEEK_END)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @staticmethod
    def _tail(stream: int) -> bytes:
        now = timestamp(time.time_ns()).encode()
        return b'","stream":"' + _NAMES[stream] + b'","time":"' + now + b'"}\n'

    def write(self, stream: int, data: bytes) -> None:
        """Log ``data`` of ``stream``; an unfinished line waits for its end."""
        lines, rest = encode(self._rest.pop(stream, b"") + data, self._tail(stream))
        if rest:
            self._rest[stream] = rest
        if lines:
            self._append(b"".join(lines))

    def _append(self, lines: bytes) -> None:
        """Write whole lines, each to the file that has room for it."""
        if not self._max_size:
            self._write(lines)
            return
        start = 0
        while start < len(lines):
            room = max(0, self._max_size - self._size)
            end = len(lines)
            if end - start > room:
                end = lines.rfind(b"\n", start, start + room) + 1
                if not end and self._size:
                    self._rotate()
                    continue
                end = end or lines.find(b"\n", start) + 1  # longer than a whole file may be
            self._write(lines[start:end] if end - start < len(lines) else lines)
            start = end

    def _write(self, lines: bytes) -> None:
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, memoryview(lines)[written:])
        except OSError:
            # A full disk must not stop the container: what could not be logged is lost.
            self._size += written
            self._drop_half_line(lines[:written])
            return
        self._size += written

    def _drop_half_line(self, written: bytes) -> None:
        """Take back what would spoil the next line."""
        whole = self._size - len(written) + written.rfind(b"\n") + 1
        try:
            os.ftruncate(self._fd, whole)
        except OSError:
            return
        self._size = whole

    def _rotate(self) -> None:
        # Whatever fails, the container goes on, and is logged where it can be.
        self._size = 0
        try:
            if self._max_files == 1:
                os.unlink(self._path)
            for index in range(self._max_files - 1, 0, -1):
                older = f"{self._path}.{index}"
                newer = self._path if index == 1 else f"{self._path}.{index - 1}"
                if os.path.exists(newer):
                    os.replace(newer, older)
            fd = self._open()
        except OSError:
            return
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Write unfinished lines as they are and close the file."""
        for stream, rest in sorted(self._rest.items()):
            self._append(_HEAD + escape(rest) + self._tail(stream))
        self._rest.clear()
        os.close(self._fd)
