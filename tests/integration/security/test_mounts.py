"""Mounts by which somebody hostile would get at what the policy refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.engine import inside
from tests.integration.storage.conftest import run_in_engine
from tests.support.engine import Engine, new_engine
from tests.support.smalldisk import on_tmpfs

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"


def test_no_device_covers_a_file_of_proc(engine: Engine) -> None:
    run = ("run", "--rm", "--network", "none")
    done = engine.run(*run, "--device", "/dev/zero:/proc/uptime", IMAGE, "true")
    assert done.returncode == 125
    assert "/proc/uptime is inside /proc" in done.stderr
    engine.ok(*run, "--device", "/dev/zero:/dev/other", IMAGE, "test", "-c", "/dev/other")


def test_a_source_that_was_not_there_is_not_mounted(engine: Engine, tmp_path: Path) -> None:
    """It could not be judged; what appears afterwards may be a link to anything."""
    source = tmp_path / "source"
    engine.ok("create", "--name", "late", "--network", "none", "-v", f"{source}:/x", IMAGE, "true")
    engine.ok("start", "--attach", "late")
    source.rmdir()
    for present in (False, True):
        if present:
            # A dangling link has no file to be judged either.
            source.symlink_to(tmp_path / "nothing")
        done = engine.run("start", "late")
        assert done.returncode != 0
        assert "bind source path does not exist" in done.stderr
    engine.ok("rm", "late")


def test_a_name_of_255_bytes_and_no_link_of_a_foreign_process(engine: Engine) -> None:
    for name in ("v" * 256, "v" * 5000):
        done = engine.run("volume", "create", name)
        assert "255 at most" in done.stderr
    engine.ok("volume", "create", "v" * 255)
    engine.ok("volume", "rm", "v" * 255)
    done = engine.run("run", "--rm", "-v", "/proc/1/root/tmp:/x", IMAGE, "true")
    assert done.returncode == 125
    assert "permission denied" in done.stderr
    loop = engine.root / "loop"
    loop.symlink_to(loop)
    done = engine.run("run", "--rm", "-v", f"{loop}/x:/x", IMAGE, "true")
    assert done.returncode == 125
    assert "too many levels of symbolic links" in done.stderr


def _swapped(parent: str) -> tuple[int, int]:
    """The owners of a made source and of the user's directory that took its name meanwhile."""
    victim, made = f"{parent}/victim", f"{parent}/made"
    os.mkdir(victim)
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        os.rename(made, f"{parent}/moved")
        os.rename(victim, made)

    os.mkdir = mkdir  # type: ignore[assignment]  # in this child only: an attacker who wins the race
    inside.make_source(made, 1)
    return os.stat(f"{parent}/moved").st_uid, os.stat(made).st_uid


def test_a_swapped_directory_is_not_given_away(tmp_path: Path) -> None:
    assert run_in_engine(_swapped, str(tmp_path)) == (1, 0)
    run_in_engine(_remove, str(tmp_path / "moved"))


def _remove(path: str) -> None:
    os.rmdir(path)


def test_a_mount_point_in_a_bound_directory_is_made_as_the_user(
    engine: Engine, tmp_path: Path
) -> None:
    """``-v .:/app -v /app/node_modules``, which every other project with Node says."""
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (tmp_path / "file").write_text("words")
    run = ("run", "--rm", "--network", "none", "-v", f"{tree}:/app")
    told = engine.ok(
        *run, "-v", "/app/node_modules", "-v", f"{tmp_path}/file:/app/deep/er/.env:ro",
        "--tmpfs", "/app/cache", IMAGE, "cat", "/app/deep/er/.env",
    )  # fmt: skip
    assert told == "words"
    made = {str(path.relative_to(tree)): path.lstat() for path in tree.rglob("*")}
    assert sorted(made) == ["cache", "deep", "deep/er", "deep/er/.env", "node_modules"]
    assert {found.st_uid for found in made.values()} == {os.getuid()}
    assert made["deep/er/.env"].st_size == 0
    # A link leads to where the container would follow it, beneath its root; not where nobody
    # may write.
    (tree / "link").symlink_to(outside)
    engine.ok(*run, "-v", "/app/link/point", IMAGE, "test", "-d", f"{outside}/point")
    assert list(outside.iterdir()) == []
    done = engine.run(*run[:-1], f"{run[-1]}:ro", "-v", "/app/other", IMAGE, "true")
    assert "cannot make the mount point /app/other: Read-only file system" in done.stderr
    assert list(outside.iterdir()) == []


def test_a_mount_point_in_a_directory_of_the_container_is_the_container_s(
    engine: Engine, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    run = ("run", "--rm", "--network", "none", "-v", f"{tmp_path}:/app")
    engine.ok(*run, IMAGE, "mkdir", "/app/theirs")
    engine.ok(*run, "-v", "/app/theirs/point", IMAGE, "true")
    point = tmp_path / "theirs/point"
    assert point.lstat().st_uid == (tmp_path / "theirs").lstat().st_uid != os.getuid()
    engine.ok(*run, IMAGE, "rm", "-r", "/app/theirs")


def test_a_mount_below_the_source_is_not_left_out(tmp_path: Path) -> None:
    """What it covers is not this user's to see; the message tells what stands in the way."""
    below = tmp_path / "source/below"
    below.mkdir(parents=True)
    bind = f"type=bind,src={below.parent},dst=/m"
    run = ("run", "--rm", "--network", "none", "--mount")
    with new_engine(start=False) as engine:
        engine.wrapper = on_tmpfs(engine, below, "mode=755")
        engine.start()
        assert "tmpfs" in engine.ok(*run, bind, IMAGE, "grep", " /m/below ", "/proc/mounts")
        done = engine.run(*run, f"{bind},bind-recursive=disabled", IMAGE, "true")
        assert done.returncode == 125
        assert f"cannot mount {below.parent} alone" in done.stderr
        assert "leave out bind-recursive=disabled" in done.stderr
        alone = f"type=bind,src={below},dst=/m,bind-recursive=disabled"
        engine.ok(*run, alone, IMAGE, "true")
