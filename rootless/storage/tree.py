"""What runs inside the engine's user namespace through the launcher's ``call``.

Arguments and results are JSON values; names that are no UTF-8 travel as
surrogates (``os.fsdecode``). Light imports only: the launcher has loaded all of
this before its first request.
"""

from __future__ import annotations

import fcntl
import os
import stat
from binascii import crc32
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from rootless.archive.limits import IdShift
from rootless.errors import InvalidInput, RootlessError, SyscallError
from rootless.linux import sync
from rootless.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from rootless.linux.rootfs import open_dir
from rootless.model.mounts import IdMap, RootfsMount
from rootless.storage import changes as _changes
from rootless.storage import drivers, merged, ownership, walk, whiteouts
from rootless.storage.copy import Copier, copy_metadata
from rootless.storage.shift import of_maps

Json = Any
"""A JSON value; what it holds is said where it is used."""


def rootfs_to_json(mount: RootfsMount) -> dict[str, Json]:
    """``mount`` as JSON values."""
    return asdict(mount)


def rootfs_from_json(value: Mapping[str, Json] | RootfsMount) -> RootfsMount:
    """The inverse of :func:`rootfs_to_json`; a RootfsMount passes through."""
    if isinstance(value, RootfsMount):
        return value
    fields = dict(value)
    fields["lowers"] = tuple(fields["lowers"])
    fields["id_maps"] = tuple(IdMap(**item) for item in fields.get("id_maps", ()))
    return RootfsMount(**fields)


def make_container_dirs(mount: Mapping[str, Json] | RootfsMount) -> None:
    """Make what the graph driver needs; the container's directory exists already."""
    parsed = rootfs_from_json(mount)
    drivers.get(parsed.driver).prepare(parsed)


def sync_layer(path: str) -> None:
    """Make the unpacked layer at ``path`` durable, before ``LayerStore.commit`` renames it."""
    root = _open_readable(path)
    try:
        sync.syncfs(root, path)
    finally:
        os.close(root)


def remove_tree(path: str) -> None:
    """Remove ``path`` with everything below, whatever its modes, owners and depth.

    Absent is fine. Raises Conflict when something is mounted there.
    """
    directory, _, name = path.rstrip("/").rpartition("/")
    if not directory or name in ("", ".", ".."):
        raise InvalidInput(f"not a path to remove: {path!r}")
    try:
        parent = open_dir(directory, "directory")
    except SyscallError as error:
        if not os.path.lexists(directory):
            return
        raise error from None
    try:
        walk.remove(parent, os.fsencode(name))
    finally:
        os.close(parent)


def housekeep(make: Sequence[Mapping[str, Json]], remove: Sequence[str]) -> dict[str, str]:
    """:func:`make_container_dirs` and :func:`remove_tree` for many.

    What failed does not keep the others; returned is why, by ``upper`` or path.
    """
    failed = {}
    for mount in make:
        try:
            make_container_dirs(mount)
        except (RootlessError, OSError) as error:
            failed[str(mount["upper"])] = str(error)
    for path in remove:
        try:
            remove_tree(path)
        except (RootlessError, OSError) as error:
            failed[path] = str(error)
    return failed


def tree_sizes(paths: list[str]) -> int:
    """The ``bytes`` of :func:`tree_size` of several trees together."""
    return sum(tree_size(path)["bytes"] for path in paths)


def tree_size(path: str) -> dict[str, int]:
    """``bytes`` (apparent sizes of all but directories, hard links once) and ``files``.

    An absent tree has none of either.
    """
    walk.raise_open_limit()
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {"bytes": 0, "files": 0}
    except OSError as error:
        raise SyscallError("open", path, error.errno or 0) from None
    seen: set[tuple[int, int]] = set()
    size = files = 0
    try:
        for _, _fd, entries in walk.walk(root):
            for _name, status in entries:
                files += 1
                key = (status.st_dev, status.st_ino)
                if stat.S_ISDIR(status.st_mode) or (status.st_nlink > 1 and key in seen):
                    continue
                if status.st_nlink > 1:
                    seen.add(key)
                size += status.st_size
    finally:
        os.close(root)
    return {"bytes": size, "files": files}


def changes(mount: Mapping[str, Json] | RootfsMount, ignore: Sequence[str] = ()) -> list[list[str]]:
    """``[kind, path]`` pairs as ``docker diff`` lists them, sorted by path.

    ``ignore`` are absolute container paths of mount points the engine made.
    """
    walk.raise_open_limit()
    parsed = rootfs_from_json(mount)
    form = whiteouts.of_driver(parsed.driver)
    with (
        merged.open_union([parsed.upper], form) as upper,
        merged.open_union(parsed.lowers) as lower,
    ):
        found = _changes.changes(upper, lower, [os.fsencode(path) for path in ignore])
    return [[change.kind, os.fsdecode(change.path)] for change in found]


def make_volume(path: str) -> None:
    """The data directory of a new volume: mode 0755, owned by image root (engine id 1)."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise SyscallError("mkdir", path, error.errno or 0) from None
    os.chown(path, 1, 1)
    os.chmod(path, 0o755)  # noqa: S103 - below the private data root; containers must enter


def copy_up(lowers: Sequence[str], path: str, volume: str, subpath: str = "") -> bool:
    """Fill the empty volume directory ``volume`` with the image's directory ``path``.

    The volume's root takes owner, mode and attributes of the image's directory.
    False when the volume is not empty or the image has no such directory. Ids,
    attributes, times, hard links, symlinks and holes are kept. The copy is made
    beside the volume and moved into it when complete; a call that was
    interrupted is finished by the next. Calls for one volume exclude each other.
    With ``subpath`` that directory of the volume is filled; False when it is none.
    """
    walk.raise_open_limit()
    with ExitStack() as stack:
        top = _open_readable(volume)
        stack.callback(os.close, top)
        fcntl.flock(top, fcntl.LOCK_EX)
        target = top
        if subpath:
            try:
                target = openat2(
                    top,
                    subpath,
                    os.O_RDONLY | os.O_DIRECTORY,
                    resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
                )
            except SyscallError:
                return False  # a file, or what the start refuses
            stack.callback(os.close, target)
        mark = f"-{crc32(os.fsencode(subpath)):08x}-{len(subpath)}" if subpath else ""
        filled, copying = f"{volume}.filled{mark}", f"{volume}.copying{mark}"
        if not os.path.isdir(filled):
            if walk.entries(target) or not _copy_beside(lowers, path, copying):
                return False
            os.rename(copying, filled)
        source = _open_readable(filled)
        stack.callback(os.close, source)
        for name, _ in walk.entries(source):
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        copy_metadata(source, target)
        os.rmdir(filled)
    return True


def shift_ids(
    path: str,
    before: Sequence[IdMap | Mapping[str, Json]],
    after: Sequence[IdMap | Mapping[str, Json]],
) -> int:
    """Hand the tree ``path`` from one container's id range to another's; files changed.

    ``before`` and ``after`` are id maps as in ``RootfsMount.id_maps``; an empty
    one stands for the form of layers and of ``shared`` containers (image id + 1).
    For volumes of a container in mode ``auto``, which no mount maps. Ids of
    neither range stay. The ranges are disjoint, so a call that was interrupted
    is finished by calling again. Nothing may use the tree meanwhile.
    """
    walk.raise_open_limit()
    from_disk, to_disk = _shift(before), _shift(after)
    root = _open_readable(path)
    try:
        changed = int(ownership.shift(root, b".", from_disk, to_disk))
        for _, directory, entries in walk.walk(root):
            for name, _status in entries:
                changed += ownership.shift(directory, name, from_disk, to_disk)
    finally:
        os.close(root)
    return changed


def _shift(maps: Sequence[IdMap | Mapping[str, Json]]) -> IdShift:
    return of_maps([m if isinstance(m, IdMap) else IdMap(**m) for m in maps])


def _copy_beside(lowers: Sequence[str], path: str, partial: str) -> bool:
    remove_tree(partial)
    with merged.open_union(lowers) as root, ExitStack() as stack:
        source = root
        if any(part not in ("", ".") for part in path.split("/")):
            result = merged.resolve(root, path, stack)
            if result is None or not result[0].levels:
                return False
            source = merged.enter(result[0], result[1], stack)
        os.mkdir(partial, 0o700)
        copy = _open_readable(partial)
        stack.callback(os.close, copy)
        Copier(copy).tree(source)
    return True


def _open_readable(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SyscallError("open", path, error.errno or 0) from None
