"""File operations as a program, started by the launcher's ``spawn`` in the engine's namespace.

``OPERATION JSON`` are its arguments (:func:`command`), with the archive on
standard input or output and the report, one JSON object, on descriptor 3:
``{"result": …}`` or ``{"error": message, "code": …, "hint": …}``. Exit status 0 or 1.

The JSON names the root: ``pid`` and ``start`` (``procfs.start_time``) of a
running container's first process, or ``mount`` (a RootfsMount) of a stopped
one. ``maps`` are the container's ids (lists of inside, outside and size). ``volumes``
(objects with source, subpath, target and read_only) are mounted into a stopped one.
Operations: ``stat`` (path), ``read`` (path), ``write`` (path,
no_overwrite_dir_non_dir, user), ``export`` (ignore), ``diff`` (ignore; needs
``mount``, wants no ``volumes``).
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import BinaryIO, Literal

from rootless.archive.limits import LAYER_SHIFT, IdShift
from rootless.errors import InvalidInput, NotFound, RootlessError, StartFailed, SyscallError
from rootless.linux import inroot, inside, isolated, mounts, openat2, procfs, rootfs, users
from rootless.model.mounts import IdMap
from rootless.storage import files, shift, tree, walk
from rootless.storage.tree import Json

REPORT_FD = 3
_FIELDS = Mapping[str, Json]


def command(operation: str, fields: _FIELDS) -> list[str]:
    """The argument vector for ``spawn``; ``mount`` in ``fields`` is ``tree.rootfs_to_json``'s."""
    return isolated.command("rootless.storage.worker", [operation, json.dumps(fields)])


@contextmanager
def open_root(fields: _FIELDS) -> Iterator[int]:
    """The container's root: through its process when it runs, else mounted for the purpose.

    From here on this process is the container's root and has no right over
    anything else: names in the container may be swapped at any moment, those in
    a bind mount for the user's own files.
    """
    if fields.get("pid"):
        fd = _running_root(int(fields["pid"]), int(fields.get("start", 0)))
        inside.limit_rights()
        try:
            yield fd
        finally:
            os.close(fd)
        return
    mount = tree.rootfs_from_json(fields["mount"])
    mounted = rootfs.mount_rootfs(mount, defer_read_only=True)
    attached = False
    try:
        volumes = [(volume, _clone_volume(volume)) for volume in fields.get("volumes", ())]
        inside.enter_maps(_maps(fields))
        if volumes:
            _attach(mounted.fd, volumes)
            attached = True
        if mount.read_only:  # only now: mount points had to be made
            mounts.set_attributes(mounted.fd, add=mounts.MOUNT_ATTR_RDONLY, what="/")
        inside.limit_rights(mount_later=True)
        yield mounted.fd
    finally:
        if attached:
            inside.regain_mounting()
            os.fchdir(mounted.fd)
            mounts.umount(".", mounts.MNT_DETACH)
            os.chdir("/")
        os.close(mounted.fd)
        if mounted.server_pid is not None:
            # The mount is gone with its last user, so the server finishes writing and ends.
            os.waitpid(mounted.server_pid, 0)


def _attach(root: int, volumes: Sequence[tuple[_FIELDS, int]]) -> None:
    """Put the container's volumes where they are when it runs, seen by this process only.

    Otherwise a copy into a volume's directory would land under it, out of
    sight. Mount points are made with the container's ids: a volume may be in use.
    """
    mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
    slash = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.move_mount(root, slash, "/")
    os.close(slash)
    for volume, clone in sorted(volumes, key=lambda item: str(item[0]["target"])):
        point = inroot.ensure_like(root, volume["target"], clone)
        mounts.move_mount(clone, point, volume["target"])
        for fd in (clone, point):
            os.close(fd)


def _clone_volume(volume: _FIELDS) -> int:
    """A volume as a detached mount."""
    source = _open_source(volume)
    try:
        clone = mounts.clone_tree(source)
    finally:
        os.close(source)
    if volume.get("read_only"):
        mounts.set_attributes(clone, add=mounts.MOUNT_ATTR_RDONLY, recursive=True)
    return clone


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
    """Enter the container of process ``pid``, proven to be one, and return its root.

    The number may have been given to another process since the container ended,
    and the namespaces of one of the user's own are the host's. Checked after the
    pidfd was opened: a process that lives now as (pid, start) had the number all the time.
    """
    gone = NotFound("the container has stopped meanwhile", hint="try again")
    try:
        pidfd = os.pidfd_open(pid)
    except (ProcessLookupError, PermissionError):
        raise gone from None
    try:
        foreign = os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
        separate = os.stat(f"/proc/{pid}/ns/mnt").st_ino != os.stat("/proc/self/ns/mnt").st_ino
        same = not start or procfs.is_alive(pid, start)
        if foreign and separate and same:
            return inside.enter_container(pidfd)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        raise gone from None
    except SyscallError as error:
        if error.errno == errno.ESRCH:
            raise gone from None
        raise
    finally:
        os.close(pidfd)
    raise gone


def _maps(fields: _FIELDS) -> tuple[IdMap, ...]:
    """The container's ids: as its root file system is mounted, else as its namespace maps them."""
    mount = fields.get("mount")
    ids = tree.rootfs_from_json(mount).id_maps if mount else ()
    return ids or tuple(IdMap(*item) for item in fields["maps"])


def _shift(fields: _FIELDS) -> IdShift:
    return shift.InsideShift(maps=_maps(fields))


def _stat(fields: _FIELDS) -> Json:
    with open_root(fields) as root:
        return asdict(files.stat_path(root, fields["path"]))


def _read(fields: _FIELDS) -> Json:
    skip = files.pseudo_mounts_of(int(fields["pid"])) if fields.get("pid") else ()
    with open_root(fields) as root, _stream(1, "wb") as out:
        return asdict(
            files.read_archive(root, fields["path"], out, shift=_shift(fields), skip=skip)
        )


def _write(fields: _FIELDS) -> Json:
    with open_root(fields) as root, _stream(0, "rb") as source:
        owner = _owner(root, fields["user"]) if "user" in fields else None
        done = files.write_archive(
            root,
            fields["path"],
            source,
            shift=_shift(fields),
            no_overwrite_dir_non_dir=bool(fields.get("no_overwrite_dir_non_dir")),
            owner=owner,
        )
    return {"bytes": done.bytes, "entries": done.entries}


def _owner(root: int, user: str) -> tuple[int, int]:
    """Ids of ``USER[:GROUP]`` by the container's own passwd and group files."""
    passwd, group = (
        inroot.read_file(root, f"/etc/{name}", users.MAX_FILE) for name in ("passwd", "group")
    )
    try:
        found = users.resolve(user, (), passwd, group)
    except StartFailed as error:
        raise InvalidInput(error.message, hint=error.hint) from None
    return found.uid, found.gid


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
    try:
        while line:
            line = line[os.write(REPORT_FD, line) :]
    except BrokenPipeError:
        return 1  # the daemon is gone, or its client
    return 0 if "result" in report else 1
