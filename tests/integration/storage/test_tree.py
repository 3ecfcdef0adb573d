"""Trees of subordinate ids: copying into volumes, removing, measuring, comparing."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rootless.archive.limits import LAYER_SHIFT
from rootless.errors import InvalidInput
from rootless.storage import tree
from rootless.storage.whiteouts import LayerWhiteouts, is_device_mark
from tests.integration.storage import union

pytestmark = pytest.mark.integration

CAPABILITY = (0x0300_0001).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + bytes(12)
"""cap_net_bind_service+ep, version 3, without its last field: the id of root."""
IMAGE_ROOT = (1).to_bytes(4, "little")


def _layer(box: str) -> str:
    layer = f"{box}/layer"
    os.makedirs(f"{layer}/data/sub")
    os.chown(layer, 1, 1)
    os.chown(f"{layer}/data", 101, 102)
    os.chmod(f"{layer}/data", 0o2750)
    os.setxattr(f"{layer}/data", "user.mark", b"here")
    os.setxattr(f"{layer}/data", "user.overlay.opaque", b"y")
    with open(f"{layer}/data/file", "w") as file:
        file.write("content")
    os.chown(f"{layer}/data/file", 6, 7)
    os.chmod(f"{layer}/data/file", 0o4755)
    os.setxattr(f"{layer}/data/file", "user.own", b"value")
    os.setxattr(f"{layer}/data/file", "security.capability", CAPABILITY + IMAGE_ROOT)
    os.link(f"{layer}/data/file", f"{layer}/data/sub/hard")
    os.symlink("/etc/passwd", f"{layer}/data/link")
    os.chown(f"{layer}/data/link", 3, 4, follow_symlinks=False)
    os.mkfifo(f"{layer}/data/fifo", 0o620)
    with open(f"{layer}/data/sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(64 << 20)
    os.utime(f"{layer}/data/file", ns=(1, 1_500_000_000_123_456_789))
    os.utime(f"{layer}/data/sub", ns=(1, 1_400_000_000_000_000_000))
    os.symlink("data", f"{layer}/alias")
    return layer


def _copy_up(box: str) -> None:
    layer = _layer(box)
    volume = f"{box}/_data"
    tree.make_volume(volume)
    assert os.stat(volume).st_uid == 1
    assert tree.copy_up([layer], "/alias", volume)
    top = os.stat(volume)
    assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (101, 102, 0o2750)
    assert os.getxattr(volume, "user.mark") == b"here"
    assert "user.overlay.opaque" not in os.listxattr(volume)
    file = os.stat(f"{volume}/file")
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (6, 7, 0o4755)
    assert file.st_mtime_ns == 1_500_000_000_123_456_789
    assert file.st_nlink == 2
    assert file.st_ino == os.stat(f"{volume}/sub/hard").st_ino
    assert os.getxattr(f"{volume}/file", "user.own") == b"value"
    assert os.getxattr(f"{volume}/file", "security.capability") == CAPABILITY + IMAGE_ROOT
    assert os.stat(f"{volume}/sub").st_mtime_ns == 1_400_000_000_000_000_000
    assert os.readlink(f"{volume}/link") == "/etc/passwd"
    assert os.lstat(f"{volume}/link").st_uid == 3
    assert stat.S_ISFIFO(os.lstat(f"{volume}/fifo").st_mode)
    sparse = os.stat(f"{volume}/sparse")
    assert sparse.st_size == 64 << 20
    assert sparse.st_blocks * 512 < 1 << 20
    with open(f"{volume}/sparse", "rb") as handle:
        handle.seek(1 << 20)
        assert handle.read(8) == b"middle\0\0"
    assert sorted(os.listdir(box)) == ["_data", "layer"]


def test_copy_up_keeps_everything(box: Path, in_engine: Any) -> None:
    in_engine(_copy_up, str(box))


def _copy_up_twice(box: str) -> None:
    layer = _layer(box)
    volume = f"{box}/_data"
    tree.make_volume(volume)
    assert not tree.copy_up([layer], "/none", volume)
    assert not tree.copy_up([layer], "/data/file", volume)
    with open(f"{volume}/mine", "w"):
        pass
    assert not tree.copy_up([layer], "/data", volume)
    assert os.listdir(volume) == ["mine"]


def test_copy_up_needs_an_empty_volume_and_a_directory(box: Path, in_engine: Any) -> None:
    in_engine(_copy_up_twice, str(box))


def _copy_up_killed(box: str) -> None:
    layer = _layer(box)
    volume = f"{box}/_data"
    tree.make_volume(volume)
    # Killed while copying: the torn copy lies beside the volume and is thrown away.
    os.mkdir(f"{volume}.copying")
    with open(f"{volume}.copying/torn", "w"):
        pass
    assert tree.copy_up([layer], "/data", volume)
    assert not os.path.exists(f"{volume}/torn")
    # Killed while moving: what is complete is moved on.
    os.mkdir(f"{volume}.filled")
    os.rename(f"{volume}/file", f"{volume}.filled/file")
    assert tree.copy_up([layer], "/data", volume)
    assert sorted(os.listdir(volume)) == ["fifo", "file", "link", "sparse", "sub"]
    assert sorted(os.listdir(box)) == ["_data", "layer"]


def test_copy_up_survives_kill(box: Path, in_engine: Any) -> None:
    in_engine(_copy_up_killed, str(box))


def _deep(box: str, depth: int) -> None:
    os.mkdir(f"{box}/top")
    here = os.open(f"{box}/top", os.O_RDONLY)
    for _ in range(depth):
        with open(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here), "w") as file:
            file.write("x")
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.fchmod(here, 0)
        os.close(here)
        here = below
    os.close(here)
    assert tree.tree_size(f"{box}/top") == {"bytes": depth, "files": 2 * depth}
    tree.remove_tree(f"{box}/top")
    assert os.listdir(box) == []


def test_trees_deeper_than_any_path(box: Path, in_engine: Any) -> None:
    in_engine(_deep, str(box), 1000)


def _wide(box: str) -> None:
    for number in range(100):
        os.makedirs(f"{box}/top/{number}/in")
        os.symlink("/", f"{box}/top/{number}/in/root")
    os.symlink(f"{box}/top", f"{box}/alias")
    tree.remove_tree(f"{box}/alias")
    assert os.path.isdir(f"{box}/top")
    tree.remove_tree(f"{box}/top")
    tree.remove_tree(f"{box}/top")
    tree.remove_tree(f"{box}/absent/too")
    assert os.listdir(box) == []
    for bad in ("relative", "/", f"{box}/..", ""):
        with pytest.raises(InvalidInput):
            tree.remove_tree(bad)


def test_removal_follows_no_symlink(box: Path, in_engine: Any) -> None:
    in_engine(_wide, str(box))


def _size(box: str) -> None:
    assert tree.tree_size(f"{box}/none") == {"bytes": 0, "files": 0}
    _layer(box)
    total = tree.tree_size(f"{box}/layer")["bytes"]
    # The file counts once for both of its names; symlinks count their length.
    assert total == len("content") + (64 << 20) + len("/etc/passwd") + len("data")


def test_size_counts_hard_links_once(box: Path, in_engine: Any) -> None:
    in_engine(_size, str(box))


def _whiteouts(box: str) -> None:
    os.makedirs(f"{box}/l/opaque/sub/deeper")
    root = os.open(f"{box}/l", os.O_RDONLY)
    inner = os.open(f"{box}/l/opaque", os.O_RDONLY)
    marks = LayerWhiteouts()
    marks.remove(inner, b"gone")
    marks.remove(root, b"gone")
    marks.opaque(inner)
    assert marks.is_opaque(inner)
    assert not marks.is_opaque(root)
    assert is_device_mark(os.lstat(f"{box}/l/opaque/gone"))
    marks.finish(root)
    assert not os.path.lexists(f"{box}/l/opaque/gone")
    assert is_device_mark(os.lstat(f"{box}/l/gone"))
    for path in ("opaque/sub", "opaque/sub/deeper"):
        assert os.getxattr(f"{box}/l/{path}", "user.overlay.opaque") == b"y"
    # A directory that was replaced meanwhile, even by a symlink to elsewhere, is left alone.
    os.mkdir(f"{box}/outside")
    marks.opaque(inner)
    os.rename(f"{box}/l/opaque", f"{box}/away")
    os.symlink(f"{box}/outside", f"{box}/l/opaque")
    marks.finish(root)
    assert os.listxattr(f"{box}/outside") == []


def test_whiteouts_of_layers(box: Path, in_engine: Any) -> None:
    in_engine(_whiteouts, str(box))


def _links(box: str) -> None:
    os.makedirs(f"{box}/l/etc")
    os.symlink("loop", f"{box}/l/loop")
    os.symlink("/../../../etc", f"{box}/l/up")
    with open(f"{box}/l/etc/big", "w") as file:
        file.write("x" * 100)
    os.mkfifo(f"{box}/l/etc/fifo")
    os.symlink("/etc/hostname", f"{box}/l/etc/host")
    layers = [f"{box}/l"]
    assert union.read(layers, "up/big") is not None
    assert union.read(layers, "etc/fifo") is None
    # The host has this file, the image does not.
    assert os.path.exists("/etc/hostname")
    assert union.read(layers, "etc/host") is None
    with pytest.raises(InvalidInput, match="symbolic links"):
        union.read(layers, "loop")


def test_lookup_stays_inside_the_image(box: Path, in_engine: Any) -> None:
    in_engine(_links, str(box))


def _shift_ids(box: str) -> None:
    layer = f"{_layer(box)}/data"
    first = [{"inside": 0, "outside": 70000, "size": 1024}]
    second = [{"inside": 0, "outside": 80000, "size": 1024}]
    assert tree.shift_ids(layer, [], first) > 0
    assert tree.shift_ids(layer, [], first) == 0
    file = os.stat(f"{layer}/file")
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (70005, 70006, 0o4755)
    assert os.lstat(f"{layer}/link").st_uid == 70002
    assert os.stat(layer).st_gid == 70101
    assert stat.S_IMODE(os.stat(layer).st_mode) == 0o2750
    stored = os.getxattr(f"{layer}/file", "security.capability")
    assert int.from_bytes(stored[-4:], "little") == 70000
    # Killed half-way: one file is there already, the rest follows.
    os.chown(f"{layer}/sub", 80000, 80000)
    tree.shift_ids(layer, first, second)
    assert os.stat(f"{layer}/file").st_uid == 80005
    assert os.stat(f"{layer}/sub").st_uid == 80000
    tree.shift_ids(layer, second, [])
    assert os.stat(f"{layer}/file").st_uid == 6
    assert os.lstat(f"{layer}/link").st_uid == 3


def test_a_volume_moves_between_ranges(box: Path, in_engine: Any) -> None:
    in_engine(_shift_ids, str(box))


def _sync(box: str) -> None:
    tree.sync_layer(box)
    assert LAYER_SHIFT.to_engine(0) == 1


def test_sync(box: Path, in_engine: Any) -> None:
    in_engine(_sync, str(box))
