"""Unpacking in the engine's user namespace: ids, set-id bits, capabilities, whiteouts."""

from __future__ import annotations

import json
import os
import stat
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rootless.archive.xattrs import CAPABILITY
from rootless.images.content import digest_of
from tests.support import imagebuild, userns
from tests.support.tarmaker import archive, directory, file, pax, record, special, symlink

pytestmark = pytest.mark.integration

UNPACK = """
import dataclasses, json, os, sys
from rootless.errors import RootlessError
from rootless.images.unpack import unpack_blob
from rootless.storage.whiteouts import LayerWhiteouts
blob, diff_id, dest = sys.argv[1:]
os.makedirs(dest, exist_ok=True)
source, root = os.open(blob, os.O_RDONLY), os.open(dest, os.O_RDONLY)
try:
    done = dataclasses.asdict(unpack_blob(source, diff_id, root, LayerWhiteouts()))
except RootlessError as error:
    done = {"error": type(error).__name__, "message": str(error)}
print(json.dumps(done))
"""
PACK = """
import os, sys
from rootless.images.unpack import pack_layer
from rootless.storage.whiteouts import LayerWhiteouts
root, out = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
print(pack_layer(root, out, LayerWhiteouts(), include_root=True, compression="none").diff_id)
"""
CLEAR = """
import os, sys
from rootless.archive.directories import remove
parent, name = os.path.split(sys.argv[1])
remove(os.open(parent, os.O_RDONLY), os.fsencode(name))
"""

# cap_net_raw=ep as setcap(8) writes it: struct vfs_cap_data, version 2.
NET_RAW = struct.pack("<5I", 0x0200_0001, 1 << 13, 0, 0, 0)


@pytest.fixture
def layer(tmp_path: Path) -> Any:
    """Unpacks an archive below ``tmp_path`` and removes it again, both in the namespace."""
    dest = tmp_path / "layer"

    def unpack(data: bytes, diff_id: str = "", compression: Any = "gzip") -> dict[str, Any]:
        blob = tmp_path / "blob"
        blob.write_bytes(imagebuild.compress(data, compression))
        out = userns.run_python(UNPACK, str(blob), diff_id or digest_of(data), str(dest))
        result: dict[str, Any] = json.loads(out)
        return result

    yield unpack
    if dest.exists():
        userns.run_python(CLEAR, str(dest))


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_ids_are_subordinate_and_set_id_bits_theirs(
    layer: Any, tmp_path: Path, compression: str
) -> None:
    done = layer(
        archive(
            directory(b"./"),
            file(b"su", b"x", mode=0o4755),
            file(b"mine", b"x", uid=1000, gid=5, mode=0o2711),
            symlink(b"link", b"su", uid=7, gid=7),
            special(b"fifo", b"6", uid=3, gid=4, mode=0o600),
            file(b"deep/down/file", b"y", mtime_ns=3 * 10**9),
            special(b"null", b"3", devmajor=1, devminor=3),
        ),
        compression=compression,
    )
    root = userns.first_subid()
    status = (tmp_path / "layer" / "su").stat()
    assert (status.st_uid, status.st_gid) == (root, root), "image root is a subordinate id"
    assert stat.S_IMODE(status.st_mode) == 0o4755
    status = (tmp_path / "layer" / "mine").stat()
    assert (status.st_uid, status.st_gid) == (root + 1000, root + 5)
    assert stat.S_IMODE(status.st_mode) == 0o2711
    assert (tmp_path / "layer" / "link").lstat().st_uid == root + 7
    assert (tmp_path / "layer" / "fifo").lstat().st_gid == root + 4
    assert (tmp_path / "layer" / "deep").stat().st_uid == root
    assert (tmp_path / "layer").stat().st_uid == root
    assert (done["max_id"], done["skipped_devices"]) == (1000, ["null"])
    assert os.getuid() not in {p.lstat().st_uid for p in (tmp_path / "layer").rglob("*")}


def test_file_capabilities_belong_to_the_images_root(layer: Any, tmp_path: Path) -> None:
    layer(archive(pax(record(b"SCHILY.xattr." + CAPABILITY, NET_RAW)) + file(b"ping", b"x")))
    raw = os.getxattr(tmp_path / "layer" / "ping", CAPABILITY)
    magic, low, _, _, _, rootid = struct.unpack("<6I", raw)
    # Version 3 with a root id that is no namespace's root on the host: execve(2) ignores it there.
    assert magic == 0x0300_0001
    assert low == 1 << 13
    assert rootid == userns.first_subid()


def test_whiteouts_on_disk_and_back(layer: Any, tmp_path: Path) -> None:
    data = archive(
        directory(b"./", mode=0o755),
        directory(b"d/"),
        file(b"d/.wh..wh..opq", mode=0o600),
        file(b"d/new", b"x", uid=33, gid=33),
        file(b".wh.gone", mode=0o600),
    )
    layer(data)
    gone = (tmp_path / "layer" / "gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(tmp_path / "layer" / "d", "user.overlay.opaque") == b"y"
    diff_id = userns.run_python(PACK, str(tmp_path / "layer"), str(tmp_path / "out.tar")).strip()
    assert diff_id == digest_of(data)
    assert (tmp_path / "out.tar").read_bytes() == data


@pytest.mark.parametrize(("size", "holes"), [(5 << 20, False), (9 << 30, True)])
def test_a_packed_layer_has_holes_only_where_nobody_could_wait(
    layer: Any, tmp_path: Path, size: int, holes: bool
) -> None:
    layer(archive(directory(b"./", mode=0o755), file(b"big", b"x")))
    grow = f"import os, sys; os.truncate(sys.argv[1], {size})"
    userns.run_python(grow, str(tmp_path / "layer" / "big"))
    packed = tmp_path / "out.tar"
    userns.run_python(PACK, str(tmp_path / "layer"), str(packed))
    with tarfile.open(packed) as found:
        big = found.getmember("big")
        assert (big.size, big.issparse()) == (size, holes)
    assert (packed.stat().st_size < 1 << 20) == holes


def test_an_image_cannot_smuggle_overlay_marks(layer: Any, tmp_path: Path) -> None:
    marks = b"".join(
        record(b"SCHILY.xattr." + key, b"/etc")
        for key in (b"user.overlay.redirect", b"user.overlay.opaque", b"trusted.overlay.opaque")
    )
    done = layer(archive(pax(marks), directory(b"d"), special(b"w", b"3")))
    assert os.listxattr(tmp_path / "layer" / "d") == []
    assert not (tmp_path / "layer" / "w").exists()
    assert len(done["dropped_xattrs"]) == 3


def test_another_diff_id_is_refused(layer: Any) -> None:
    done = layer(archive(file(b"f", b"x")), "sha256:" + "0" * 64)
    assert done["error"] == "InvalidInput"
    assert "its uncompressed content has digest" in done["message"]


def test_bytes_after_the_end_count_for_the_diff_id(layer: Any) -> None:
    data = archive(file(b"f", b"x")) + bytes(9216)
    assert layer(data)["diff_id"] == digest_of(data)


def test_an_id_beyond_the_users_range_is_explained(layer: Any) -> None:
    done = layer(archive(file(b"f", b"x", uid=4_000_000_000)))
    assert done["error"] == "HostUnsupported"
    assert "'f' with owner 4000000000:0" in done["message"]
    assert "rootless setup" in done["message"]


def test_nothing_outside_is_touched_as_namespace_root(layer: Any, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    for data in (
        archive(symlink(b"l", b"../victim"), file(b"l", b"x")),
        archive(symlink(b"l", b".."), file(b"l/victim", b"x")),
        archive(file(b"../victim", b"x")),
    ):
        assert layer(data)["error"] == "InvalidInput"
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert (tmp_path / "victim").stat().st_uid == os.getuid()
