"""What probes mean for a container's health."""

from __future__ import annotations

import pytest

from rootless.engine.files import unix_mode
from rootless.engine.health import (
    KEPT_PROBES,
    OUTPUT_LIMIT,
    Output,
    after_probe,
    command,
    timing,
)
from rootless.model.records import Health, HealthProbe
from rootless.model.request import Healthcheck


def _probe(code: int) -> HealthProbe:
    return HealthProbe(1, 2, code, "")


def _after(codes: list[int], *, in_start: bool = False) -> Health:
    health = Health()
    for code in codes:
        health = after_probe(health, _probe(code), retries=3, in_start_period=in_start)
    return health


@pytest.mark.parametrize(
    ("codes", "status", "streak"),
    [
        ([], "starting", 0),
        ([0], "healthy", 0),
        ([1, 1], "starting", 2),
        ([1, 1, 1], "unhealthy", 3),
        ([0, 1, 1], "healthy", 2),
        ([1, 1, 1, 0], "healthy", 0),
        ([-1, -1, -1], "unhealthy", 3),
    ],
)
def test_rules(codes: list[int], status: str, streak: int) -> None:
    health = _after(codes)
    assert (health.status, health.failing_streak) == (status, streak)


def test_failures_while_starting_do_not_count() -> None:
    assert _after([1] * 9, in_start=True).status == "starting"
    assert _after([0], in_start=True).status == "healthy"


def test_only_the_last_probes_are_kept() -> None:
    assert len(_after([1] * 20).log) == KEPT_PROBES


def test_commands_and_defaults() -> None:
    assert command(Healthcheck(("NONE",)), ()) == ()
    assert command(Healthcheck(("CMD", "a", "b")), ()) == ("a", "b")
    assert command(Healthcheck(("CMD-SHELL", "a b")), ()) == ("/bin/sh", "-c", "a b")
    assert command(Healthcheck(("CMD-SHELL", "x")), ("bash", "-c")) == ("bash", "-c", "x")
    assert timing(Healthcheck()).retries == 3
    assert timing(Healthcheck(interval=5 * 10**8)).interval == 0.5


@pytest.mark.parametrize(
    ("go", "unix"),
    [(0o644, 0o100644), (1 << 31 | 0o755, 0o040755), (1 << 27 | 0o777, 0o120777),
     (1 << 23 | 0o755, 0o104755), (1 << 31 | 1 << 20 | 0o777, 0o041777)],
)  # fmt: skip
def test_go_modes_become_unix_modes(go: int, unix: int) -> None:
    assert unix_mode(go) == unix


def test_output_is_cut_and_says_so() -> None:
    output = Output()
    for piece in (b"a" * (OUTPUT_LIMIT - 1), b"b"):
        output.add(piece)
    assert str(output) == "a" * (OUTPUT_LIMIT - 1) + "b"
    output.add(b"c")
    assert str(output) == "a" * (OUTPUT_LIMIT - 1) + "b..."
