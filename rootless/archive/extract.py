"""Unpacking an untrusted tar stream below a directory descriptor.

Runs in the engine's user namespace (root there, nobody on the host).  Nothing
outside ``dest`` can be touched: every directory is opened by openat2(2) beneath
it without following symlinks, every object is created with its last component
only, in such a directory, exclusively and without following.  The checks and
the acts are the same system calls, so there is no race to win.

Set-user-id bits are kept: the owner is a subordinate id, never the user (a file
that would belong to engine id 0 loses them), and the data root is 0700, so
nobody outside a container can reach the file to run it.  Device nodes are not
made (the kernel would refuse in a user namespace) but recorded; that includes
character device 0/0, which overlayfs takes for a whiteout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from dataclasses import dataclass
from typing import Literal

from rootless.archive import directories, header, whiteout, xattrs
from rootless.archive.directories import Directories
from rootless.archive.header import Header
from rootless.archive.limits import DEFAULT_LIMITS, LAYER_SHIFT, IdShift, Limits
from rootless.archive.names import clean, refuse, show
from rootless.archive.reader import Readable, TarReader
from rootless.archive.whiteout import WhiteoutWriter
from rootless.errors import HostUnsupported, InvalidInput, RootlessError, SyscallError, no_space

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_RECORDED = 1000
_MAX_LINK = 4095
_SET_IDS = stat.S_ISUID | stat.S_ISGID

Existing = Literal["refuse", "replace", "keep-type"]
"""What happens when an entry's name is taken.

``refuse``
    layers: a directory may come again and a regular file may replace a regular
    file; every other repetition is an attempt to swap types and is refused.
``replace``
    into a container: whatever is there is removed first (never followed).
``keep-type``
    the same, but a directory never replaces another type or the reverse
    (Docker's noOverwriteDirNonDir).
"""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What an extraction did; the lists hold the first thousand."""

    bytes: int
    """Bytes of file content written."""
    entries: int
    max_id: int
    """Highest user or group id of the image that owns something."""
    skipped_devices: tuple[str, ...] = ()
    dropped_xattrs: tuple[str, ...] = ()
    """As ``entry: attribute``."""


def extract(
    stream: Readable,
    dest: int,
    *,
    shift: IdShift = LAYER_SHIFT,
    whiteouts: WhiteoutWriter | None = None,
    limits: Limits = DEFAULT_LIMITS,
    existing: Existing = "refuse",
    follow_parents: bool = False,
    root_metadata: bool = True,
    owner: tuple[int, int] | None = None,
) -> Extracted:
    """Unpack ``stream`` (an uncompressed tar) into the directory descriptor ``dest``.

    ``whiteouts`` None makes ``.wh.`` names plain files.  ``follow_parents``
    resolves symlinked parents inside ``dest`` instead of refusing them, and takes
    absolute names as relative to it, for copies into a container.
    ``root_metadata`` lets the archive's entry for its root change ``dest``'s
    owner, mode and time.  ``owner`` (image ids) replaces every owner.  Reads the
    stream to its end.

    Raises InvalidInput naming the entry for everything untrustworthy, Exhausted
    when the disk is full, HostUnsupported when an id is not mapped.
    """
    options = _Options(shift, whiteouts, limits, existing, follow_parents, root_metadata, owner)
    worker = _Extractor(stream, dest, options)
    try:
        return worker.run()
    finally:
        worker.close()


@dataclass(frozen=True, slots=True)
class _Options:
    shift: IdShift
    whiteouts: WhiteoutWriter | None
    limits: Limits
    existing: Existing
    follow_parents: bool
    root_metadata: bool
    owner: tuple[int, int] | None


class _Extractor:
    def __init__(self, stream: Readable, dest: int, options: _Options) -> None:
        self._reader = TarReader(stream, options.limits)
        self._dest = dest
        self._shift = options.shift
        self._whiteouts = options.whiteouts
        self._limits = options.limits
        self._existing = options.existing
        self._root_metadata = options.root_metadata
        self._owner = options.owner
        self._into_container = options.follow_parents
        self._dirs = Directories(dest, follow=options.follow_parents)
        self._times: dict[bytes, int] = {}
        self._removed: set[bytes] = set()
        self._written = 0
        self._max_id = 0
        self._devices: list[str] = []
        self._dropped: list[str] = []

    def close(self) -> None:
        self._dirs.forget()

    def run(self) -> Extracted:
        reader = self._reader
        while (entry := reader.next()) is not None:
            raw = entry.name
            if self._into_container:  # docker compose sends inline configs with absolute names
                raw = raw.lstrip(b"/") or raw
            name = clean(raw, self._limits)
            try:
                self._entry(name, entry)
            except OSError as error:
                raise self._explain(entry, error.errno or 0) from error
            except SyscallError as error:
                raise self._explain(entry, error.errno) from error
        reader.drain()
        self._set_times()
        return Extracted(
            bytes=self._written,
            entries=reader.entries,
            max_id=self._max_id,
            skipped_devices=tuple(self._devices),
            dropped_xattrs=tuple(self._dropped),
        )

    def _explain(self, entry: Header, code: int) -> RootlessError:
        name = entry.name
        if code == errno.ELOOP:
            return refuse(name, "one of its parent directories is a symbolic link")
        if code in (errno.ENOTDIR, errno.EXDEV):
            return refuse(name, "one of its parent directories is not a directory")
        full = no_space(f"unpacking '{show(name)}'", OSError(code, ""))
        if full is not None:
            return full
        if code in (errno.EINVAL, errno.EOVERFLOW):
            return HostUnsupported(
                f"cannot store '{show(name)}' with owner {entry.uid}:{entry.gid}: "
                "the id is not in this user's subordinate range",
                hint="sudo rootless setup (widens /etc/subuid and /etc/subgid)",
            )
        if code in (errno.ENAMETOOLONG, errno.EILSEQ):
            return refuse(name, os.strerror(code))
        return SyscallError("unpack", show(name), code)

    # One entry -----------------------------------------------------------

    def _entry(self, name: bytes, entry: Header) -> None:
        if not name:
            self._root(entry)
            return
        parent_path, _, base = name.rpartition(b"/")
        if self._whiteouts is not None and b".wh." in name and self._whiteout(name, entry):
            return
        parent = self._parent(parent_path)
        kind = entry.kind
        if kind in header.REGULAR or kind == header.SPARSE:
            self._regular(parent, name, base, entry)
        elif kind == header.DIRECTORY:
            self._directory(parent, name, base, entry)
        elif kind == header.SYMLINK:
            self._symlink(parent, name, base, entry)
        elif kind == header.LINK:
            self._hard_link(name, base, entry)
        elif kind == header.FIFO:
            self._fifo(parent, name, base, entry)
        elif len(self._devices) < _MAX_RECORDED:
            self._devices.append(show(name))

    def _root(self, entry: Header) -> None:
        if entry.kind != header.DIRECTORY:
            raise refuse(entry.name, "the root of an archive must be a directory")
        if self._root_metadata:
            self._finish(self._dest, entry)
            self._times[b""] = entry.mtime_ns

    def _parent(self, path: bytes) -> int:
        try:
            return self._dirs.get(path)
        except SyscallError as error:
            if error.errno != errno.ENOENT and not self._below_whiteout(path):
                raise
        # Like Docker: parents an archive does not have belong to root, mode 0755.
        above, _, base = path.rpartition(b"/")
        parent = self._parent(above)
        with contextlib.suppress(FileExistsError):
            self._free_name(parent, path)
            os.mkdir(base, 0o700, dir_fd=parent)
            fd = self._dirs.open_child(parent, base)
            try:
                uid, gid = self._owner or (0, 0)
                os.fchown(fd, self._shift.to_engine(uid), self._shift.to_engine(gid))
                os.fchmod(fd, 0o755)
                self._after_whiteout(fd, path)
            except BaseException:
                os.close(fd)
                raise
            self._dirs.keep(path, fd)
        return self._dirs.get(path)

    def _below_whiteout(self, path: bytes) -> bool:
        """True when the layer first removed ``path`` or a parent of it: it makes it anew."""
        while path and path not in self._removed:
            path = path.rpartition(b"/")[0]
        return bool(path)

    # Names that are taken -------------------------------------------------

    def _free_name(self, parent: int, name: bytes) -> None:
        """Remove a whiteout this layer wrote for ``name``: now the layer has it itself."""
        if name in self._removed:
            os.unlink(name.rpartition(b"/")[2], dir_fd=parent)

    def _after_whiteout(self, directory: int, name: bytes) -> None:
        """A directory that takes a whiteout's place still hides what lies below."""
        if name in self._removed:
            self._removed.discard(name)
            assert self._whiteouts is not None
            self._whiteouts.opaque(directory)

    def _make_room(self, parent: int, name: bytes, base: bytes, entry: Header) -> None:
        """``name`` exists and is about to be made again."""
        if name in self._removed:
            self._free_name(parent, name)
            self._removed.discard(name)
            return
        mode = os.lstat(base, dir_fd=parent).st_mode
        if self._existing == "refuse":
            regular = entry.kind in header.REGULAR or entry.kind == header.SPARSE
            if not (stat.S_ISREG(mode) and regular):
                raise refuse(entry.name, "an earlier entry has the same name")
        elif self._existing == "keep-type" and (
            stat.S_ISDIR(mode) != (entry.kind == header.DIRECTORY)
        ):
            old, new = ("directory", "non-directory")[:: 1 if stat.S_ISDIR(mode) else -1]
            raise refuse(entry.name, f"cannot overwrite {old} with {new}")
        directories.remove(parent, base)
        self._dirs.forget()
        self._forget_times(name)

    def _forget_times(self, name: bytes) -> None:
        below = name + b"/"
        for path in [p for p in self._times if p == name or p.startswith(below)]:
            del self._times[path]

    def _again(self, parent_name: bytes, name: bytes, base: bytes, entry: Header) -> int:
        """Free a taken name; the parent is opened again because the cache was emptied."""
        self._make_room(self._parent(parent_name), name, base, entry)
        return self._parent(parent_name)

    # Kinds ----------------------------------------------------------------

    def _regular(self, parent: int, name: bytes, base: bytes, entry: Header) -> None:
        try:
            fd = os.open(base, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            parent = self._again(name.rpartition(b"/")[0], name, base, entry)
            fd = os.open(base, _CREATE, 0o600, dir_fd=parent)
        try:
            if entry.segments is None:
                if entry.size:
                    self._copy(fd, entry.size)
            else:
                for offset, length in entry.segments:
                    os.lseek(fd, offset, os.SEEK_SET)
                    self._copy(fd, length)
                os.ftruncate(fd, entry.real_size)
            self._finish(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _copy(self, fd: int, size: int) -> None:
        for piece in self._reader.data(size):
            view = piece
            while view:
                view = view[os.write(fd, view) :]
        self._written += size

    def _directory(self, parent: int, name: bytes, base: bytes, entry: Header) -> None:
        fd = -1
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            is_directory = stat.S_ISDIR(os.lstat(base, dir_fd=parent).st_mode)
            if not is_directory or name in self._removed:
                removed = name in self._removed
                parent = self._again(name.rpartition(b"/")[0], name, base, entry)
                os.mkdir(base, 0o700, dir_fd=parent)
                if removed:
                    self._removed.add(name)
        fd = self._dirs.open_child(parent, base)
        try:
            self._after_whiteout(fd, name)
            self._finish(fd, entry)
        except BaseException:
            os.close(fd)
            raise
        self._dirs.keep(name, fd)
        self._times[name] = entry.mtime_ns

    def _link_target(self, entry: Header) -> bytes:
        target = entry.link
        if not target:
            raise refuse(entry.name, "its link target is empty")
        if b"\0" in target or len(target) > _MAX_LINK:
            raise refuse(entry.name, "its link target is not a path")
        return target

    def _symlink(self, parent: int, name: bytes, base: bytes, entry: Header) -> None:
        target = self._link_target(entry)
        try:
            os.symlink(target, base, dir_fd=parent)
        except FileExistsError:
            if not self._is_symlink_to(parent, base, target):
                parent = self._again(name.rpartition(b"/")[0], name, base, entry)
                os.symlink(target, base, dir_fd=parent)
        uid, gid = self._ids(entry)
        os.chown(base, uid, gid, dir_fd=parent, follow_symlinks=False)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(base, ns=times, dir_fd=parent, follow_symlinks=False)

    @staticmethod
    def _is_symlink_to(parent: int, base: bytes, target: bytes) -> bool:
        try:
            return os.readlink(base, dir_fd=parent) == target
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False

    def _hard_link(self, name: bytes, base: bytes, entry: Header) -> None:
        # kaniko writes absolute targets; both forms are relative to the archive's root.
        target = clean(self._link_target(entry).lstrip(b"/"), self._limits, entry=entry.name)
        target_parent, _, target_base = target.rpartition(b"/")
        if target == name:
            raise refuse(entry.name, "it is a hard link to itself")
        try:
            source = self._dirs.get(target_parent)
            mode = os.lstat(target_base, dir_fd=source).st_mode
        except (FileNotFoundError, NotADirectoryError, SyscallError) as error:
            raise refuse(
                entry.name, f"its hard link target '{show(entry.link)}' is not in the archive"
            ) from error
        if stat.S_ISDIR(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise refuse(entry.name, f"its hard link target '{show(entry.link)}' is not a file")
        # The second lookup may push the first out of the cache: hold a copy.
        origin = os.dup(source)
        try:
            self._link(origin, target_base, name, base, _as_target(entry, mode))
        finally:
            os.close(origin)

    def _link(self, origin: int, target: bytes, name: bytes, base: bytes, entry: Header) -> None:
        parent_path = name.rpartition(b"/")[0]
        parent = self._parent(parent_path)
        try:
            os.link(target, base, src_dir_fd=origin, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            parent = self._again(parent_path, name, base, entry)
            os.link(target, base, src_dir_fd=origin, dst_dir_fd=parent, follow_symlinks=False)

    def _fifo(self, parent: int, name: bytes, base: bytes, entry: Header) -> None:
        try:
            os.mkfifo(base, 0o600, dir_fd=parent)
        except FileExistsError:
            parent = self._again(name.rpartition(b"/")[0], name, base, entry)
            os.mkfifo(base, 0o600, dir_fd=parent)
        # Not O_PATH, which fchmod(2) refuses; without blocking, a reader needs no writer (fifo(7)).
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(base, flags, dir_fd=parent)
        try:
            os.fchown(fd, *self._ids(entry))
            os.fchmod(fd, entry.mode & 0o777)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _whiteout(self, name: bytes, entry: Header) -> bool:
        """Handle ``name`` if it is a whiteout; False when it is an ordinary entry."""
        assert self._whiteouts is not None
        parent_path, _, base = name.rpartition(b"/")
        if any(p.startswith(whiteout.META_PREFIX) for p in name.split(b"/")[:-1]):
            return True  # aufs bookkeeping (.wh..wh.plnk/…), which Docker skips as well
        if any(p.startswith(whiteout.PREFIX) for p in name.split(b"/")[:-1]):
            raise refuse(entry.name, "it lies below a whiteout")
        if not base.startswith(whiteout.PREFIX):
            return False
        if base == whiteout.OPAQUE:
            self._whiteouts.opaque(self._parent(parent_path))
            return True
        if base.startswith(whiteout.META_PREFIX):
            return True
        hidden = base[len(whiteout.PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise refuse(entry.name, "its whiteout names nothing")
        self._hide(parent_path, hidden)
        return True

    def _hide(self, parent_path: bytes, hidden: bytes) -> None:
        assert self._whiteouts is not None
        path = parent_path + b"/" + hidden if parent_path else hidden
        parent = self._parent(parent_path)
        if path in self._removed:
            return
        try:
            mode = os.lstat(hidden, dir_fd=parent).st_mode
        except FileNotFoundError:
            self._whiteouts.remove(parent, hidden)
            self._removed.add(path)
            return
        # Whiteouts apply to lower layers only (OCI layer.md); this layer's own file
        # hides the lower one already, a directory must be told to.
        if stat.S_ISDIR(mode):
            self._whiteouts.opaque(self._dirs.get(path))

    # Metadata --------------------------------------------------------------

    def _ids(self, entry: Header) -> tuple[int, int]:
        uid, gid = self._owner or (entry.uid, entry.gid)
        self._max_id = max(self._max_id, uid, gid)
        return self._shift.to_engine(uid), self._shift.to_engine(gid)

    def _finish(self, fd: int, entry: Header) -> None:
        """Owner, mode and attributes; in this order, because chown clears bits and capabilities."""
        uid, gid = self._ids(entry)
        os.fchown(fd, uid, gid)
        mode = entry.mode
        if not self._shift.inside:
            # A set-id file of engine id 0 would run as the user.
            if uid == 0:
                mode &= ~stat.S_ISUID
            if gid == 0 and entry.kind != header.DIRECTORY:
                mode &= ~stat.S_ISGID
        os.fchmod(fd, mode)
        if entry.xattrs:
            self._set_xattrs(fd, entry)

    def _set_xattrs(self, fd: int, entry: Header) -> None:
        for key, raw in entry.xattrs.items():
            value = xattrs.to_disk(key, raw, self._shift)
            stored = False
            if value is not None:
                try:
                    os.setxattr(fd, key, value)
                    stored = True
                except OSError as error:
                    if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.E2BIG, errno.ERANGE):
                        raise
            if not stored and len(self._dropped) < _MAX_RECORDED:
                self._dropped.append(f"{show(entry.name)}: {show(key)}")

    def _set_times(self) -> None:
        """Directory times last: every entry made in one changed it."""
        for path, nanoseconds in self._times.items():
            try:
                os.utime(self._dirs.get(path), ns=(nanoseconds, nanoseconds))
            except SyscallError as error:
                raise InvalidInput(f"directory '{show(path)}' vanished while unpacking") from error


def _as_target(entry: Header, mode: int) -> Header:
    """A hard link takes a name as the kind of file it leads to."""
    kind = ord("0") if stat.S_ISREG(mode) else header.SYMLINK
    return dataclasses.replace(entry, kind=kind)
