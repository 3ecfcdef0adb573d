"""The ``journald`` log driver: systemd's native protocol, with Docker's fields.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: a datagram of ``NAME=value`` lines;
a value with a newline has its length instead. What is too long for a datagram
goes as a sealed memory file.
"""

from __future__ import annotations

import _socket
import array
import errno
import fcntl
import os
import struct

from rootless.runtime.shim_lines import Piece
from rootless.runtime.shim_log import timestamp

_ERROR, _INFO = b"3", b"6"
_PRIORITY = {1: _INFO, 2: _ERROR}
_LENGTH = struct.Struct("<Q")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class JournalSink:
    """Sends each line as a record. ``fields`` are name and value of what every record has."""

    def __init__(self, address: str, fields: list[tuple[str, str]]) -> None:
        self._address = address
        self._fields = b"".join(_field(name.encode(), value.encode()) for name, value in fields)
        self._fields += _field(b"CONTAINER_LOG_EPOCH", _random())
        self._sock: _socket.socket | None = None
        self._ordinal = 0
        self._sent = 0
        """How much of the piece under way has gone: a second attempt goes on after it."""
        self._parts: dict[int, tuple[bytes, int]] = {}
        """The id and the number of parts of each stream's long line."""

    def put(self, stream: int, piece: Piece) -> None:
        """Send a record for each line, or for the part of a line."""
        time_ns, text = piece
        while self._sent < len(text):
            end = text.find(b"\n", self._sent)
            whole = end >= 0
            line = text[self._sent : end if whole else len(text)]
            self._send(self._record(stream, line, time_ns, whole=whole))
            self._ordinal += 1
            self._note_part(stream, whole=whole)
            self._sent = end + 1 if whole else len(text)
        self._sent = 0

    def _record(self, stream: int, line: bytes, time_ns: int, *, whole: bool) -> bytes:
        record = [
            _field(b"MESSAGE", line),
            _field(b"PRIORITY", _PRIORITY[stream]),
            self._fields,
            _field(b"SYSLOG_TIMESTAMP", timestamp(time_ns).encode()),
            _field(b"CONTAINER_LOG_ORDINAL", b"%d" % (self._ordinal + 1)),
        ]
        if stream in self._parts or not whole:
            name, count = self._parts.setdefault(stream, (_random(), 0))
            record += (
                _field(b"CONTAINER_PARTIAL_ID", name),
                _field(b"CONTAINER_PARTIAL_ORDINAL", b"%d" % (count + 1)),
                _field(b"CONTAINER_PARTIAL_LAST", b"true" if whole else b"false"),
            )
            if not whole:
                record.append(_field(b"CONTAINER_PARTIAL_MESSAGE", b"true"))
        return b"".join(record)

    def _note_part(self, stream: int, *, whole: bool) -> None:
        if whole:
            self._parts.pop(stream, None)
        else:
            name, count = self._parts[stream]
            self._parts[stream] = name, count + 1

    def _send(self, record: bytes) -> None:
        try:
            if self._sock is None:
                self._sock = _socket.socket(
                    _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC
                )
                self._sock.connect(self._address)
            self._sock.send(record)
        except OSError as error:
            if error.errno in (errno.EMSGSIZE, errno.ENOBUFS) and self._sock is not None:
                _send_file(self._sock, record)
                return
            if self._sock is not None:
                self._sock.close()  # a journald that was restarted has another socket
                self._sock = None
            raise

    def close(self) -> None:
        """Close the socket."""
        if self._sock is not None:
            self._sock.close()


def _send_file(sock: _socket.socket, record: bytes) -> None:
    memory = os.memfd_create("rootless-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(record)
        while view:
            view = view[os.write(memory, view) :]
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        rights = array.array("i", [memory])
        sock.sendmsg([], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    finally:
        os.close(memory)


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"".join((name, b"\n", _LENGTH.pack(len(value)), value, b"\n"))
    return b"".join((name, b"=", value, b"\n"))


def _random() -> bytes:
    return os.urandom(32).hex().encode()
