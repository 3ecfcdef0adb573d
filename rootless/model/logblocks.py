"""The blocks of the ``local`` log driver's files: what shims write and the daemon reads.

A file is a row of blocks: a head of 28 bytes, a payload, and the payload's
length once more, so that a file can be read backwards. Numbers are big endian.

====== ======= =====================================================================
offset bytes
====== ======= =====================================================================
0      4       ``RLG1``
4      1       kind: 0 attributes (a JSON object), 1 stdout, 2 stderr
5      3       zero
8      8       nanoseconds since the epoch
16     4       length of the payload
20     4       CRC-32 of the payload
24     4       CRC-32 of the 24 bytes before
28     length  payload: whole lines, each with its newline, or a part of a longer line without
…      4       length of the payload
====== ======= =====================================================================

Attributes hold for what follows in the same file. A payload has at most 1 MiB,
a line or part in it at most 16 KiB.
"""

from __future__ import annotations

import struct
from zlib import crc32

MAGIC = b"RLG1"
ATTRS, STDOUT, STDERR = 0, 1, 2
MAX_PAYLOAD = 1 << 20
_HEAD = struct.Struct(">4sB3xQII")
_NUMBER = struct.Struct(">I")
HEAD_SIZE = _HEAD.size + _NUMBER.size
FOOT_SIZE = _NUMBER.size
OVERHEAD = HEAD_SIZE + FOOT_SIZE


def pack(kind: int, time_ns: int, payload: bytes) -> bytes:
    """One block."""
    head = _HEAD.pack(MAGIC, kind, time_ns, len(payload), crc32(payload))
    return b"".join((head, _NUMBER.pack(crc32(head)), payload, _NUMBER.pack(len(payload))))


def unpack_head(data: bytes, offset: int = 0) -> tuple[int, int, int, int] | None:
    """Kind, time, length and checksum of the payload; None when no block begins here."""
    if len(data) - offset < HEAD_SIZE or data[offset : offset + 4] != MAGIC:
        return None
    head = data[offset : offset + _HEAD.size]
    if _NUMBER.unpack_from(data, offset + _HEAD.size)[0] != crc32(head):
        return None
    _, kind, time_ns, length, check = _HEAD.unpack(head)
    return None if length > MAX_PAYLOAD else (kind, time_ns, length, check)


def unpack_foot(data: bytes) -> int:
    """The length of the payload before a foot."""
    return int(_NUMBER.unpack(data)[0])


def is_whole(payload: bytes, check: int) -> bool:
    """Whether the payload is what was written."""
    return crc32(payload) == check
