"""Reading a tar stream entry by entry, with every size bounded before it is believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from rootless.archive import header as tar
from rootless.archive.header import BLOCK, ZERO_BLOCK, Header
from rootless.archive.limits import Limits
from rootless.archive.names import refuse
from rootless.errors import InvalidInput

_CHUNK = 256 * 1024


class Readable(Protocol):
    """Anything with ``read``: a file, a socket's file, a decompressor."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; empty at the end."""


class TarReader:
    """Iterates over the headers of a tar stream; :meth:`data` gives the current entry's bytes.

    Memory use is one chunk plus one extension header, whatever the archive says.
    """

    def __init__(self, stream: Readable, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._view = memoryview(b"")
        self._left = 0
        self._padding = 0
        self._entries = 0
        self._content = 0
        self._consumed = 0
        self._last = b""

    @property
    def entries(self) -> int:
        """Entries read so far."""
        return self._entries

    @property
    def content(self) -> int:
        """Bytes of content the entries read so far announced."""
        return self._content

    def _fill(self) -> bool:
        chunk = self._stream.read(_CHUNK)
        self._view = memoryview(chunk)
        self._consumed += len(chunk)
        if self._consumed > self._limits.max_stream:
            raise refuse(self._last, f"the archive is larger than {self._limits.max_stream} bytes")
        return bool(chunk)

    def _exact(self, size: int) -> bytes:
        """``size`` bytes, or fewer when the stream ends."""
        if len(self._view) >= size:
            data = bytes(self._view[:size])
            self._view = self._view[size:]
            return data
        parts = []
        while size:
            if not self._view and not self._fill():
                break
            part = self._view[:size]
            parts.append(part)
            size -= len(part)
            self._view = self._view[len(part) :]
        return b"".join(parts)

    def data(self, size: int) -> Iterator[memoryview]:
        """The next ``size`` bytes of the current entry, in pieces as they come."""
        if size > self._left:
            raise ValueError("more data asked for than the entry has")
        while size:
            if not self._view and not self._fill():
                raise self._truncated()
            piece = self._view[:size]
            self._view = self._view[len(piece) :]
            size -= len(piece)
            self._left -= len(piece)
            yield piece

    def _truncated(self) -> InvalidInput:
        return refuse(self._last, "the archive ends in the middle of it")

    def _skip(self) -> None:
        for _ in self.data(self._left):
            pass
        if self._padding and len(self._exact(self._padding)) != self._padding:
            raise self._truncated()
        self._padding = 0

    def _block(self) -> bytes | None:
        """The next header block; None at the end of the archive."""
        block = self._exact(BLOCK)
        if not block:
            return None  # Like Go's reader: the end mark may be missing at a block boundary.
        if len(block) < BLOCK and not self._last:
            raise InvalidInput(
                "invalid tar archive: it ends within its first header",
                hint="it is not a tar archive",
            )
        if len(block) < BLOCK:
            raise refuse(self._last, "the archive ends in the middle of the header after it")
        if block == ZERO_BLOCK:
            following = self._exact(BLOCK)
            if following and following.strip(b"\0"):
                raise refuse(self._last, "a single zero block follows it")
            return None
        return block

    def _body(self, size: int) -> bytes:
        """The body of an extension header."""
        if not 0 <= size <= self._limits.max_header:
            raise refuse(
                self._last,
                f"a header after it has {size} bytes, more than {self._limits.max_header}",
            )
        body = self._exact(size)
        padding = -size % BLOCK
        if len(body) < size or len(self._exact(padding)) < padding:
            raise refuse(self._last, "the archive ends in the middle of the header after it")
        return body

    def next(self) -> Header | None:
        """The next entry, or None at the end; data of the previous one is skipped."""
        self._skip()
        records: list[tuple[bytes, bytes]] | None = None
        long_name: bytes | None = None
        long_link: bytes | None = None
        extensions = 0
        while True:
            block = self._block()
            if block is None:
                if extensions:
                    raise refuse(self._last, "the archive ends after an extension header")
                return None
            header = tar.parse(block)
            kind = header.kind
            if kind == tar.PAX:
                records = tar.pax_records(self._body(header.size), header.name)
            elif kind == tar.PAX_GLOBAL:
                # Only comments are written there in practice (git archive); moby
                # ignores them too, so two engines see the same tree.
                tar.pax_records(self._body(header.size), header.name)
                continue
            elif kind == tar.LONG_NAME:
                long_name = self._body(header.size).rstrip(b"\0")
            elif kind == tar.LONG_LINK:
                long_link = self._body(header.size).rstrip(b"\0")
            else:
                break
            extensions += 1
            if extensions > 16:
                raise refuse(self._last, "too many extension headers follow it")
        if long_name is not None:
            header.name = long_name
        if long_link is not None:
            header.link = long_link
        return self._finish(header, block, records)

    def _finish(
        self, header: Header, block: bytes, records: list[tuple[bytes, bytes]] | None
    ) -> Header:
        self._last = header.name
        sparse = tar.apply_pax(header, records, self._limits) if records else None
        self._last = header.name
        tar.check(header)
        size = header.size
        if header.kind in tar.HEADER_ONLY:
            size = header.size = 0  # As Go's reader: these have no data whatever they say.
        elif header.kind not in tar.REGULAR and header.kind != tar.SPARSE:
            raise refuse(header.name, f"its type {chr(header.kind)!r} is not supported")
        self._left, self._padding = size, -size % BLOCK
        if header.kind == tar.SPARSE:
            self._old_sparse(header, block)
        elif sparse is not None and sparse.seen:
            self._pax_sparse(header, sparse)
        self._entries += 1
        self._content += header.size
        if self._entries > self._limits.max_entries:
            raise refuse(
                header.name, f"the archive has more than {self._limits.max_entries} entries"
            )
        if self._content > self._limits.max_bytes or header.size > self._limits.max_file:
            raise refuse(
                header.name,
                f"the archive's files are larger than {self._limits.max_bytes} bytes",
                hint="raise max-layer-size in daemon.json if you trust it",
            )
        return header

    def _old_sparse(self, header: Header, block: bytes) -> None:
        segments, header.real_size, more = tar.old_sparse(block, header.name)
        while more:
            extension = self._exact(BLOCK)
            if len(extension) < BLOCK:
                raise self._truncated()
            segments += tar.sparse_pairs(extension, 0, 21, header.name)
            more = bool(extension[504])
            if len(segments) > self._limits.max_sparse:
                break
        self._set_segments(header, segments)

    def _pax_sparse(self, header: Header, sparse: tar.Sparse) -> None:
        if header.kind not in tar.REGULAR:
            raise refuse(header.name, "only a regular file can be sparse")
        if sparse.name is not None:
            header.name = self._last = sparse.name
        header.real_size = sparse.size if sparse.size is not None else -1
        pairs = sparse.pairs
        if sparse.major == 1:
            pairs = self._sparse_map(header)
        if len(pairs) % 2:
            raise refuse(header.name, "its sparse map is malformed")
        self._set_segments(header, list(zip(pairs[::2], pairs[1::2], strict=True)))

    def _sparse_map(self, header: Header) -> list[int]:
        """The map of format 1.0: decimal lines at the head of the data, padded to a block."""
        lines: list[bytes] = []
        tail = b""
        wanted: int | None = None
        while wanted is None or len(lines) < wanted:
            if self._left < BLOCK:
                raise refuse(header.name, "its sparse map is malformed")
            block = b"".join(self.data(BLOCK))
            header.size -= BLOCK
            *whole, tail = (tail + block).split(b"\n")
            lines += whole
            if len(tail) > BLOCK:
                raise refuse(header.name, "its sparse map is malformed")
            if wanted is None and lines:
                wanted = 1 + 2 * self._map_number(lines[0], header)
                if wanted > 2 * self._limits.max_sparse:
                    raise refuse(
                        header.name, f"it has more than {self._limits.max_sparse} sparse segments"
                    )
        return [self._map_number(line, header) for line in lines[1:wanted]]

    @staticmethod
    def _map_number(line: bytes, header: Header) -> int:
        if not line.isdigit() or len(line) > 19:
            raise refuse(header.name, "its sparse map is malformed")
        return int(line)

    def _set_segments(self, header: Header, segments: list[tuple[int, int]]) -> None:
        # GNU tar ends the map with an empty segment at the end of the file.
        header.segments = [(offset, length) for offset, length in segments if length]
        if header.size == 0 and header.segments:
            raise refuse(header.name, "its sparse map does not match its data")
        tar.check_segments(header, self._limits)

    def drain(self) -> None:
        """Read what follows the end mark, so that a digest over the stream is complete."""
        self._view = memoryview(b"")
        while self._fill():
            pass
        self._view = memoryview(b"")
