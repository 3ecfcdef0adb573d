"""Mounts by which somebody hostile would get at what the policy refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.engine import inside
from tests.integration.storage.conftest import run_in_engine
from tests.support.engine import Engine

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
