"""Volumes of containers with an id range of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
QUIET = ("--network", "none")
OWNERS = "stat -c '%u:%g %n' /v /v/* | sort"


def _run(engine: Engine, *arguments: str, script: str) -> str:
    return engine.ok("run", "--rm", *QUIET, *arguments, IMAGE, "sh", "-c", script)


def test_a_volume_goes_from_range_to_range(engine: Engine) -> None:
    engine.ok("volume", "create", "vol")
    make = "touch /v/root /v/other && chown 7:8 /v/other"
    _run(engine, "-v", "vol:/v", "--userns", "auto", script=make)
    expected = ["0:0 /v", "0:0 /v/root", "7:8 /v/other"]
    # Another range, the shared one, and a third: always the same owners inside.
    for mode in ("auto:size=2000", "shared", "auto"):
        shown = _run(engine, "-v", "vol:/v", "--userns", mode, script=OWNERS)
        assert shown.splitlines() == expected, mode
    engine.ok("volume", "rm", "vol")


def test_a_volume_in_use_is_not_taken_away(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "user", "-v", "vol:/v", *QUIET, IMAGE, "sleep", "1000")
    auto = ("run", "--rm", *QUIET, "--userns", "auto", "-v", "vol:/v", IMAGE, "true")
    refused = engine.run(*auto)
    assert refused.returncode == 125
    assert "vol" in refused.stderr
    assert "user" in refused.stderr
    assert _run(engine, "-v", "vol:/v", script="stat -c %u /v") == "0"
    engine.ok("rm", "-f", "user")
    engine.ok(*auto)
    engine.ok("volume", "rm", "vol")


def test_files_are_copied_before_the_first_start(engine: Engine, tmp_path: Path) -> None:
    """And after a container of another range had the volume."""
    file = tmp_path / "file"
    file.write_text("content")
    run = ("--network", "none", "-v", "vol:/v", "-v", "/anon", "--userns", "auto")
    engine.ok("create", "--name", "late", *run, IMAGE, "sh", "-c", OWNERS)
    for target in ("/v/one", "/anon/one", "/tmp/one"):
        engine.ok("cp", str(file), f"late:{target}")
    assert _run(engine, "-v", "vol:/v", script=OWNERS).splitlines() == ["0:0 /v", "0:0 /v/one"]
    engine.ok("cp", str(file), "late:/v/two")
    engine.ok("cp", "late:/v/one", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    shown = engine.ok("start", "-a", "late").splitlines()
    assert shown == ["0:0 /v", "0:0 /v/one", "0:0 /v/two"]
    # Somebody else's now: what is in it has to wait, the rest has not.
    engine.ok("run", "-d", "--name", "user", "-v", "vol:/v", *QUIET, IMAGE, "sleep", "1000")
    refused = engine.run("cp", str(file), "late:/v/three")
    assert refused.returncode != 0
    assert "volume vol is in use by container user" in refused.stderr
    engine.ok("cp", str(file), "late:/tmp/three")
    engine.ok("rm", "-f", "-v", "user", "late")
    engine.ok("volume", "rm", "vol")


def test_an_anonymous_volume_is_writable(engine: Engine) -> None:
    script = "touch /v/x && stat -c %u /v/x"
    assert _run(engine, "-v", "/v", "--userns", "auto", script=script) == "0"
