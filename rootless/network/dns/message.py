"""DNS messages, as far as the resolver looks into them (RFC 1035). Pure.

Only a question is read: its header, one name without compression, type and
class. Everything behind it is passed on or answered without being looked at.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

A, PTR, AAAA = 1, 12, 28
IN, ANY_CLASS = 1, 255
OK, FORMAT_ERROR, FAILURE, NO_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 2, 3, 4, 5

MAX_UDP = 512
"""Bytes of an answer over UDP to who does not say that it takes more (RFC 1035, 2.3.4)."""
TTL = 10
"""Seconds: addresses of containers change with every start."""

_HEADER = struct.Struct("!6H")
_RESPONSE, _AUTHORITATIVE, _RECURSION, _AVAILABLE, _CUT = 0x8000, 0x0400, 0x0100, 0x0080, 0x0200


@dataclass(frozen=True, slots=True)
class Question:
    """``name`` is in lower case without a final dot; ``raw`` the bytes of the question section."""

    id: int
    flags: int
    name: str
    type: int
    klass: int
    raw: bytes


class Malformed(ValueError):
    """Not a question that could be answered."""


def parse(data: bytes) -> Question:
    """The question in a message; Malformed when it is none, or not exactly one."""
    if len(data) < _HEADER.size:
        raise Malformed
    number, flags, questions, _, _, _ = _HEADER.unpack_from(data)
    if flags & _RESPONSE or questions != 1:
        raise Malformed
    labels, at = [], _HEADER.size
    while True:
        if at >= len(data):
            raise Malformed
        length = data[at]
        at += 1
        if not length:
            break
        if length > 63 or at + length > len(data):
            raise Malformed
        labels.append(label(data[at : at + length]))
        at += length
    if at - _HEADER.size > 255 or at + 4 > len(data):
        raise Malformed
    kind, klass = struct.unpack_from("!2H", data, at)
    raw = data[_HEADER.size : at + 4]
    return Question(number, flags, ".".join(labels), kind, klass, raw)


def label(data: bytes) -> str:
    """A label in lower case; a dot in it is written as ``\\046`` (5.1), as it separates nothing."""
    return data.decode("latin-1").lower().replace(".", "\\046")


def opcode(question: Question) -> int:
    """0 for a standard query."""
    return question.flags >> 11 & 15


def answers(data: bytes, question: Question, number: int) -> bool:
    """True when ``data`` is a response to ``question``, asked under the id ``number``."""
    if len(data) < _HEADER.size + len(question.raw):
        return False
    found, flags, questions, _, _, _ = _HEADER.unpack_from(data)
    body = data[_HEADER.size : _HEADER.size + len(question.raw)]
    asked = found == number and bool(flags & _RESPONSE) and questions == 1
    return asked and body.lower() == question.raw.lower()


def with_id(data: bytes, number: int) -> bytes:
    """The message under another id."""
    return struct.pack("!H", number) + data[2:]


def compose(
    question: Question, code: int = OK, records: Sequence[bytes] = (), *, limit: int = 65535
) -> bytes:
    """An answer; one longer than ``limit`` bytes is cut, and says so."""
    flags = _RESPONSE | _AVAILABLE | question.flags & (_RECURSION | 0x7800) | code
    if records:
        flags |= _AUTHORITATIVE
    size = _HEADER.size + len(question.raw)
    taken: list[bytes] = []
    for record in records:
        size += len(record)
        if size > limit:
            flags |= _CUT
            break
        taken.append(record)
    header = _HEADER.pack(question.id, flags, 1, len(taken), 0, 0)
    return b"".join((header, question.raw, *taken))


def failure(data: bytes, code: int) -> bytes:
    """An answer to what could not be read; b'' when there is not even an id."""
    if len(data) < _HEADER.size:
        return b""
    number, flags = struct.unpack_from("!2H", data)
    if flags & _RESPONSE:
        return b""
    return _HEADER.pack(number, _RESPONSE | flags & 0x7900 | code, 0, 0, 0, 0)


def address_record(address: str) -> bytes:
    """An A or AAAA record of the question's name."""
    packed = ipaddress.ip_address(address).packed
    return _record(A if len(packed) == 4 else AAAA, packed)


def pointer_record(name: str) -> bytes:
    """A PTR record of the question's name."""
    labels = [label.encode("latin-1")[:63] for label in name.split(".") if label]
    return _record(PTR, b"".join(bytes([len(label)]) + label for label in labels) + b"\0")


def _record(kind: int, data: bytes) -> bytes:
    # 0xc00c: the name at byte 12, which is the question's.
    return struct.pack("!3HIH", 0xC00C, kind, IN, TTL, len(data)) + data


def reverse_name(address: str) -> str:
    """What a PTR question for ``address`` asks for."""
    return ipaddress.ip_address(address).reverse_pointer


def udp_limit(data: bytes, question: Question) -> int:
    """Bytes the asker takes over UDP: 512, or what its EDNS record says (RFC 6891, 6.1.2)."""
    at = _HEADER.size + len(question.raw)
    if int.from_bytes(data[10:12]) == 1 and data[6:10] == bytes(4) and len(data) >= at + 5:
        root, kind, size = struct.unpack_from("!BHH", data, at)
        size = int(size)
        if root == 0 and kind == 41:
            return max(MAX_UDP, min(size, 4096))
    return MAX_UDP
