"""The tar format, one block at a time: ustar, GNU and PAX headers to values.

tar(5) of libarchive, POSIX.1-2017 pax "ustar Interchange Format", GNU tar's
manual "Basic Tar Format". Where parsers disagree, this one refuses: an archive
that two programs read differently is how scanners are deceived.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from rootless.archive.limits import Limits
from rootless.archive.names import refuse
from rootless.errors import InvalidInput

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
MAX_SIZE = (1 << 63) - 1
MAX_ID = (1 << 32) - 2
"""(uid_t)-1 means "no change" to chown(2)."""

REGULAR = frozenset(b"0\x007")
REGULAR_KIND = ord("0")
LINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"123456"
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK, SPARSE = b"xgLKS"
HEADER_ONLY = frozenset((LINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO))

_FIELDS = struct.Struct("100s8s8s8s12s12s8sB100s8s32s32s8s8s155s12s")
_MIN_SECONDS, _MAX_SECONDS = -(1 << 31), (1 << 34) - 1
_SECONDS = re.compile(rb"(-?)(\d{1,15})(?:\.(\d*))?")
_XATTR = b"SCHILY.xattr."
_PAX_DIGITS = 10


@dataclass(slots=True)
class Header:
    """One entry's header; names are raw bytes, times nanoseconds, ids the image's."""

    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    devmajor: int
    devminor: int
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    segments: list[tuple[int, int]] | None = None
    """Data segments (offset, length) of a sparse file, in order; None when not sparse."""
    real_size: int = 0
    """Apparent size of a sparse file."""


def number(raw: bytes, what: str, name: bytes) -> int:
    """A numeric field: octal digits, or GNU's base 256 when the top bit is set."""
    first = raw[0]
    if first & 0x80:
        if first not in (0x80, 0xFF):
            raise refuse(name, f"its {what} is not a number this size can have")
        value = int.from_bytes(raw[1:], "big")
        return value - (1 << (8 * (len(raw) - 1))) if first == 0xFF else value
    digits = raw.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise refuse(name, f"its {what} is not a number")
    return int(digits, 8)


def _checksum(block: bytes) -> None:
    stored = block[148:156].strip(b" \0")
    if not stored.isdigit() or b"8" in stored or b"9" in stored:
        raise InvalidInput("invalid tar archive: a header has no checksum")
    value = int(stored, 8)
    plain = sum(block) - sum(block[148:156]) + 8 * 32
    if value != plain:
        # Some old tars summed signed bytes.
        signed = plain - 256 * sum(
            1 for i, byte in enumerate(block) if byte >= 128 and not 148 <= i < 156
        )
        if value != signed:
            raise InvalidInput(
                "invalid tar archive: a header's checksum does not match",
                hint="the archive is damaged or is not a tar archive",
            )


def _text(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def clamp_time(nanoseconds: int) -> int:
    """``nanoseconds`` if a file system can store it, else the epoch (as moby does)."""
    inside = _MIN_SECONDS <= nanoseconds // 10**9 <= _MAX_SECONDS
    return nanoseconds if inside else 0


def parse(block: bytes) -> Header:
    """The header in ``block`` (512 bytes), before PAX and GNU extensions apply."""
    _checksum(block)
    (raw_name, mode, uid, gid, size, mtime, _sum, kind, link, magic, _u, _g, major, minor, prefix,
     tail) = _FIELDS.unpack(block)  # fmt: skip
    name = _text(raw_name)
    if magic[:6] == b"ustar\0":
        # star keeps times at the end of the prefix and marks it (tar(5)).
        head = _text(prefix[:131] if tail[8:] == b"tar\0" else prefix)
        if head:
            name = head + b"/" + name
    header = Header(
        name=name,
        kind=kind,
        mode=number(mode, "mode", name) & 0o7777,
        uid=number(uid, "user id", name),
        gid=number(gid, "group id", name),
        size=number(size, "size", name),
        mtime_ns=number(mtime, "modification time", name) * 10**9,
        link=_text(link),
        devmajor=0,
        devminor=0,
    )
    if kind in (CHAR, BLOCKDEV):
        header.devmajor = number(major, "device number", name)
        header.devminor = number(minor, "device number", name)
    return header


def check(header: Header) -> None:
    """Refuse values no file can have; called when all extensions are applied."""
    if header.kind == 0 and header.name.endswith(b"/"):
        header.kind = DIRECTORY  # Version 7 archives have no type for directories.
    if not 0 <= header.size <= MAX_SIZE:
        raise refuse(header.name, f"its size {header.size} is out of range")
    if not (0 <= header.uid <= MAX_ID and 0 <= header.gid <= MAX_ID):
        raise refuse(header.name, f"its owner {header.uid}:{header.gid} is out of range")
    header.mtime_ns = clamp_time(header.mtime_ns)


def old_sparse(block: bytes, name: bytes) -> tuple[list[tuple[int, int]], int, bool]:
    """GNU's old sparse header: (segments, apparent size, an extension block follows)."""
    segments = sparse_pairs(block, 386, 4, name)
    return segments, number(block[483:495], "size", name), bool(block[482])


def sparse_pairs(block: bytes, start: int, count: int, name: bytes) -> list[tuple[int, int]]:
    """Up to ``count`` (offset, length) pairs from ``start``; an empty pair ends the list."""
    pairs = []
    for at in range(start, start + 24 * count, 24):
        if not block[at : at + 24].strip(b"\0 "):
            break
        pairs.append(
            (
                number(block[at : at + 12], "sparse map", name),
                number(block[at + 12 : at + 24], "sparse map", name),
            )
        )
    return pairs


def pax_records(body: bytes, name: bytes) -> list[tuple[bytes, bytes]]:
    """The records ``LENGTH KEY=VALUE\\n`` of a PAX header body."""
    records = []
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + _PAX_DIGITS + 1)
        digits = body[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise refuse(name, "its PAX header is malformed")
        end = at + int(digits)
        equals = body.find(b"=", space, end)
        if equals <= space + 1 or end > len(body) or body[end - 1] != 0x0A:
            raise refuse(name, "its PAX header is malformed")
        records.append((body[space + 1 : equals], body[equals + 1 : end - 1]))
        at = end
    return records


def _decimal(value: bytes, key: str, name: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise refuse(name, f"its PAX header has an invalid {key}")
    return int(value)


def _seconds(value: bytes, name: bytes) -> int:
    match = _SECONDS.fullmatch(value)
    if match is None:
        raise refuse(name, "its PAX header has an invalid time")
    fraction = int((match[3] or b"")[:9].ljust(9, b"0"))
    total = int(match[2]) * 10**9 + fraction
    return -total if match[1] else total


@dataclass(slots=True)
class Sparse:
    """What PAX records say of a sparse file (GNU tar's manual, "PAX 0", "PAX 1")."""

    major: int = -1
    size: int | None = None
    name: bytes | None = None
    pairs: list[int] = field(default_factory=list)
    seen: bool = False


def _sparse_record(
    sparse: Sparse, key: bytes, value: bytes, header: Header, limits: Limits
) -> None:
    name = header.name
    word = key.removeprefix(b"GNU.sparse.")
    sparse.seen = True
    if word == b"major":
        sparse.major = _decimal(value, "sparse version", name)
    elif word in (b"size", b"realsize"):
        sparse.size = _decimal(value, "sparse size", name)
    elif word == b"name":
        sparse.name = value
    elif word in (b"offset", b"numbytes"):
        sparse.pairs.append(_decimal(value, "sparse map", name))
    elif word == b"map":
        numbers = value.split(b",", 2 * limits.max_sparse) if value else []
        sparse.pairs = [_decimal(item, "sparse map", name) for item in numbers]
    if len(sparse.pairs) > 2 * limits.max_sparse:
        raise refuse(name, f"it has more than {limits.max_sparse} sparse segments")


def apply_pax(header: Header, records: list[tuple[bytes, bytes]], limits: Limits) -> Sparse:
    """Apply PAX ``records`` to ``header``; an empty value takes a record back (POSIX pax)."""
    sparse = Sparse()
    for key, value in records:
        if key.startswith(_XATTR):
            header.xattrs[key[len(_XATTR) :]] = value
            if len(header.xattrs) > limits.max_xattrs:
                raise refuse(header.name, f"it has more than {limits.max_xattrs} attributes")
        elif key.startswith(b"GNU.sparse."):
            _sparse_record(sparse, key, value, header, limits)
        elif not value:
            continue
        elif key == b"path":
            header.name = value
        elif key == b"linkpath":
            header.link = value
        elif key == b"size":
            header.size = _decimal(value, "size", header.name)
        elif key == b"uid":
            header.uid = _decimal(value, "user id", header.name)
        elif key == b"gid":
            header.gid = _decimal(value, "group id", header.name)
        elif key == b"mtime":
            header.mtime_ns = _seconds(value, header.name)
    return sparse


def check_segments(header: Header, limits: Limits) -> None:
    """Refuse a sparse map that is not in order, overlaps, or does not fit its file."""
    segments = header.segments or []
    if len(segments) > limits.max_sparse:
        raise refuse(header.name, f"it has more than {limits.max_sparse} sparse segments")
    if not 0 <= header.real_size <= limits.max_file:
        raise refuse(header.name, f"its size {header.real_size} is above {limits.max_file}")
    end = 0
    for offset, length in segments:
        if offset < end or length < 0:
            raise refuse(header.name, "its sparse map overlaps or is out of order")
        end = offset + length
    if end > header.real_size:
        raise refuse(header.name, "its sparse map reaches beyond the end of the file")
    if sum(length for _, length in segments) != header.size:
        raise refuse(header.name, "its sparse map does not match its data")
