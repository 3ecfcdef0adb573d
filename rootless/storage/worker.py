"""File operations as a program, started by the launcher's ``spawn`` in the engine's namespace.

``OPERATION JSON`` are its arguments (:func:`command`), with the archive on
standard input or output and the report, one JSON object, on descriptor 3:
``{"result": …}`` or ``{"error": message, "code": …, "hint": …}``. Exit status 0 or 1.

The JSON names the root: ``pid`` and ``start`` (``procfs.start_time``) of a
running container's first process, or ``mount`` (a RootfsMount) of a stopped
one; with ``pid`` as well, ``mount`` still tells the ids. ``volumes`` (objects
with source, subpath, target and read_only) are mounted into a stopped one.
Operations: ``stat`` (path), ``read`` (path), ``write`` (path,
no_overwrite_dir_non_dir, owner), ``export`` (ignore), ``diff`` (ignore; needs
``mount``, wants no ``volumes``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import BinaryIO, Literal

from rootless.archive.limits import LAYER_SHIFT, IdShift
from rootless.errors import InvalidInput, NotFound, RootlessError
from rootless.linux import inroot, isolated, mounts, openat2, process, procfs, rootfs
from rootless.storage import files, shift, tree, walk
from rootless.storage.tree import Json

REPORT_FD = 3
_FIELDS = Mapping[str, Json]


def command(operation: str, fields: _FIELDS) -> list[str]:
    """The argument vector for ``spawn``; ``mount`` in ``fields`` is ``tree.rootfs_to_json``'s."""
    return isolated.command("rootless.storage.worker", [operation, json.dumps(fields)])


@contextmanager
def open_root(fields: _FIELDS) -> Iterator[int]:
    """The container's root: through its process when it runs, else mounted for the purpose."""
    if fields.get("pid"):
        fd = _running_root(int(fields["pid"]), int(fields.get("start", 0)))
        try:
            yield fd
        finally:
            os.close(fd)
        return
    mount = tree.rootfs_from_json(fields["mount"])
    mounted = rootfs.mount_rootfs(mount)
    place = os.path.dirname(mount.upper)
    volumes = fields.get("volumes", ())
    try:
        if volumes:
            _attach(mounted.fd, place, volumes)
        yield mounted.fd
    finally:
        os.close(mounted.fd)
        if volumes:
            mounts.umount(place)
        if mounted.server_pid is not None:
            # The mount is gone with its last user, so the server finishes writing and ends.
            os.waitpid(mounted.server_pid, 0)


def _attach(root: int, place: str, volumes: Sequence[_FIELDS]) -> None:
    """Put the container's volumes where they are when it runs, seen by this process only.

    Otherwise a copy into a volume's directory would land under it, out of
    sight. ``place`` is a directory of the engine's own that the root covers.
    """
    process.unshare(process.CLONE_NEWNS, "mount namespace")
    mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
    opened = [(_open_source(v), v) for v in volumes]
    covered = rootfs.open_dir(place, "container directory")
    mounts.move_mount(root, covered, place)
    os.close(covered)
    for source, volume in sorted(opened, key=lambda item: str(item[1]["target"])):
        tree_fd = mounts.clone_tree(source)
        if volume.get("read_only"):
            mounts.set_attributes(tree_fd, add=mounts.MOUNT_ATTR_RDONLY, recursive=True)
        point = inroot.ensure_like(root, volume["target"], source)
        mounts.move_mount(tree_fd, point, volume["target"])
        for fd in (source, tree_fd, point):
            os.close(fd)


def _open_source(volume: _FIELDS) -> int:
    """The volume, or the part of it that is mounted, which must not lead out of it."""
    data = rootfs.open_dir(volume["source"], "volume")
    subpath = volume.get("subpath", "")
    if not subpath:
        return data
    try:
        flags = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_MAGICLINKS
        return openat2.openat2(data, subpath, os.O_PATH, resolve=flags)
    finally:
        os.close(data)


def _running_root(pid: int, start: int) -> int:
    """The root of process ``pid``, proven to be a container's.

    The number may have been given to another process since the container ended,
    and the root of one of the user's own is the host's. Checked after opening:
    a process that lives now as (pid, start) had the number all the time.
    """
    gone = NotFound("the container has stopped meanwhile", hint="try again")
    try:
        fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        raise gone from None
    try:
        foreign = os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
        separate = os.stat(f"/proc/{pid}/ns/mnt").st_ino != os.stat("/proc/self/ns/mnt").st_ino
        same = not start or procfs.is_alive(pid, start)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        foreign = separate = same = False
    if foreign and separate and same:
        return fd
    os.close(fd)
    raise gone


def _shift(fields: _FIELDS) -> IdShift:
    mount = fields.get("mount")
    return shift.of_maps(tree.rootfs_from_json(mount).id_maps) if mount else LAYER_SHIFT


def _stat(fields: _FIELDS) -> Json:
    with open_root(fields) as root:
        return asdict(files.stat_path(root, fields["path"]))


def _read(fields: _FIELDS) -> Json:
    with open_root(fields) as root, _stream(1, "wb") as out:
        skip = files.pseudo_mounts_of(int(fields["pid"])) if fields.get("pid") else ()
        return asdict(
            files.read_archive(root, fields["path"], out, shift=_shift(fields), skip=skip)
        )


def _write(fields: _FIELDS) -> Json:
    owner = fields.get("owner")
    with open_root(fields) as root, _stream(0, "rb") as source:
        done = files.write_archive(
            root,
            fields["path"],
            source,
            shift=_shift(fields),
            no_overwrite_dir_non_dir=bool(fields.get("no_overwrite_dir_non_dir")),
            owner=(owner[0], owner[1]) if owner else None,
        )
    return {"bytes": done.bytes, "entries": done.entries}


def _export(fields: _FIELDS) -> Json:
    pid = fields.get("pid")
    points = files.mount_points_of(pid) if pid else fields.get("ignore", ())
    with open_root(fields) as root, _stream(1, "wb") as out:
        return asdict(files.export(root, out, shift=_shift(fields), mount_points=points))


def _diff(fields: _FIELDS) -> Json:
    mount = tree.rootfs_from_json(fields["mount"])
    with _stream(1, "wb") as out:
        done = files.write_diff(mount, out, ignore=fields.get("ignore", ()), shift=LAYER_SHIFT)
    return asdict(done)


@contextmanager
def _stream(fd: int, mode: Literal["rb", "wb"]) -> Iterator[BinaryIO]:
    with open(os.dup(fd), mode, buffering=1 << 17) as file:
        try:
            yield file
            file.flush()
        except BrokenPipeError:
            raise InvalidInput("the reader of the archive went away") from None


_OPERATIONS: Mapping[str, Callable[[_FIELDS], Json]] = {
    "stat": _stat,
    "read": _read,
    "write": _write,
    "export": _export,
    "diff": _diff,
}


def main(arguments: list[str]) -> int:
    """Run one operation and report it."""
    walk.raise_open_limit()
    report: dict[str, Json]
    try:
        operation, text = arguments
        report = {"result": _OPERATIONS[operation](json.loads(text))}
    except RootlessError as error:
        report = {"error": error.message, "code": error.code, "hint": error.hint}
    except OSError as error:
        report = {"error": str(error), "code": "syscall", "hint": None}
    line = memoryview(json.dumps(report).encode())
    while line:
        line = line[os.write(REPORT_FD, line) :]
    return 0 if "result" in report else 1
