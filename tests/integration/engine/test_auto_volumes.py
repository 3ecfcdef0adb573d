"""Volumes of containers with an id range of their own."""

from __future__ import annotations

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


def test_an_anonymous_volume_is_writable(engine: Engine) -> None:
    script = "touch /v/x && stat -c %u /v/x"
    assert _run(engine, "-v", "/v", "--userns", "auto", script=script) == "0"
