"""The content store: blobs by digest, verified before they have a name.

Layout below the data root: ``blobs/sha256/<hex>`` immutable content, ``tmp/``
downloads under way.  A blob appears by rename(2) after its digest was checked
and it was synced, so whatever is in ``blobs`` is whole, also after a crash.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from rootless.errors import Exhausted, InvalidInput, NotFound, no_space
from rootless.ids import is_digest

_CHUNK = 1 << 20
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection removed."""

    digests: tuple[str, ...]
    bytes: int


def digest_of(data: bytes) -> str:
    """``sha256:…`` of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class ContentStore:
    """Blobs below ``root`` (``…/content``). Safe for several threads and processes."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._tmp = root / "tmp"
        for directory in (self._blobs, self._tmp):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob ``digest`` is or would be."""
        if not is_digest(digest):
            raise InvalidInput(f"unsupported digest '{digest[:100]}'")
        return self._blobs / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """True when the blob is there (and therefore whole)."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of the blob; NotFound without it."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise self._missing(digest) from None

    def open(self, digest: str) -> BinaryIO:
        """The blob opened for reading, unbuffered."""
        try:
            return self.path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise self._missing(digest) from None

    def read(self, digest: str, limit: int) -> bytes:
        """The whole blob, refused above ``limit`` bytes."""
        if self.size(digest) > limit:
            raise InvalidInput(f"blob {digest} is larger than {limit} bytes")
        return self.path(digest).read_bytes()

    @staticmethod
    def _missing(digest: str) -> NotFound:
        return NotFound(f"blob {digest} is not in the content store", hint="pull the image again")

    def put(self, data: bytes) -> str:
        """Store ``data``; returns its digest."""
        digest = digest_of(data)
        if not self.has(digest):
            with self.ingest(digest, len(data)) as writer:
                writer.restart()
                writer.write(data)
                writer.commit()
        return digest

    def ingest(self, digest: str = "", size: int | None = None) -> Ingest:
        """Begin to write a blob, or go on where an interrupted download of it stopped.

        With an empty ``digest`` the content decides (see ``Ingest.commit``).
        """
        return Ingest(self, self._tmp, digest, size)

    def publish(self, temporary: Path, digest: str) -> None:
        """Give a synced file its name; for :class:`Ingest`."""
        temporary.chmod(0o444)
        os.replace(temporary, self.path(digest))
        directory = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def digests(self) -> Iterator[str]:
        """All blobs, in no order."""
        for entry in os.scandir(self._blobs):
            digest = f"sha256:{entry.name}"
            if is_digest(digest):
                yield digest

    def disk_usage(self) -> int:
        """Bytes of all blobs and partial downloads."""
        total = 0
        for directory in (self._blobs, self._tmp):
            for entry in os.scandir(directory):
                if entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
        return total

    def remove(self, digest: str) -> int:
        """Remove one blob; its size, 0 when it was not there."""
        path = self.path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def collect(self, keep: Collection[str], *, partial: bool = False) -> Collected:
        """Remove every blob not in ``keep``; with ``partial`` unfinished downloads too.

        The caller holds off pulls meanwhile, or keeps what they have fetched.
        """
        removed = []
        total = 0
        for digest in list(self.digests()):
            if digest not in keep:
                total += self.remove(digest)
                removed.append(digest)
        if partial:
            total += self._collect_partial()
        return Collected(tuple(removed), total)

    def sweep(self) -> int:
        """Remove what a crash left and no download can resume: for start-up; bytes won back.

        What is named by its digest stays: the next download of it goes on there.
        """
        total = 0
        for entry in list(os.scandir(self._tmp)):
            if not is_digest(f"sha256:{entry.name.removesuffix(_PARTIAL)}"):
                total += _collect_entry(entry)
        return total

    def stage(self) -> Staging:
        """A place for content of which it is not known yet whether it will be kept."""
        return Staging(self, self._tmp)

    def _collect_partial(self) -> int:
        return sum(_collect_entry(entry) for entry in list(os.scandir(self._tmp)))


def _collect_entry(entry: os.DirEntry[str]) -> int:
    """Remove one entry of ``tmp/`` unless somebody is writing it (and holds a lock on it)."""
    if entry.is_dir(follow_symlinks=False):
        return _collect_staging(Path(entry.path))
    fd = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(fd).st_size
        os.unlink(entry.path)
    except BlockingIOError:
        return 0
    finally:
        os.close(fd)
    return size


def _collect_staging(directory: Path) -> int:
    """Remove a staging directory whose process is gone (it holds a lock on it)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        total = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory))
        shutil.rmtree(directory)
    except BlockingIOError:
        return 0
    finally:
        os.close(fd)
    return total


@dataclass(frozen=True, slots=True)
class Staged:
    """Content in a staging directory."""

    path: Path
    digest: str
    size: int


def _full(what: str, error: OSError) -> Exhausted:
    return no_space(what, error) or Exhausted(f"{what}: {error.strerror}")


class Staging:
    """A temporary directory below the store; what is not published vanishes with it."""

    def __init__(self, store: ContentStore, tmp: Path) -> None:
        self._store = store
        self._directory = Path(tempfile.mkdtemp(prefix="stage-", dir=tmp))
        self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._count = 0

    def new_path(self) -> Path:
        """A path nobody uses yet, for a writer of its own (a worker's output)."""
        self._count += 1
        return self._directory / str(self._count)

    def add(self, pieces: Iterable[bytes | memoryview]) -> Staged:
        """Write one blob and hash it."""
        path = self.new_path()
        digest = hashlib.sha256()
        size = 0
        try:
            with path.open("xb") as file:
                for piece in pieces:
                    digest.update(piece)
                    size += file.write(piece)
        except OSError as error:
            raise _full("cannot store content", error) from error
        return Staged(path, f"sha256:{digest.hexdigest()}", size)

    def publish(self, staged: Staged) -> None:
        """Move one staged blob into the store. Its digest must be known to be right."""
        if self._store.has(staged.digest):
            return
        fd = os.open(staged.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._store.publish(staged.path, staged.digest)

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)


class Ingest:
    """One blob being written; a context manager.

    Leaving it without :meth:`commit` keeps what came so far when the digest is
    known, so that the next attempt resumes, and removes it otherwise.
    """

    def __init__(self, store: ContentStore, tmp: Path, digest: str, size: int | None) -> None:
        self._store = store
        self._digest = digest
        self._size = size
        self._hash = hashlib.sha256()
        self.offset = 0
        """Bytes written so far: where a resumed download goes on."""
        self._committed = False
        name = digest.removeprefix("sha256:") if digest else secrets.token_hex(16)
        if digest:
            store.path(digest)  # refuses what is no digest
        self._path = tmp / f"{name}{_PARTIAL}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Another process fetches the same blob: write a copy of our own.
            os.close(self._fd)
            self._path = tmp / f"{name}.{secrets.token_hex(8)}{_PARTIAL}"
            self._fd = os.open(self._path, flags | os.O_EXCL, 0o600)
        self._resume()

    def _resume(self) -> None:
        while data := os.read(self._fd, _CHUNK):
            self._hash.update(data)
            self.offset += len(data)
        if self._size is not None and self.offset > self._size:
            self.restart()

    def restart(self) -> None:
        """Throw away what is there (a server that cannot resume, a wrong digest)."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.offset = 0

    def write(self, data: bytes) -> None:
        """Append ``data``; refused as soon as it is more than the announced size."""
        if self._size is not None and self.offset + len(data) > self._size:
            self.restart()
            raise InvalidInput(
                f"blob {self._digest or '(new)'} refused: it is larger than the announced "
                f"{self._size} bytes"
            )
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            # A file system that is full is no place for what may be wanted later.
            self.restart()
            raise _full(f"cannot store blob {self._digest}", error) from error
        self._hash.update(data)
        self.offset += len(data)

    def commit(self) -> str:
        """Verify size and digest, sync, and publish; returns the digest."""
        if self._size is not None and self.offset != self._size:
            raise InvalidInput(
                f"blob {self._digest or '(new)'} refused: {self.offset} bytes came, "
                f"{self._size} were announced"
            )
        actual = f"sha256:{self._hash.hexdigest()}"
        if self._digest and actual != self._digest:
            self.restart()
            raise InvalidInput(
                f"blob {self._digest} refused: its content has digest {actual}",
                hint="the registry or the archive is damaged or tampered with",
            )
        os.fsync(self._fd)
        self._store.publish(self._path, actual)
        self._committed = True
        return actual

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._committed and (not self._digest or self.offset == 0):
            self._path.unlink(missing_ok=True)
        os.close(self._fd)
