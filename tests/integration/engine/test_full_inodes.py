"""A file system can be out of inodes while it has megabytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.api import IMAGE, Api, until
from tests.support.smalldisk import SmallDisk, small_disk

pytestmark = pytest.mark.integration
DISK = "size=64m,nr_inodes=1500"
MOST = 24
"""Files that a container is made and started with, and some more."""


def test_no_more_files() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for number in range(3000):
            tar.addfile(tarfile.TarInfo(f"d/{number}"))
    with small_disk(DISK) as disk:
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


@contextmanager
def _files_left(disk: SmallDisk, count: int) -> Iterator[None]:
    """With ``count`` inodes free, while the engine makes none ahead."""
    directory = disk.data.parent / "filler"
    directory.mkdir()
    number = 0
    while disk.files_left > count:
        (directory / str(number)).touch()
        number += 1
    try:
        yield
    finally:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        (range(1, MOST, 4), ("run", "--rm", "--network", "none")),
        (range(2, MOST, 4), ("run", "--rm", "--log-driver", "local")),
        (
            range(3, MOST, 4),
            ("run", "--rm", "--network", "slirp4netns", "-v", "vol:/etc", "-v", "/anonymous"),
        ),
        (range(0, MOST, 4), ("run", "--rm", "--network", "none", "--userns", "auto")),
        (range(6), ("exec",)),
    ],
    ids=["none", "bridge", "slirp-volumes", "auto", "exec"],
)
def test_whatever_cannot_be_made_is_told_in_words(counts: range, options: tuple[str, ...]) -> None:
    """At many numbers of files that are left: what failed, and what to do."""
    with small_disk(DISK) as disk:
        engine = disk.engine
        engine.ok("run", "--rm", IMAGE, "true")
        failed = 0
        for count in counts:
            ref = IMAGE
            if options == ("exec",):
                ref = Api(engine).run("sleep", "1000")
            with _files_left(disk, count):
                done = engine.run(*options, ref, "true")
            if done.returncode:
                failed += 1
                assert "no space left on device" in done.stderr.lower(), (count, done.stderr)
                assert "rootless system df" in done.stderr, (count, done.stderr)
                assert "Error:" not in done.stderr, (count, done.stderr)
            engine.purge()
        assert failed
        assert engine.ok("run", "--rm", IMAGE, "echo", "on") == "on"
