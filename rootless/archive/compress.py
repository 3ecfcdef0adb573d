"""Compression of archives: found by magic number, bounded while it is undone.

gzip through isal and zstd through backports.zstd (the standard library from
Python 3.14 on); bzip2 and xz, which Docker accepts for ``load`` and
``import``, by the standard library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol, cast

from rootless.archive.limits import DEFAULT_LIMITS, Limits
from rootless.archive.reader import Readable
from rootless.archive.writer import Writable
from rootless.errors import InvalidInput

Compression = Literal["none", "gzip", "zstd", "bzip2", "xz"]

_CHUNK = 256 * 1024
_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_ZSTD_WINDOW_LOG = 27
"""128 MiB, what zstd(1) itself accepts without ``--long``."""
_XZ_MEMORY = 256 << 20


def detect(head: bytes) -> Compression:
    """The compression of a stream that begins with ``head`` (6 bytes suffice)."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    # A skippable frame (RFC 8878, 3.1.2) may come before the first real one.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return "none"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def _decompressor(kind: Compression) -> tuple[Callable[[], _Decompressor], type[Exception]]:
    """How to make a decompressor, and what it raises on damaged data besides the usual."""
    if kind == "gzip":
        from isal import igzip_lib

        # Its stub calls the class an instance.
        error = cast("type[Exception]", igzip_lib.IsalError)
        return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), error
    if kind == "zstd":
        from backports import zstd

        options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
        return lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, OSError
    import lzma

    return lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), lzma.LZMAError


class Decompressed:
    """The uncompressed bytes of ``stream``, whatever it is compressed with.

    Refuses to give more than ``limits.max_stream`` bytes or a higher ratio than
    ``limits.max_ratio``.  Memory use is one chunk and the algorithm's window.
    """

    def __init__(
        self,
        stream: Readable,
        limits: Limits = DEFAULT_LIMITS,
        *,
        what: str = "archive",
        head: bytes = b"",
    ) -> None:
        """``head`` are bytes already taken from the stream; ``what`` names it in errors."""
        self._stream = stream
        self._limits = limits
        self._what = what
        self._input = head
        while len(self._input) < 6 and (more := stream.read(_CHUNK)):
            self._input += more
        self.compression: Compression = detect(self._input)
        self.consumed = len(self._input)
        """Compressed bytes read."""
        self.produced = 0
        """Uncompressed bytes given out."""
        self._make: Callable[[], _Decompressor] | None = None
        self._error: type[Exception] = ValueError
        if self.compression != "none":
            self._make, self._error = _decompressor(self.compression)
        self._engine: _Decompressor | None = None
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; empty at the end. A damaged stream raises InvalidInput."""
        if self._make is None:
            data = self._input or self._more()
            self._input = data[size:]
            data = data[:size]
        else:
            data = self._inflate(size)
        self.produced += len(data)
        if self.produced > self._limits.max_stream:
            raise InvalidInput(
                f"{self._what} refused: it is larger than {self._limits.max_stream} bytes unpacked",
                hint="raise max-layer-size in daemon.json if you trust it",
            )
        if self.produced > self._limits.ratio_floor:
            ratio = self.produced // max(self.consumed, 1)
            if ratio > self._limits.max_ratio:
                raise InvalidInput(
                    f"{self._what} refused: it unpacks to more than {self._limits.max_ratio} "
                    "times its size (a decompression bomb)",
                    hint="raise max-layer-ratio in daemon.json if you trust it",
                )
        return data

    def _more(self) -> bytes:
        data = self._stream.read(_CHUNK)
        self.consumed += len(data)
        return data

    def _inflate(self, size: int) -> bytes:
        assert self._make is not None
        while not self._ended:
            engine = self._engine
            if engine is None or engine.eof:
                if not self._next_member(engine):
                    break
                continue
            data = b""
            if engine.needs_input:
                data = self._input or self._more()
                self._input = b""
                if not data:
                    raise InvalidInput(f"{self._what} refused: its {self.compression} data is cut")
            out = self._decompress(engine, data, size)
            if out:
                return out
        return b""

    def _decompress(self, engine: _Decompressor, data: bytes, size: int) -> bytes:
        try:
            return engine.decompress(data, size)
        except (self._error, EOFError, MemoryError, OSError, ValueError) as error:
            raise InvalidInput(
                f"{self._what} refused: its {self.compression} data is damaged: {error}"
            ) from error

    def _next_member(self, done: _Decompressor | None) -> bool:
        """Start the next gzip member or zstd frame; False at the end."""
        assert self._make is not None
        if done is not None:
            self._input = done.unused_data or self._input
            if not self._input:
                self._input = self._more()
            # Tape padding: zeros after the last member are no data (gzip(1)).
            while self._input and not self._input.strip(b"\0"):
                self._input = self._more()
            if not self._input:
                self._ended = True
                return False
            while len(self._input) < 6 and (more := self._more()):
                self._input += more
            if detect(self._input) != self.compression:
                raise InvalidInput(f"{self._what} refused: there is other data after its end")
        self._engine = self._make()
        return True


class Digesting:
    """Passes a stream through and hashes it in a thread of its own (sha256 is the slow part)."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._pending: list[Future[None]] = []
        self.size = 0

    def read(self, size: int, /) -> bytes:
        """As the stream's."""
        data = self._stream.read(size)
        if data:
            self.size += len(data)
            if len(self._pending) >= 4:
                self._pending.pop(0).result()
            self._pending.append(self._pool.submit(self._hash.update, data))
        return data

    def digest(self) -> str:
        """``sha256:…`` of what was read so far; ends the thread."""
        self.close()
        return f"sha256:{self._hash.hexdigest()}"

    def close(self) -> None:
        """End the thread; safe to call twice."""
        self._pool.shutdown(wait=True)


class DigestingWriter:
    """Passes writes through, counting and hashing them. ``out`` None only hashes."""

    def __init__(self, out: Writable | None = None) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> None:
        """Write all of ``data``."""
        self._hash.update(data)
        self.size += len(data)
        if self._out is not None:
            self._out.write(data)

    def digest(self) -> str:
        """``sha256:…`` of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"


class _Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


class CompressingWriter:
    """Compresses what is written to it into ``out``; the same input gives the same bytes."""

    def __init__(self, out: Writable, compression: Literal["none", "gzip", "zstd"]) -> None:
        self._out = out
        self._engine: _Compressor | None = None
        if compression == "gzip":
            from isal import isal_zlib

            # 16 + 15: a gzip header, whose time stamp isal leaves zero.
            self._engine = isal_zlib.compressobj(2, isal_zlib.DEFLATED, 16 + 15)
        elif compression == "zstd":
            from backports import zstd

            self._engine = zstd.ZstdCompressor(level=3)

    def write(self, data: bytes, /) -> None:
        """Compress all of ``data``."""
        packed = data if self._engine is None else self._engine.compress(data)
        if packed:
            self._out.write(packed)

    def finish(self) -> None:
        """Write what is still buffered and the trailer; ``out`` stays open."""
        if self._engine is not None:
            self._out.write(self._engine.flush())
