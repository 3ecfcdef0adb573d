"""Copying in and out of a hostile root file system."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.archive.limits import LAYER_SHIFT
from rootless.errors import (
    HostUnsupported,
    InvalidInput,
    NotFound,
    RootlessError,
    SyscallError,
)
from rootless.linux import inside, mounts, process, procfs
from rootless.model.mounts import IdMap
from rootless.storage import drivers, files, shift, tree, worker

pytestmark = pytest.mark.integration


def _root(box: str) -> int:
    """A container's root, beside a directory ``outside`` that nothing may touch."""
    os.makedirs(f"{box}/outside")
    with open(f"{box}/outside/secret", "w") as file:
        file.write("secret")
    root = f"{box}/root"
    os.makedirs(f"{root}/etc/sub")
    os.makedirs(f"{root}/data")
    with open(f"{root}/etc/passwd", "w") as file:
        file.write("root")
    os.chown(f"{root}/etc/passwd", 6, 7)
    os.chmod(f"{root}/etc/passwd", 0o4750)
    os.symlink("/etc", f"{root}/abs")
    os.symlink("passwd", f"{root}/etc/rel")
    os.symlink("/nowhere/x", f"{root}/dangling")
    os.symlink(f"{box}/outside", f"{root}/escape")
    os.symlink("../../../../.." + f"{box}/outside", f"{root}/escape2")
    os.symlink("loop", f"{root}/loop")
    os.mkfifo(f"{root}/fifo")
    return os.open(root, os.O_PATH | os.O_DIRECTORY)


def _names(root: int, path: str) -> list[str]:
    buffer = io.BytesIO()
    files.read_archive(root, path, buffer, shift=LAYER_SHIFT)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        return [member.name + ("/" if member.isdir() else "") for member in archive]


def _stat(box: str) -> None:
    root = _root(box)
    found = files.stat_path(root, "/etc/passwd")
    assert (found.name, found.size, found.link_target) == ("passwd", 4, "")
    assert found.mode == 0o750 | 1 << 23
    assert files.stat_path(root, "etc").mode == 0o755 | 1 << 31
    link = files.stat_path(root, "/abs/rel")
    assert (link.name, link.link_target) == ("rel", "/etc/passwd")
    assert link.mode & 1 << 27
    assert files.stat_path(root, "/abs").link_target == "/etc"
    assert files.stat_path(root, "/abs/").mode & 1 << 31
    assert files.stat_path(root, "/dangling").link_target == "/nowhere/x"
    assert files.stat_path(root, "/").name == "/"
    assert files.stat_path(root, "/fifo").mode & 1 << 25
    for missing in ("/none", "/dangling/", "/escape/secret", "/escape2/secret", "/etc/none/x"):
        with pytest.raises(NotFound, match="Could not find"):
            files.stat_path(root, missing)
    for bad in ("/loop/", "/etc/passwd/x", "/" + "x" * 5000):
        with pytest.raises(InvalidInput):
            files.stat_path(root, bad)


def test_stat(box: Path, in_engine: Any) -> None:
    in_engine(_stat, str(box))


def _read(box: str) -> None:
    root = _root(box)
    assert _names(root, "/etc") == ["etc/", "etc/passwd", "etc/rel", "etc/sub/"]
    assert _names(root, "/abs/") == ["abs/", "abs/passwd", "abs/rel", "abs/sub/"]
    assert _names(root, "/etc/.") == ["./", "./passwd", "./rel", "./sub/"]
    assert _names(root, "/abs") == ["abs"]
    assert _names(root, "/etc/passwd") == ["passwd"]
    assert _names(root, "/abs/passwd") == ["passwd"]
    assert _names(root, "/")[:3] == ["/", "/abs", "/dangling"]
    assert "/etc/passwd" in _names(root, "/")
    with pytest.raises(NotFound):
        _names(root, "/escape/secret")
    buffer = io.BytesIO()
    files.read_archive(root, "/etc/passwd", buffer, shift=LAYER_SHIFT)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        member = archive.next()
        assert member is not None
        assert (member.uid, member.gid, member.mode) == (5, 6, 0o4750)


def test_read(box: Path, in_engine: Any) -> None:
    in_engine(_read, str(box))


def _tar(*entries: tuple[str, bytes | None], uid: int = 5) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.uid = member.gid = uid
            member.mode = 0o755 if content is None else 0o644
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))
    buffer.seek(0)
    return buffer


def _write(box: str) -> None:
    root = _root(box)
    files.write_archive(root, "/abs", _tar(("new", b"x"), ("passwd", b"y")), shift=LAYER_SHIFT)
    assert sorted(os.listdir(f"{box}/root/etc")) == ["new", "passwd", "rel", "sub"]
    assert os.stat(f"{box}/root/etc/new").st_uid == 6
    with open(f"{box}/root/etc/passwd") as file:
        assert file.read() == "y"
    files.write_archive(root, "/data", _tar(("o", b"x")), shift=LAYER_SHIFT, owner=(10, 11))
    status = os.stat(f"{box}/root/data/o")
    assert (status.st_uid, status.st_gid) == (11, 12)
    with pytest.raises(InvalidInput, match="not a directory"):
        files.write_archive(root, "/etc/passwd", _tar(), shift=LAYER_SHIFT)
    with pytest.raises(NotFound):
        files.write_archive(root, "/none", _tar(), shift=LAYER_SHIFT)
    with pytest.raises(RootlessError, match="cannot overwrite"):
        files.write_archive(
            root, "/etc", _tar(("sub", b"x")), shift=LAYER_SHIFT, no_overwrite_dir_non_dir=True
        )
    files.write_archive(root, "/etc", _tar(("sub", b"x")), shift=LAYER_SHIFT)
    assert os.path.isfile(f"{box}/root/etc/sub")


def test_write(box: Path, in_engine: Any) -> None:
    in_engine(_write, str(box))


def _write_hostile(box: str) -> None:
    root = _root(box)
    for archive in (
        _tar(("escape/secret", b"bad")),
        _tar(("escape2/secret", b"bad")),
        _tar(("../outside/secret", b"bad")),
    ):
        # Symlinks resolve inside the root, where the target does not exist.
        with pytest.raises(RootlessError):
            files.write_archive(root, "/", archive, shift=LAYER_SHIFT)
    with pytest.raises(RootlessError):
        files.write_archive(root, "/escape", _tar(("secret", b"bad")), shift=LAYER_SHIFT)
    # The name itself is a symlink: it is replaced, never followed.
    files.write_archive(root, "/", _tar(("escape", b"file")), shift=LAYER_SHIFT)
    assert stat.S_ISREG(os.lstat(f"{box}/root/escape").st_mode)
    assert os.listdir(f"{box}/outside") == ["secret"]
    with open(f"{box}/outside/secret") as file:
        assert file.read() == "secret"


def test_writing_never_leaves_the_root(box: Path, in_engine: Any) -> None:
    in_engine(_write_hostile, str(box))


def _swap(root: str) -> None:
    """Exchange a directory and a symlink to the outside, atomically and for ever."""
    libc = ctypes.CDLL(None)
    one, two = f"{root}/swap".encode(), f"{root}/other".encode()
    while os.getppid() != 1:
        assert libc.renameat2(-100, one, -100, two, 2) == 0  # AT_FDCWD, RENAME_EXCHANGE


def _contents(archive: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = [opened.extractfile(member) for member in opened]
        return [file.read() for file in found if file is not None]


def _race(box: str) -> None:
    root = _root(box)
    os.mkdir(f"{box}/root/swap")
    with open(f"{box}/root/swap/secret", "w") as file:
        file.write("inside")
    os.symlink("../outside", f"{box}/root/other")
    swapper = os.fork()
    if swapper == 0:
        try:
            _swap(f"{box}/root")
        finally:
            os._exit(1)
    outcomes = {"read": 0, "lost": 0}
    try:
        # Both outcomes must be seen often, or nothing was raced.
        while min(outcomes.values()) < 100:
            buffer = io.BytesIO()
            try:
                files.read_archive(root, "/swap/secret", buffer, shift=LAYER_SHIFT)
                outcomes["read"] += 1
                assert set(_contents(buffer.getvalue())) <= {b"inside"}
            except RootlessError:
                outcomes["lost"] += 1
            where, name = ("/swap", "planted") if outcomes["read"] % 2 else ("/", "swap/planted")
            with contextlib.suppress(RootlessError):
                files.write_archive(root, where, _tar((name, b"x")), shift=LAYER_SHIFT)
    finally:
        os.kill(swapper, signal.SIGKILL)
        _, status = os.waitpid(swapper, 0)
    assert os.WIFSIGNALED(status), "the swapper ended by itself"
    assert os.listdir(f"{box}/outside") == ["secret"]


def test_a_racing_symlink_swapper_wins_nothing(box: Path, in_engine: Any) -> None:
    in_engine(_race, str(box))


def _export(box: str) -> None:
    root = _root(box)
    buffer = io.BytesIO()
    files.export(root, buffer, shift=LAYER_SHIFT, mount_points=["/data", "/etc/sub"])
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        members = {member.name: member for member in archive}
    assert members["etc/passwd"].uid == 5
    assert members["escape"].issym()
    assert not {"data", "etc/sub", "escape/secret"} & set(members)


def test_export(box: Path, in_engine: Any) -> None:
    in_engine(_export, str(box))


def _read_only(box: str) -> None:
    root = _root(box)
    clone = mounts.clone_tree(root)
    mounts.set_attributes(clone, add=mounts.MOUNT_ATTR_RDONLY)
    with pytest.raises(InvalidInput, match="container rootfs is marked read-only"):
        files.write_archive(clone, "/data", _tar(("x", b"x")), shift=LAYER_SHIFT)


def test_read_only_root_is_said_so(box: Path, in_engine: Any) -> None:
    in_engine(_read_only, str(box))


_IDS = (IdMap(0, 1, 65536),)
_LISTED = [[0, 1, 65536]]


def _own_range(box: str) -> None:
    os.makedirs(f"{box}/l/data")
    os.makedirs(f"{box}/c")
    for path in ("l", "l/data"):
        os.chown(f"{box}/{path}", 1, 1)
    maps = (IdMap(0, 70000, 1024), IdMap(65534, 71024, 1))
    mount = drivers.get("fuse-overlayfs").plan(f"{box}/c", [f"{box}/l"], id_maps=maps)
    tree.make_container_dirs(tree.rootfs_to_json(mount))
    fields = {"mount": tree.rootfs_to_json(mount), "path": "/data"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for uid in (5, 65534):
        done = _work("write", fields, environment, _tar((f"f{uid}", b"x"), uid=uid).getvalue())
        assert done[0]["result"] == {"bytes": 1, "entries": 1}
        assert os.stat(f"{mount.upper}/data/f{uid}").st_uid == uid + 1
    for operation in ("read", "export", "diff"):
        report, output = _work(operation, fields, environment)
        assert "result" in report
        with tarfile.open(fileobj=io.BytesIO(output)) as archive:
            members = {member.name: member for member in archive}
        assert members["data/f5"].uid == 5
        assert members["data/f65534"].uid == 65534
    report, _ = _work("stat", {**fields, "path": "/none"}, environment)
    assert report["code"] == "not-found"
    report, _ = _work("write", fields, environment, _tar(("x", b"x"), uid=5000).getvalue())
    assert report["code"] == "host"
    assert "5000" in report["error"]
    report, _ = _work("write", fields, environment, b"no tar" * 1000)
    assert report["code"] == "invalid"


def _work(
    operation: str, fields: dict[str, Any], environment: dict[str, str], data: bytes = b""
) -> tuple[dict[str, Any], bytes]:
    """Run the worker as the launcher would: report on descriptor 3."""
    read_end, write_end = os.pipe()
    # Descriptor 3 by a shell, because pass_fds keeps numbers.
    script = f'exec "$@" 3>&{write_end}'
    child = subprocess.run(
        ["bash", "-c", script, "worker", *worker.command(operation, fields)],
        input=data,
        stdout=subprocess.PIPE,
        pass_fds=[write_end],
        env=environment,
        check=False,
    )
    os.close(write_end)
    with open(read_end) as file:
        report = json.load(file)
    assert child.returncode == ("result" not in report)
    return report, child.stdout


def _running(box: str) -> None:
    """A process in namespaces of its own whose root is ours, like a container's."""
    root = _root(box)
    for name in ("proc", "vol ume", "dev"):
        os.makedirs(f"{box}/root/{name}")
    os.chown(f"{box}/root", 1, 1)
    ready, ready_w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            clone = mounts.clone_tree(root)
            inside.enter_maps(_IDS)
            mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
            mounts.move_mount(clone, os.open("/", os.O_PATH))
            os.fchdir(clone)
            mounts.pivot_root(".", ".")
            mounts.umount(".", mounts.MNT_DETACH)
            os.chdir("/")
            mounts.mount("tmpfs", "/vol ume", "tmpfs", 0)
            with open("/vol ume/kept", "w"):
                pass
            mounts.mount("tmpfs", "/dev", "tmpfs", 0)
            with open("/dev/none", "w"):
                pass
            # As it is after the execve(2) of a container's program.
            process.prctl(process.PR_SET_DUMPABLE, 1)
            os.write(ready_w, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(ready_w)
    try:
        assert os.read(ready, 1) == b"x"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        start = procfs.start_time(child)
        fields: dict[str, Any] = {"pid": child, "start": start, "path": "/", "maps": _LISTED}
        report, output = _work("read", fields, environment)
        assert "result" in report, report
        with tarfile.open(fileobj=io.BytesIO(output)) as archive:
            names = archive.getnames()
        assert "/vol ume/kept" in names
        assert "/etc/passwd" in names
        assert "/dev" not in names
        _, output = _work("export", fields, environment)
        with tarfile.open(fileobj=io.BytesIO(output)) as archive:
            assert "vol ume" not in archive.getnames()
        # Another process, or one that is no container: never its root, which is the host's.
        for wrong in ({"start": start + 1}, {"pid": os.getpid(), "start": 0}, {"pid": 1}):
            for operation in ("stat", "read", "write", "export"):
                report, output = _work(operation, {**fields, **wrong}, environment)
                assert report.get("code") == "not-found", (wrong, operation, report)
                assert output == b""
    finally:
        os.close(root)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _rights(box: str) -> None:
    """A worker for a container may do what the container's root may do, and no more."""
    os.makedirs(f"{box}/l/open")
    os.chown(f"{box}/l", 1, 1)
    os.makedirs(f"{box}/c")
    mount = drivers.get("overlay").plan(f"{box}/c", [f"{box}/l"])
    tree.make_container_dirs(tree.rootfs_to_json(mount))
    # What a swapped name would lead to: the user's own, in a directory the container may write to.
    os.makedirs(f"{box}/v/shared")
    os.chmod(f"{box}/v/shared", 0o777)
    for name, mode in (("mine", 0o644), ("secret", 0o600)):
        with open(f"{box}/v/shared/{name}", "w") as file:
            file.write("mine")
        os.chmod(f"{box}/v/shared/{name}", mode)
    volume = {"source": f"{box}/v/shared", "target": "/open", "read_only": False}
    fields = {"mount": tree.rootfs_to_json(mount), "maps": _LISTED, "volumes": [volume]}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    report, _ = _work("read", {**fields, "path": "/open/mine"}, environment)
    assert "result" in report, report
    report, output = _work("read", {**fields, "path": "/open/secret"}, environment)
    assert report["code"] == "syscall", report
    assert b"mine" not in output
    assert _in_child(_refused_everything, fields) == 0
    assert os.stat(f"{box}/v/shared/mine").st_uid == 0
    assert os.stat(f"{box}/v/shared/new").st_uid == 1


def _refused_everything(fields: dict[str, Any]) -> None:
    with worker.open_root(fields) as root:
        for refused in (
            lambda: os.chown("open/mine", 0, 0, dir_fd=root),
            lambda: os.chmod("open/mine", 0o666, dir_fd=root),
            lambda: os.utime("open/mine", ns=(1, 1), dir_fd=root),
            lambda: os.open("open/mine", os.O_WRONLY, dir_fd=root),
            lambda: os.setxattr(f"/proc/self/fd/{root}/open/mine", "user.x", b"x"),
            lambda: mounts.umount("/", mounts.MNT_DETACH),
        ):
            with pytest.raises((PermissionError, SyscallError)):
                refused()
        os.close(os.open("open/new", os.O_CREAT | os.O_WRONLY, dir_fd=root))


def _in_child(function: Callable[..., None], *args: Any) -> int:
    """The exit status of a child that runs ``function``."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_worker_has_the_rights_of_the_container(box: Path, in_engine: Any) -> None:
    in_engine(_rights, str(box))


def test_a_running_container_and_no_other_process(box: Path, in_engine: Any) -> None:
    in_engine(_running, str(box))


def test_worker_and_a_range_of_its_own(box: Path, in_engine: Any) -> None:
    in_engine(_own_range, str(box))


def test_the_worker_takes_no_code_from_where_it_runs(tmp_path: Path) -> None:
    for name in ("json", "rootless", "os"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    done = subprocess.run(
        [*worker.command("no-such-operation", {}), "surplus"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")},
        capture_output=True,
        check=False,
    )
    # It got as far as its own arguments, of which there are too many.
    assert done.returncode == 1
    assert b"too many values" in done.stderr


def test_shift_of_a_range() -> None:
    ids = shift.of_maps((IdMap(0, 70000, 1024), IdMap(65534, 71024, 1)))
    assert [ids.to_engine(i) for i in (0, 1023, 65534)] == [70000, 71023, 71024]
    assert [ids.to_image(i) for i in (70000, 71023, 71024, 5)] == [0, 1023, 65534, 65534]
    with pytest.raises(HostUnsupported, match="size=1025"):
        ids.to_engine(1024)
    assert shift.of_maps(()) is LAYER_SHIFT
