"""Tar archives for tests, honest and hostile, made block by block."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rootless.archive.header import BLOCK, DIRECTORY, LINK, PAX, REGULAR_KIND, SYMLINK, Header
from rootless.archive.writer import END, encode

END_MARK = END


def header(name: bytes, kind: int = REGULAR_KIND, **fields: object) -> Header:
    """A header with defaults; ``fields`` are Header's own."""
    values: dict[str, object] = {
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
        "size": 0,
        "mtime_ns": 0,
        "link": b"",
        "devmajor": 0,
        "devminor": 0,
        **fields,
    }
    return Header(name=name, kind=kind, **values)  # type: ignore[arg-type]  # keywords of any field


def pad(data: bytes) -> bytes:
    """``data`` filled up to a block."""
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    """One regular file."""
    return encode(header(name, size=len(data), **fields)) + pad(data)


def directory(name: bytes, **fields: object) -> bytes:
    """One directory."""
    return encode(header(name, DIRECTORY, **{"mode": 0o755, **fields}))


def symlink(name: bytes, target: bytes, **fields: object) -> bytes:
    """One symlink."""
    return encode(header(name, SYMLINK, link=target, **fields))


def hard_link(name: bytes, target: bytes, **fields: object) -> bytes:
    """One hard link."""
    return encode(header(name, LINK, link=target, **fields))


def special(name: bytes, kind: bytes, **fields: object) -> bytes:
    """An entry of any type."""
    return encode(header(name, kind[0], **fields))


def pax(body: bytes) -> bytes:
    """A PAX extension header with a raw ``body``."""
    return encode(header(b"pax", PAX, size=len(body))) + pad(body)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record."""
    size = len(key) + len(value) + 3
    for digits in range(1, 12):
        total = size + digits
        if len(str(total)) == digits:
            return b"%d %s=%s\n" % (total, key, value)
    raise AssertionError(key)


def patch(block: bytes, offset: int, value: bytes) -> bytes:
    """``block``'s first header with ``value`` at ``offset`` and a right checksum."""
    head = bytearray(block[:BLOCK])
    head[offset : offset + len(value)] = value
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + block[BLOCK:]


def archive(*parts: bytes) -> bytes:
    """The parts and the end mark."""
    return b"".join(parts) + END


def tree(root: str | os.PathLike[str]) -> Sequence[str]:
    """All paths below ``root``, sorted; symlinks are not entered."""
    found = []
    for top, dirs, files in os.walk(root):
        for name in (*dirs, *files):
            found.append(os.path.relpath(os.path.join(top, name), root))
    return sorted(found)
