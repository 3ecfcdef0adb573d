"""The json-file log driver: Docker's format, written by the shim itself.

One JSON object a line, ``{"log":"…\\n","stream":"stdout","time":"RFC 3339 with
nanoseconds"}``, with ``"attrs":{…}`` before the time where log options name
some. A line longer than 16 KiB is written in parts, of which only the last
ends in a newline, as Docker does.

Whatever was read at once is encoded at once, by a handful of searches through
the bytes instead of work per line: lines of a flood cost little more than
their bytes, and have one time stamp.
"""

from __future__ import annotations

import os
import time

from rootless.runtime.shim_lines import LineLog, Piece
from rootless.runtime.shim_logfile import LogFile

_NAMES = {1: b"stdout", 2: b"stderr"}
_SHORT = {8: b"\\b", 9: b"\\t", 12: b"\\f", 13: b"\\r", 0x22: b'\\"', 0x5C: b"\\\\"}
# RFC 8259, section 7: what a string must not contain as it is. The newline is
# left out: the end of a line is put there with all that follows it.
_ESCAPED = bytes(byte for byte in (0x5C, *range(32), 0x22) if byte != 10)
_PLAIN = bytes(byte for byte in range(256) if byte not in _ESCAPED)
_HEAD = b'{"log":"'
_ZEROS = bytes(256)
_BLOCK = 64 << 10


def timestamp(now_ns: int) -> str:
    """RFC 3339 in UTC with nine decimals."""
    seconds, rest = divmod(now_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def escape(data: bytes) -> bytes:
    """``data`` as the inside of a JSON string, newlines left alone.

    What is not UTF-8 becomes U+FFFD, as in Docker's logs.
    """
    found = _ESCAPED  # all of them are in what is no text
    try:
        if not data.isascii():
            data.decode()
        found = data.translate(None, _PLAIN)
        if len(found) > 1:
            found = bytes(set(found))
    except UnicodeDecodeError:
        data = data.decode("utf-8", "replace").encode()
    if 0x5C in found:  # first: the other replacements bring new ones
        data = data.replace(b"\\", b"\\\\")
    for byte in found:
        if byte == 0:  # they come in runs: holes of files, disks
            data = data.replace(_ZEROS, b"\\u0000" * len(_ZEROS))
        if byte != 0x5C:
            data = data.replace(bytes((byte,)), _SHORT.get(byte) or b"\\u%04x" % byte)
    return data


def encode(text: bytes, tail: bytes) -> bytes:
    """The log's lines for a piece of a stream (``shim_lines``), run together.

    ``tail`` is what follows the text in each of them, from the closing quote on.
    """
    if text[-1] != 10:
        return _HEAD + escape(text) + tail
    inside = escape(text[:-1]).replace(b"\n", b"\\n" + tail + _HEAD)
    return b"".join((_HEAD, inside, b"\\n", tail))


def mend(fd: int, size: int) -> int:
    """Cut off half a line, which a shim that was killed has left; the size without it."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


class JsonLog(LineLog):
    """Writes lines to a rotated file. ``attrs`` is an object in JSON, b'' for none."""

    __slots__ = ("_file", "_middle")

    def __init__(self, file: LogFile, attrs: bytes = b"") -> None:
        self._lines = None
        self._file = file
        self._middle = b'","attrs":' + attrs + b',"time":"' if attrs else b'","time":"'
        file.on_open = mend
        file.open()

    def _tail(self, stream: int, time_ns: int) -> bytes:
        now = timestamp(time_ns).encode()
        return b'","stream":"' + _NAMES[stream] + self._middle + now + b'"}\n'

    def put(self, stream: int, piece: Piece) -> bool:
        """Write whole lines, each to the file that has room for it. Never full."""
        time_ns, text = piece
        lines = encode(text, self._tail(stream, time_ns))
        file = self._file
        start, size = 0, len(lines)
        while file.max_size and size - start > (room := file.room()):
            end = lines.rfind(b"\n", start, start + room) + 1
            if not end and file.size:
                file.rotate()
                continue
            end = end or lines.find(b"\n", start) + 1  # longer than a whole file may be
            file.write(lines[start:end], b"\n")
            start = end
        if start < size:
            file.write(lines[start:] if start else lines, b"\n")
        return False

    def close(self) -> None:
        """Write unfinished lines and close the file."""
        self.finish()
        self._file.close()
