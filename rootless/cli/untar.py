"""Unpacks a container's archive below a local directory, by descriptors only.

The archive is untrusted. Every name is walked one component at a time from the
destination's descriptor with ``O_NOFOLLOW`` (the parents must be directories,
never links), so nothing is written outside: not through ``..``, an absolute
name, a link in the archive, or a link that somebody puts there meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterator

from rootless.errors import InvalidInput, RootlessError

_CHUNK = 256 * 1024
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Placement:
    """Where the archive goes: an existing directory and, perhaps, the top entry's new name.

    ``contents`` drops the top directory itself (``cp CONTAINER:DIR/. TARGET``), which
    an archive of ``DIR/.`` calls ``.``. ``asked`` is the name that was asked for, '' when
    it is not known: an archive with another at its top could put a ``.bashrc``
    into the home directory somebody copies to.
    """

    __slots__ = ("asked", "contents", "directory", "name")

    def __init__(
        self, directory: str, name: str, *, contents: bool = False, asked: str = ""
    ) -> None:
        self.directory = directory
        self.name = name
        self.contents = contents
        self.asked = asked


class _Stream:
    """Byte chunks as the file object that tarfile reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            piece = next(self._chunks, b"")
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        if size < 0:
            self._rest = b""
            return data
        self._rest = data[size:]
        return data[:size]


def extract(chunks: Iterator[bytes], placement: Placement, *, owners: bool) -> None:
    """Unpack all entries; ``InvalidInput`` names the entry that is refused."""
    root = os.open(placement.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        stream = _Stream(chunks)
        try:
            with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8") as archive:  # type: ignore[call-overload]  # read() is all that tarfile calls
                unpacker = _Unpacker(root, placement, archive, owners=owners)
                for entry in archive:
                    unpacker.entry(entry)
                unpacker.finish()
        except tarfile.TarError as error:
            raise InvalidInput(f"the daemon's archive is damaged: {error}") from None
    finally:
        os.close(root)


class _Unpacker:
    def __init__(
        self, root: int, placement: Placement, archive: tarfile.TarFile, *, owners: bool
    ) -> None:
        self.root = root
        self.placement = placement
        self.archive = archive
        self.owners = owners and os.geteuid() == 0
        self.modes: list[tuple[list[str], int, float]] = []

    def parts(self, name: str) -> list[str]:
        """The components under the destination; the top one renamed."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise InvalidInput(f"the archive holds a path that leads outside: {name!r}")
        place = self.placement
        if not parts:
            return [place.name] if place.name else []
        if place.contents:
            inner = parts if name.startswith("./") else parts[1:]
            return ([place.name] if place.name else []) + inner
        if place.asked and parts[0] != place.asked:
            raise InvalidInput(f"the archive holds {name!r}, and {place.asked!r} was asked for")
        if place.name:
            return [place.name, *parts[1:]]
        return parts

    def entry(self, entry: tarfile.TarInfo) -> None:
        parts = self.parts(entry.name)
        if not parts:
            return
        if entry.isdir():
            if parts == [self.placement.name]:
                self._check_top(parts[0])
            os.close(self._walk(parts, make=True))
            self.modes.append((parts, entry.mode & 0o777, entry.mtime))
            return
        parent = self._walk(parts[:-1], make=True)
        try:
            self._leaf(parent, parts[-1], entry)
        except OSError as error:
            raise RootlessError(f"cannot write {entry.name}: {error.strerror}") from None
        finally:
            os.close(parent)

    def _check_top(self, name: str) -> None:
        """The new name of a directory may be taken by a directory only."""
        try:
            info = os.stat(name, dir_fd=self.root)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(info.st_mode):
            raise InvalidInput(f"cannot copy a directory to the file {name}")

    def _walk(self, parts: list[str], *, make: bool) -> int:
        fd = os.dup(self.root)
        for part in parts:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=fd)
                inner = os.open(part, _DIR, dir_fd=fd)
            except OSError as error:
                path = "/".join(parts)
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise InvalidInput(
                        f"refusing to write through {part!r} in {path!r}: not a directory"
                    ) from None
                raise RootlessError(f"cannot write {path}: {error.strerror}") from None
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _leaf(self, parent: int, name: str, entry: tarfile.TarInfo) -> None:
        if entry.isreg():
            self._file(parent, name, entry)
        elif entry.issym():
            _remove(parent, name)
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif entry.islnk():
            self._hard_link(parent, name, entry)
        elif entry.isfifo():
            _remove(parent, name)
            os.mkfifo(name, entry.mode & 0o777, dir_fd=parent)
        else:
            return  # devices: an unprivileged user cannot make them
        # A hard link has the owner of what it links to, which may have been here before.
        if self.owners and not entry.islnk():
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)

    def _file(self, parent: int, name: str, entry: tarfile.TarInfo) -> None:
        _remove(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            source = self.archive.extractfile(entry)
            if source is None:
                raise InvalidInput(f"the archive's entry {entry.name!r} has no content")
            while piece := source.read(_CHUNK):
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            # Set-user-id and set-group-id would hand the container's choice to our user.
            os.fchmod(fd, entry.mode & 0o777)
            os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, parent: int, name: str, entry: tarfile.TarInfo) -> None:
        target = self.parts(entry.linkname)
        if not target:
            raise InvalidInput(f"the archive's hard link {entry.name!r} points nowhere")
        source = self._walk(target[:-1], make=False)
        try:
            _remove(parent, name)
            # follow_symlinks=False is linkat's default: a link itself, never what it points to.
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def finish(self) -> None:
        """Directories get their modes last, innermost first, or nothing could be put in them."""
        for parts, mode, mtime in reversed(self.modes):
            fd = self._walk(parts, make=False)
            try:
                os.fchmod(fd, mode)
                os.utime(fd, (mtime, mtime))
            finally:
                os.close(fd)


def _remove(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.EPERM):
            raise InvalidInput(f"cannot overwrite the directory {name!r} with a file") from None
        raise
