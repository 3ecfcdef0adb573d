"""What an answer says about where a name leads (RFC 1035). Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rootless.network.dns.message import AAAA, IN, A, Malformed, Question, label

CNAME = 5
OPT = 41
LONGEST_TTL = 3600
"""Seconds that an answer may be believed: not longer than its addresses are open."""
_HEADER = 12
_RECORD = struct.Struct("!HHIH")
_SIZES = {A: 4, AAAA: 16}
_MOST_RECORDS = 512
_MOST_JUMPS = 64
_LONGEST_CHAIN = 16


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its owner in lower case, where its data are and where its time to live is."""

    owner: str
    type: int
    klass: int
    ttl: int
    at: int
    size: int
    ttl_at: int


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name at a place and where what follows it begins (4.1.4)."""
    labels: list[str] = []
    end, size = -1, 0
    for _ in range(128 + _MOST_JUMPS):
        if at >= len(data):
            raise Malformed
        length = data[at]
        if length >= 0xC0:
            if at + 2 > len(data):
                raise Malformed
            end = at + 2 if end < 0 else end
            at = int.from_bytes(data[at : at + 2]) & 0x3FFF
            continue
        if length > 63 or at + 1 + length > len(data):
            raise Malformed
        at += 1
        if not length:
            return ".".join(labels), end if end >= 0 else at
        size += length + 1
        if size > 255:
            raise Malformed
        labels.append(label(data[at : at + length]))
        at += length
    raise Malformed


def records(data: bytes, question: Question) -> Iterator[Record]:
    """Every record of the answer, authority and additional sections; Malformed when cut short."""
    if len(data) < _HEADER:
        raise Malformed
    count = sum(struct.unpack_from("!3H", data, 6))
    if count > _MOST_RECORDS:
        raise Malformed
    at = _HEADER + len(question.raw)
    for _ in range(count):
        owner, at = _name(data, at)
        if at + _RECORD.size > len(data):
            raise Malformed
        kind, klass, ttl, size = _RECORD.unpack_from(data, at)
        start = at + _RECORD.size
        if start + size > len(data):
            raise Malformed
        yield Record(owner, kind, klass, ttl, start, size, at + 4)
        at = start + size


def leads_to(data: bytes, question: Question) -> list[tuple[str, int]]:
    """Addresses that the asked name leads to, by aliases or not, with seconds to live.

    Those of other names in the same message do not count. The time is the least
    of the chain. Raises Malformed.
    """
    found = [one for one in records(data, question) if one.klass == IN]
    names = {question.name: LONGEST_TTL}
    aliases = [one for one in found if one.type == CNAME]
    for _ in range(_LONGEST_CHAIN):  # they are in any order
        for one in aliases:
            if one.owner in names:
                target, _ = _name(data, one.at)
                names.setdefault(target, min(names[one.owner], _seconds(one.ttl)))
    made: dict[str, int] = {}
    for one in found:
        if one.owner in names and _SIZES.get(one.type) == one.size:
            address = str(ipaddress.ip_address(data[one.at : one.at + one.size]))
            made[address] = min(names[one.owner], _seconds(one.ttl))
    return list(made.items())


def _seconds(ttl: int) -> int:
    return 0 if ttl >= 1 << 31 else ttl  # RFC 2181, 8


def shortened(data: bytes, question: Question) -> bytes:
    """The message with no time to live above :data:`LONGEST_TTL`. Raises Malformed."""
    changed = bytearray(data)
    for one in records(data, question):
        if one.type != OPT and one.ttl > LONGEST_TTL:
            struct.pack_into("!I", changed, one.ttl_at, LONGEST_TTL)
    return bytes(changed)
