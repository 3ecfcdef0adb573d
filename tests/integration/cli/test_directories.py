"""Directories that a start makes: who may enter them afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
RUN = ("run", "--rm", "--network", "none")


@pytest.mark.parametrize("extra", [(), ("--read-only",)])
def test_directories_made_for_mounts_and_the_program_can_be_entered_by_every_user(
    engine: Engine, tmp_path: Path, extra: tuple[str, ...]
) -> None:
    """The daemon's own umask (077) would leave them to container root alone."""
    file = tmp_path / "file"
    file.touch()
    made = ("/start/here", "/volume/a", "/memory/a", "/bound/a")
    mounts = (
        *("-v", "/volume/a/data"),
        *("--tmpfs", "/memory/a/data"),
        *("-v", f"{file}:/bound/a/file"),
        *("--workdir", made[0]),
    )
    for _ in range(2):  # the second in a spare, where there is one
        modes = engine.ok(
            *RUN, *extra, *mounts, "--user", "1000:1000", IMAGE, "stat", "-c", "%a %u:%g", *made
        )
        assert modes.splitlines() == ["755 0:0"] * len(made)
