"""Restart policies."""

from __future__ import annotations

import pytest

from rootless.engine.restart import (
    FIRST_DELAY,
    LONGEST_DELAY,
    after_exit,
    check_policy,
    on_daemon_start,
)
from rootless.errors import InvalidInput
from rootless.model.request import RestartPolicy


def _decide(policy: RestartPolicy, **changes: object) -> tuple[bool, float]:
    values: dict[str, object] = {
        "exit_code": 1,
        "stopped_by_user": False,
        "restart_count": 0,
        "ran_for": 0.1,
        "previous_delay": 0.0,
    } | changes
    verdict = after_exit(policy, **values)  # type: ignore[arg-type]  # keywords of any field
    return verdict.restart, verdict.delay


@pytest.mark.parametrize(
    ("name", "exit_code", "expected"),
    [
        ("", 1, False),
        ("no", 1, False),
        ("always", 0, True),
        ("unless-stopped", 0, True),
        ("on-failure", 0, False),
        ("on-failure", 3, True),
    ],
)
def test_which_policies_restart(name: str, exit_code: int, expected: bool) -> None:
    assert _decide(RestartPolicy(name), exit_code=exit_code)[0] is expected


@pytest.mark.parametrize("name", ["always", "unless-stopped", "on-failure"])
def test_a_stop_by_the_user_is_final(name: str) -> None:
    assert not _decide(RestartPolicy(name), stopped_by_user=True)[0]


def test_retries_are_bounded() -> None:
    policy = RestartPolicy("on-failure", 2)
    assert [_decide(policy, restart_count=n)[0] for n in range(4)] == [True, True, False, False]


def test_delay_doubles_to_a_bound_and_resets_after_a_long_run() -> None:
    policy = RestartPolicy("always")
    delay, delays = 0.0, []
    for _ in range(12):
        delay = _decide(policy, previous_delay=delay)[1]
        delays.append(delay)
    assert delays[:3] == [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4]
    assert delays[-1] == LONGEST_DELAY
    assert _decide(policy, previous_delay=delay, ran_for=30.0)[1] == FIRST_DELAY


@pytest.mark.parametrize(
    ("name", "stopped", "exit_code", "expected"),
    [
        ("always", True, 0, True),
        ("unless-stopped", True, 0, False),
        ("unless-stopped", False, 0, True),
        ("on-failure", False, 0, False),
        ("on-failure", False, 9, True),
        ("on-failure", True, 9, False),
        ("no", False, 9, False),
    ],
)
def test_start_with_the_daemon(name: str, stopped: bool, exit_code: int, expected: bool) -> None:
    policy = RestartPolicy(name)
    started = on_daemon_start(policy, stopped_by_user=stopped, exit_code=exit_code, restart_count=7)
    assert started is expected


@pytest.mark.parametrize(("count", "expected"), [(0, True), (2, True), (3, False)])
def test_a_new_daemon_does_not_try_again_what_failed_often_enough(
    count: int, expected: bool
) -> None:
    policy = RestartPolicy("on-failure", 3)
    started = on_daemon_start(policy, stopped_by_user=False, exit_code=1, restart_count=count)
    assert started is expected


@pytest.mark.parametrize(
    ("policy", "auto_remove"),
    [
        (RestartPolicy("sometimes"), False),
        (RestartPolicy("on-failure", -1), False),
        (RestartPolicy("always", 3), False),
        (RestartPolicy("always"), True),
    ],
)
def test_nonsense_is_refused(policy: RestartPolicy, auto_remove: bool) -> None:
    with pytest.raises(InvalidInput):
        check_policy(policy, auto_remove=auto_remove)
