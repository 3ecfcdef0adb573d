"""The suite every graph driver passes, on the real kernel as an unprivileged user."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rootless.archive.limits import LAYER_SHIFT
from rootless.errors import Conflict, HostUnsupported, SyscallError
from rootless.linux import fuse, rootfs
from rootless.model.mounts import IdMap, RootfsMount
from rootless.storage import drivers, files, tree, whiteouts
from rootless.storage.drivers.base import GraphDriver
from rootless.storage.whiteouts import LayerWhiteouts
from tests.integration.storage import union
from tests.support.facts import HOST

pytestmark = pytest.mark.integration

FACTS = replace(HOST, kernel=rootfs.kernel_version())
AUTO = (IdMap(0, 70000, 2000), IdMap(65534, 72000, 1))

pytest_driver = pytest.mark.parametrize("driver", drivers.DRIVERS, ids=lambda d: d.name)


def write(path: str, text: str, uid: int = 1, gid: int = 1, mode: int = 0o644) -> None:
    with open(path, "w") as file:
        file.write(text)
    os.chown(path, uid, gid)
    os.chmod(path, mode)


def make_dir(path: str, uid: int = 1, mode: int = 0o755) -> None:
    os.mkdir(path)
    os.chown(path, uid, uid)
    os.chmod(path, mode)


def make_layers(box: str) -> tuple[str, ...]:
    """Two layers, topmost first; the upper one removes ``gone`` and empties ``opaque``."""
    low, top = f"{box}/low", f"{box}/top"
    make_dir(low)
    for name in ("etc", "opaque", "opaque/deep", "keep", "tmp"):
        make_dir(f"{low}/{name}")
    os.chmod(f"{low}/tmp", 0o1777)
    write(f"{low}/gone", "gone")
    write(f"{low}/etc/passwd", "root:x:0:0::/:/bin/sh\n")
    write(f"{low}/etc/shadow", "secret", gid=43, mode=0o640)
    write(f"{low}/keep/file", "low", uid=34, gid=34)
    write(f"{low}/opaque/old", "old")
    write(f"{low}/opaque/deep/old", "old")
    os.symlink("/etc/passwd", f"{low}/link")
    os.chown(f"{low}/link", 1, 1, follow_symlinks=False)
    make_dir(top, mode=0o751)
    make_dir(f"{top}/opaque")
    make_dir(f"{top}/opaque/deep")
    write(f"{top}/opaque/new", "new")
    marks = LayerWhiteouts()
    fd = os.open(top, os.O_RDONLY)
    marks.remove(fd, b"gone")
    inner = os.open(f"{top}/opaque", os.O_RDONLY)
    marks.opaque(inner)
    os.close(inner)
    marks.finish(fd)
    os.close(fd)
    return top, low


class Mounted:
    """A mounted container root; ``path`` leads into it."""

    def __init__(self, mount: RootfsMount) -> None:
        self.mount = mount
        self.mounted = rootfs.mount_rootfs(mount)
        self.path = f"/proc/self/fd/{self.mounted.fd}"

    def __enter__(self) -> Mounted:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.mounted.fd)
        if self.mounted.server_pid is not None:
            os.waitpid(self.mounted.server_pid, 0)

    def read(self, name: str) -> str:
        with open(f"{self.path}/{name}") as file:
            return file.read()


def prepared(driver: GraphDriver, box: str, **options: Any) -> RootfsMount:
    lowers = options.pop("lowers", None) or make_layers(box)
    container = f"{box}/c"
    os.mkdir(container, 0o700)
    mount = driver.plan(container, lowers, **options)
    # Twice: a crash between the two must do no harm.
    tree.make_container_dirs(tree.rootfs_to_json(mount))
    tree.make_container_dirs(tree.rootfs_to_json(mount))
    return mount


def _shows_image(driver: GraphDriver, box: str) -> None:
    with Mounted(prepared(driver, box)) as root:
        assert sorted(os.listdir(root.path)) == ["etc", "keep", "link", "opaque", "tmp"]
        assert sorted(os.listdir(f"{root.path}/opaque")) == ["deep", "new"]
        assert os.listdir(f"{root.path}/opaque/deep") == []
        assert not os.path.lexists(f"{root.path}/gone")
        assert root.read("keep/file") == "low"
        status = os.stat(f"{root.path}/keep/file")
        assert (status.st_uid, status.st_gid) == (34, 34)
        top = os.stat(root.path)
        assert (stat.S_IMODE(top.st_mode), top.st_uid) == (0o751, 1)
        assert stat.S_IMODE(os.stat(f"{root.path}/tmp").st_mode) == 0o1777


@pytest_driver
def test_shows_the_image(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_shows_image, driver, str(box))


def _change(path: str) -> None:
    with open(f"{path}/etc/passwd", "a") as file:
        file.write("x\n")
    with open(f"{path}/added", "w") as file:
        file.write("added")
    os.chown(f"{path}/added", 8, 9)
    os.mkdir(f"{path}/dir")
    os.chown(f"{path}/dir", 1, 1)
    os.unlink(f"{path}/keep/file")
    os.unlink(f"{path}/opaque/new")
    os.rmdir(f"{path}/opaque/deep")
    os.mkdir(f"{path}/opaque/deep")
    os.chown(f"{path}/opaque/deep", 1, 1)
    os.symlink("nowhere", f"{path}/dangling")


def _survives(driver: GraphDriver, box: str, volatile: bool) -> None:
    mount = prepared(driver, box, volatile=volatile)
    with Mounted(mount) as root:
        _change(root.path)
    with Mounted(mount) as root:
        assert root.read("etc/passwd").endswith("x\n")
        assert root.read("added") == "added"
        status = os.stat(f"{root.path}/added")
        assert (status.st_uid, status.st_gid) == (8, 9)
        assert os.listdir(f"{root.path}/keep") == []
        assert os.listdir(f"{root.path}/opaque") == ["deep"]
        assert os.readlink(f"{root.path}/dangling") == "nowhere"
    # The layers below are what they were.
    with open(f"{box}/low/etc/passwd") as file:
        assert file.read() == "root:x:0:0::/:/bin/sh\n"
    assert os.path.exists(f"{box}/low/keep/file")


@pytest_driver
@pytest.mark.parametrize("volatile", [False, True])
def test_changes_survive_and_layers_do_not_change(
    driver: GraphDriver, volatile: bool, box: Path, in_engine: Any
) -> None:
    in_engine(_survives, driver, str(box), volatile)


def _tells(driver: GraphDriver, box: str) -> None:
    mount = prepared(driver, box)
    assert tree.changes(tree.rootfs_to_json(mount)) == []
    with Mounted(mount) as root:
        _change(root.path)
    found = {path: kind for kind, path in tree.changes(tree.rootfs_to_json(mount))}
    assert found == {
        "/added": "A",
        "/dangling": "A",
        "/dir": "A",
        "/etc": "C",
        "/etc/passwd": "C",
        "/keep": "C",
        "/keep/file": "D",
        "/opaque": "C",
        "/opaque/deep": "C",
        "/opaque/new": "D",
    }


@pytest_driver
def test_changes_are_told(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_tells, driver, str(box))


def _ignores(driver: GraphDriver, box: str) -> None:
    mount = prepared(driver, box)
    with Mounted(mount) as root:
        write(f"{root.path}/etc/hosts", "")
        os.mkdir(f"{root.path}/proc")
    ignore = ["/etc/hosts", "/proc", "/dev"]
    assert tree.changes(tree.rootfs_to_json(mount), ignore) == []
    buffer = io.BytesIO()
    files.write_diff(mount, buffer, ignore=ignore, shift=LAYER_SHIFT)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        names = archive.getnames()
    assert "etc/hosts" not in names
    assert "proc" not in names


@pytest_driver
def test_mount_points_are_no_changes(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_ignores, driver, str(box))


def _diff_archive(driver: GraphDriver, box: str) -> None:
    mount = prepared(driver, box)
    with Mounted(mount) as root:
        _change(root.path)
        if driver.name == "fuse-overlayfs":  # which keeps such names to itself
            with pytest.raises(OSError, match="Invalid argument"):
                write(f"{root.path}/.wh.etc", "no whiteout")
        else:
            write(f"{root.path}/.wh.etc", "no whiteout")
    buffer = io.BytesIO()
    files.write_diff(mount, buffer, shift=LAYER_SHIFT)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        members = {member.name: member for member in archive}
        assert archive.extractfile("added").read() == b"added"  # type: ignore[union-attr]  # None fails the test
    assert (members["added"].uid, members["added"].gid) == (7, 8)
    assert "keep/.wh.file" in members
    assert "opaque/.wh.new" in members or "opaque/.wh..wh..opq" in members
    assert ".wh.etc" not in members
    assert not any("/.wh..opq" in name for name in members)
    assert "link" not in members
    assert "tmp" not in members


@pytest_driver
def test_diff_is_a_layer(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_diff_archive, driver, str(box))


def _read_only(driver: GraphDriver, box: str) -> None:
    mount = prepared(driver, box, read_only=True)
    with Mounted(mount) as root, pytest.raises(OSError, match="Read-only file system"):
        os.mkdir(f"{root.path}/x")
    mounted = rootfs.mount_rootfs(mount, defer_read_only=True)
    os.mkdir(f"/proc/self/fd/{mounted.fd}/x")
    rootfs.discard(mounted)


@pytest_driver
def test_read_only(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_read_only, driver, str(box))


def _reads(driver: GraphDriver, box: str) -> None:
    mount = prepared(driver, box)
    form = whiteouts.of_driver(mount.driver)

    def read(path: str) -> bytes | None:
        return union.read([mount.upper, *mount.lowers], path, form)

    assert read("/link") == b"root:x:0:0::/:/bin/sh\n"
    assert read("gone") is None
    assert read("opaque/old") is None
    assert read("opaque/deep/old") is None
    with Mounted(mount) as root:
        _change(root.path)
        os.symlink("../../../../../etc/shadow", f"{root.path}/dir/up")
    assert read("etc/passwd") == b"root:x:0:0::/:/bin/sh\nx\n"
    assert read("dir/up") == b"secret"
    assert read("keep/file") is None
    assert read("dangling") is None
    assert read("etc") is None
    assert read("etc/passwd/x") is None


@pytest_driver
def test_reads_files_without_mounting(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_reads, driver, str(box))


def _removes(driver: GraphDriver, box: str) -> None:
    mount = prepared(driver, box)
    with Mounted(mount) as root:
        _change(root.path)
        os.chmod(f"{root.path}/dir", 0)
    assert tree.tree_size(mount.upper)["bytes"] > 0
    tree.remove_tree(f"{box}/c")
    assert not os.path.exists(f"{box}/c")


@pytest_driver
def test_removal_leaves_nothing(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_removes, driver, str(box))


def _no_layers(driver: GraphDriver, box: str) -> None:
    os.mkdir(f"{box}/c")
    mount = driver.plan(f"{box}/c", ())
    driver.prepare(mount)
    with Mounted(mount) as root:
        assert os.listdir(root.path) == []
        write(f"{root.path}/x", "x")


@pytest_driver
def test_image_without_layers(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_no_layers, driver, str(box))


def _two_ranges(driver: GraphDriver, box: str) -> None:
    layers = make_layers(box)
    seen = []
    for number, start in enumerate((70000, 80000)):
        container = f"{box}/c{number}"
        os.mkdir(container)
        mount = driver.plan(
            container, layers, id_maps=(IdMap(0, start, 2000), IdMap(65534, start + 2000, 1))
        )
        driver.prepare(mount)
        with Mounted(mount) as root:
            status = os.stat(f"{root.path}/keep/file")
            assert (status.st_uid, status.st_gid) == (start + 33, start + 33)
            seen.append({os.stat(f"{root.path}/{n}").st_uid for n in os.listdir(root.path)
                         if n != "link"})  # fmt: skip
            os.mkdir(f"{root.path}/mine")
            os.chown(f"{root.path}/mine", start + 7, start + 65 - 65)
            os.chown(f"{root.path}/etc/passwd", start + 2000, start)
            write(f"{root.path}/beyond", "x", uid=start + 1999, gid=start)
        stored = os.stat(f"{mount.upper}/mine")
        assert (stored.st_uid, stored.st_gid) == (8, 1)
        assert os.stat(f"{mount.upper}/etc/passwd").st_uid == 65535
        assert os.stat(f"{mount.upper}/beyond").st_uid == 2000
        # Ids are really stored, not noted in an attribute that other programs cannot read.
        assert not [a for a in os.listxattr(f"{mount.upper}/mine") if "override_stat" in a]
        buffer = io.BytesIO()
        files.write_diff(mount, buffer, shift=LAYER_SHIFT)
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
            assert archive.getmember("mine").uid == 7
            assert archive.getmember("etc/passwd").uid == 65534
    assert not seen[0] & seen[1]


@pytest_driver
def test_two_containers_share_layers_and_no_id(
    driver: GraphDriver, box: Path, in_engine: Any
) -> None:
    if driver.maps_ids:
        in_engine(_two_ranges, driver, str(box))
        return
    with pytest.raises(HostUnsupported, match="id range"):
        driver.plan(str(box), ("/x",), id_maps=AUTO)


def test_choice() -> None:
    assert drivers.choose(FACTS).name == "overlay"
    assert drivers.choose(FACTS, needs_id_maps=True).name == "fuse-overlayfs"
    assert drivers.choose(FACTS, "overlay2").name == "overlay"
    with pytest.raises(HostUnsupported, match="userns=auto"):
        drivers.choose(FACTS, "vfs", needs_id_maps=True)


def _many_layers(box: str, count: int, driver: GraphDriver) -> None:
    lowers = []
    for number in range(count):
        path = f"{box}/with,comma:colon\\{number}"
        make_dir(path)
        write(f"{path}/f{number}", "x")
        lowers.append(path)
    with Mounted(prepared(driver, box, lowers=lowers)) as root:
        assert len(os.listdir(root.path)) == count


@pytest.mark.parametrize("driver", drivers.DRIVERS[:2], ids=lambda d: d.name)
def test_many_layers_with_hostile_names(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_many_layers, str(box), 300, driver)


def _joined(box: str) -> None:
    rootfs.kernel_version = lambda: (6, 1)  # the child's own copy
    _many_layers(box, 60, drivers.get("overlay"))


def test_kernels_before_lowerdir_append(box: Path, in_engine: Any) -> None:
    in_engine(_joined, str(box))


def _too_many(box: str) -> None:
    mount = RootfsMount("overlay", (f"{box}/x",) * 501, "", "")
    with pytest.raises(HostUnsupported, match="501 layers"):
        rootfs.mount_rootfs(mount)


def test_too_many_layers(box: Path, in_engine: Any) -> None:
    in_engine(_too_many, str(box))


def _server_rules(box: str) -> None:
    mounted = rootfs.mount_rootfs(prepared(drivers.get("fuse-overlayfs"), box))
    pid = mounted.server_pid
    assert pid is not None
    assert os.getsid(pid) == pid
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.strip().split(":\t", 1) for line in file if line.strip()[-1] != ":")
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapAmb"], 16) == 0
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16)
    assert int(status["CapBnd"], 16) >> 21 & 1 == 0, "no CAP_SYS_ADMIN"
    targets = {os.readlink(f"/proc/{pid}/fd/{n}") for n in ("0", "1")}
    assert targets == {"/dev/null"}
    os.close(mounted.fd)
    assert os.waitpid(pid, 0) == (pid, 0)


def test_fuse_server_is_alone_and_ends_with_the_mount(box: Path, in_engine: Any) -> None:
    in_engine(_server_rules, str(box))


def _server_fails(box: str) -> None:
    mount = prepared(drivers.get("fuse-overlayfs"), box)
    os.rmdir(mount.work)
    write(mount.work, "")
    with pytest.raises(SyscallError, match="work"):
        rootfs.mount_rootfs(mount)
    fuse.find_program = lambda: "/bin/false"
    os.unlink(mount.work)
    os.mkdir(mount.work)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HostUnsupported, match="did not start"):
        rootfs.mount_rootfs(mount)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)


def test_fuse_server_that_fails_is_one_error(box: Path, in_engine: Any) -> None:
    in_engine(_server_fails, str(box))


def _size_limit(box: str) -> None:
    with pytest.raises(HostUnsupported, match="size limit"):
        rootfs.mount_rootfs(RootfsMount("overlay", ("/",), "", "", size_limit=5))


def test_size_limit_is_refused(box: Path, in_engine: Any) -> None:
    in_engine(_size_limit, str(box))


def _mounted_inside(box: str) -> None:
    from rootless.linux import mounts

    make_dir(f"{box}/precious")
    write(f"{box}/precious/file", "x")
    make_dir(f"{box}/t")
    make_dir(f"{box}/t/point")
    source = os.open(f"{box}/precious", os.O_PATH)
    target = os.open(f"{box}/t/point", os.O_PATH)
    mounts.move_mount(mounts.clone_tree(source), target)
    with pytest.raises(Conflict, match="mounted"):
        tree.remove_tree(f"{box}/t")
    assert os.path.exists(f"{box}/precious/file")


def test_removal_never_enters_a_mount(box: Path, in_engine: Any) -> None:
    in_engine(_mounted_inside, str(box))


def _redirects(driver: GraphDriver, box: str) -> None:
    low, top = f"{box}/low", f"{box}/top"
    for path in (low, f"{low}/secret", top, f"{top}/dir"):
        make_dir(path)
    write(f"{low}/secret/file", "secret")
    write(f"{low}/secret/data", "secret")
    write(f"{top}/file", "")
    os.truncate(f"{top}/file", 6)
    os.setxattr(f"{top}/dir", "user.overlay.redirect", b"/secret")
    os.setxattr(f"{top}/file", "user.overlay.metacopy", b"")
    os.setxattr(f"{top}/file", "user.overlay.redirect", b"/secret/data")
    with Mounted(prepared(driver, box, lowers=(top, low))) as root:
        try:
            names = os.listdir(f"{root.path}/dir")
        except OSError:
            names = []
        assert names == []
        try:
            content = root.read("file")
        except OSError:
            content = ""
        assert "secret" not in content


@pytest_driver
def test_redirects_in_a_hostile_layer_lead_nowhere(
    driver: GraphDriver, box: Path, in_engine: Any
) -> None:
    in_engine(_redirects, driver, str(box))


def _image_mount(driver: GraphDriver, box: str) -> None:
    layers = make_layers(box)
    for lowers in (layers, layers[1:]):
        with Mounted(RootfsMount(driver.name, lowers, "", "")) as root:  # type: ignore[arg-type]  # the driver's name is one of the literal's
            assert root.read("keep/file") == "low"
            with pytest.raises(OSError, match="Read-only file system"):
                os.mkdir(f"{root.path}/x")


@pytest.mark.parametrize("driver", drivers.DRIVERS[:2], ids=lambda d: d.name)
def test_an_image_is_mounted_read_only(driver: GraphDriver, box: Path, in_engine: Any) -> None:
    in_engine(_image_mount, driver, str(box))
