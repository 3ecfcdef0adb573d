"""A file system can be out of inodes while it has megabytes."""

from __future__ import annotations

import io
import tarfile

import pytest

from tests.support.api import Api, until
from tests.support.smalldisk import small_disk

pytestmark = pytest.mark.integration


def test_no_more_files() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for number in range(3000):
            tar.addfile(tarfile.TarInfo(f"d/{number}"))
    with small_disk("size=64m,nr_inodes=1500") as disk:
        run = ("run", "--rm", "--network", "none", "rootless/busybox", "echo", "on")
        assert disk.engine.ok(*run) == "on"
        images, before = disk.engine.ok("images", "-aq"), disk.files
        _, _, answer = Api(disk.engine).raw(
            "POST", "/images/create", made.getvalue(), fromSrc="-", repo="x"
        )
        assert b"no space left on device" in answer
        until(lambda: disk.files <= before + 100)
        assert disk.engine.ok("images", "-aq") == images
        assert disk.engine.ok(*run) == "on"
