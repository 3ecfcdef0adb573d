"""Writing a tar stream: ustar headers, PAX records only for what ustar cannot say.

The same input gives the same bytes, so that an image made twice has one digest.
"""

from __future__ import annotations

from typing import Protocol

from rootless.archive import header as tar
from rootless.archive.header import BLOCK, Header

_OCTAL_ID = 0o7777777
_OCTAL_SIZE = 0o77777777777
_NAME = 100
END = bytes(2 * BLOCK)


class Writable(Protocol):
    """Anything with ``write``; it must take all bytes or raise."""

    def write(self, data: bytes, /) -> object:
        """Write all of ``data``."""


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record; its length counts its own digits."""
    size = len(key) + len(value) + 3
    total = size + len(str(size))
    total = size + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def _block(header: Header, name: bytes, link: bytes) -> bytes:
    device = header.kind in (tar.CHAR, tar.BLOCKDEV)
    fields = (
        name.ljust(_NAME, b"\0"),
        _octal(header.mode & 0o7777, 8),
        _octal(header.uid if header.uid <= _OCTAL_ID else 0, 8),
        _octal(header.gid if header.gid <= _OCTAL_ID else 0, 8),
        _octal(header.size if header.size <= _OCTAL_SIZE else 0, 12),
        _octal(max(0, min(header.mtime_ns // 10**9, _OCTAL_SIZE)), 12),
        b" " * 8,
        bytes([header.kind]),
        link.ljust(_NAME, b"\0"),
        b"ustar\00000",
        bytes(64),
        _octal(header.devmajor if device else 0, 8),
        _octal(header.devminor if device else 0, 8),
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    text = b"%s%d" % (sign, seconds)
    return text + (b".%09d" % fraction).rstrip(b"0") if fraction else text


def encode(header: Header, extra: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """``header`` as blocks, with a PAX header before it when needed.

    ``extra`` are further PAX records (the keys of sparse files).
    """
    records = list(extra)
    if len(header.name) > _NAME:
        records.append((b"path", header.name))
    if len(header.link) > _NAME:
        records.append((b"linkpath", header.link))
    if header.size > _OCTAL_SIZE:
        records.append((b"size", b"%d" % header.size))
    if header.uid > _OCTAL_ID:
        records.append((b"uid", b"%d" % header.uid))
    if header.gid > _OCTAL_ID:
        records.append((b"gid", b"%d" % header.gid))
    seconds, fraction = divmod(header.mtime_ns, 10**9)
    if fraction or not 0 <= seconds <= _OCTAL_SIZE:
        records.append((b"mtime", _time(header.mtime_ns)))
    records += [(b"SCHILY.xattr." + key, value) for key, value in sorted(header.xattrs.items())]
    # A directory's slash must survive the cut, or old readers see a file.
    name = header.name[:_NAME]
    main = _block(header, name, header.link[:_NAME])
    if not records:
        return main
    body = b"".join(_record(key, value) for key, value in records)
    base = header.name.rstrip(b"/").rpartition(b"/")[2][: _NAME - 16]
    pax = Header(b"PaxHeaders.0/" + base, tar.PAX, 0o644, 0, 0, len(body), 0, b"", 0, 0)
    return _block(pax, pax.name, b"") + body + bytes(-len(body) % BLOCK) + main


class TarWriter:
    """Writes entries to ``out``; call :meth:`finish` for the end mark."""

    def __init__(self, out: Writable) -> None:
        self._out = out
        self.entries = 0

    def begin(self, header: Header, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Write the header; the caller then writes ``header.size`` bytes and calls :meth:`pad`."""
        self.entries += 1
        self._out.write(encode(header, extra))

    def write(self, data: bytes) -> None:
        """Content of the entry begun last."""
        self._out.write(data)

    def pad(self, size: int) -> None:
        """Fill up the last block of ``size`` bytes of content."""
        if size % BLOCK:
            self._out.write(bytes(-size % BLOCK))

    def add(self, header: Header, data: bytes = b"") -> None:
        """One whole entry; ``header.size`` is set from ``data``."""
        header.size = len(data)
        self.begin(header)
        if data:
            self.write(data)
            self.pad(len(data))

    def finish(self) -> None:
        """The two zero blocks that end an archive."""
        self._out.write(END)


def entry(
    name: bytes,
    kind: int,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime_ns: int = 0,
    link: bytes = b"",
) -> Header:
    """A header with the usual defaults."""
    return Header(name, kind, mode, uid, gid, 0, mtime_ns, link, 0, 0)
