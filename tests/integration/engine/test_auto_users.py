"""The id range of ``--userns=auto`` holds the user the container is to run as."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
AUTO = ("run", "--rm", "--network", "none", "--userns", "auto")


def test_numbers_of_user_and_groups_widen_the_range(engine: Engine) -> None:
    """No file of the image belongs to them, and yet the container must have them."""
    words = ("--user", "10001:20002", "--group-add", "30003")
    shown = engine.ok(
        *AUTO, *words, IMAGE, "sh", "-c", "id -u; id -g; id -G; wc -l < /proc/1/uid_map"
    )
    assert shown.split() == ["10001", "20002", "20002", "30003", "2"]


def test_nobody_does_not_widen_the_range(engine: Engine) -> None:
    shown = engine.ok(*AUTO, "--user", "65534", IMAGE, "cat", "/proc/self/uid_map")
    assert [line.split()[::2] for line in shown.splitlines()] == [["0", "1024"], ["65534", "1"]]


def test_an_id_outside_the_range_is_named(engine: Engine) -> None:
    words = ("run", "--rm", "--network", "none", "--userns", "auto:size=2000")
    refused = engine.run(*words, "--user", "7", "--group-add", "3000", IMAGE, "true")
    assert refused.returncode == 125
    assert "user 7:0 with groups 3000" in refused.stderr
    assert "--userns=auto:size=" in refused.stderr
