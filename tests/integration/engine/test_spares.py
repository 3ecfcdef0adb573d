"""Sandboxes made ahead: whose root file system a container gets, and whose it never gets."""

from __future__ import annotations

import contextlib
import select
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
QUIET = ("--network", "none")


def _spare(engine: Engine, image: str = IMAGE) -> set[int]:
    """Have a spare mount a root file system: the inodes of what may be its directory."""
    for _ in range(100):
        engine.ok("run", "--rm", *QUIET, image, "true")
        select.select([], [], [], 0.2)
        found = set()
        for ready in (engine.data / "ready").iterdir():
            with contextlib.suppress(FileNotFoundError):  # given away or removed meanwhile
                if (ready / "work" / "work").exists():  # overlayfs makes it when it mounts
                    found.add((ready / "upper").stat().st_ino)
        if found:
            return found
    raise AssertionError("no spare mounted a root file system")


def _upper(engine: Engine, container_id: str) -> Path:
    return engine.data / "containers" / container_id / "upper"


def _create(engine: Engine, *command: str) -> str:
    # --rm like the runs before: a root file system is mounted otherwise without.
    return engine.ok("create", "--rm", *QUIET, IMAGE, *command)


def test_a_new_container_gets_the_root_file_system_of_the_spare(engine: Engine) -> None:
    for _ in range(20):  # another start or a full disk's worth of removals may come between
        prepared = _spare(engine)
        made = _create(engine, "sh", "-c", "ls /file; echo x > /file; exec sleep 1000")
        assert _upper(engine, made).stat().st_ino not in prepared
        engine.ok("start", made)
        given = _upper(engine, made).stat().st_ino in prepared
        assert engine.ok("exec", made, "cat", "/etc/hostname") == made[:12]
        while "A /file" not in engine.ok("diff", made):
            select.select([], [], [], 0.05)
        engine.ok("rm", "-f", made)
        if given:
            return
    raise AssertionError("no container got what its spare had mounted")


def test_what_was_copied_into_a_new_container_stays(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    _spare(engine)
    made = _create(engine, "cat", "/file")
    engine.ok("cp", str(file), f"{made}:/file")
    assert engine.ok("start", "-a", made) == "content"


def test_a_change_of_the_root_directory_alone_stays(engine: Engine, tmp_path: Path) -> None:
    _spare(engine)
    made = _create(engine, "stat", "-c", "%a", "/")
    (tmp_path / "root").mkdir(mode=0o711)
    engine.ok("cp", "-a", f"{tmp_path}/root/.", f"{made}:/")
    expected = engine.run("start", "-a", made).stdout.strip()
    assert expected == "711"


def test_another_image_is_not_served_by_it(engine: Engine, tmp_path: Path) -> None:
    base = _create(engine, "true")
    (tmp_path / "extra").write_text("extra")
    engine.ok("cp", str(tmp_path / "extra"), f"{base}:/extra")
    engine.ok("commit", base, "other:1")
    engine.ok("rm", base)
    _spare(engine)
    assert engine.ok("run", "--rm", *QUIET, "other:1", "cat", "/extra") == "extra"
    assert engine.run("run", "--rm", *QUIET, IMAGE, "cat", "/extra").returncode == 1
    engine.ok("rmi", "other:1")


def test_an_image_that_came_again_is_not_served_by_the_spare_of_the_one_before(
    engine: Engine, tmp_path: Path
) -> None:
    """Its layers have the names of those that the spare has mounted, and other files."""
    base = _create(engine, "true")
    (tmp_path / "extra").write_text("extra")
    engine.ok("cp", str(tmp_path / "extra"), f"{base}:/extra")
    engine.ok("commit", base, "again:1")
    engine.ok("rm", base)
    engine.ok("save", "-o", str(tmp_path / "saved"), "again:1")
    for _ in range(2):
        _spare(engine, "again:1")
        engine.ok("rmi", "again:1")
        while list(engine.data.glob("trash/*")):
            select.select([], [], [], 0.02)
        engine.ok("load", "-i", str(tmp_path / "saved"))
        assert engine.ok("run", "--rm", *QUIET, "again:1", "cat", "/extra") == "extra"
    engine.ok("rmi", "again:1")
