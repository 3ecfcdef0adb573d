"""Restart policies: when a container that ended is started again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.errors import InvalidInput
from rootless.model.request import RestartPolicy

FIRST_DELAY = 0.1
"""Seconds before the first restart; doubled each time, as Docker documents."""
LONGEST_DELAY = 60.0
RESET_AFTER = 10.0
"""A container that ran this many seconds is healthy: its next delay is the first again."""

_NAMES = ("", "no", "always", "unless-stopped", "on-failure")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``restart`` after ``delay`` seconds, or not at all."""

    restart: bool
    delay: float = 0.0


def check_policy(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Refuse what makes no sense, in Docker's words."""
    if policy.name not in _NAMES:
        raise InvalidInput(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    count = policy.maximum_retry_count
    if policy.name == "on-failure" and count < 0:
        raise InvalidInput("invalid restart policy: maximum retry count cannot be negative")
    if count and policy.name not in ("", "on-failure"):  # old clients send it without a name
        raise InvalidInput(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            + (" and cannot be negative" if count < 0 else "")
        )
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidInput("can't create 'AutoRemove' container with restart policy")


def after_exit(
    policy: RestartPolicy,
    *,
    exit_code: int,
    stopped_by_user: bool,
    restart_count: int,
    ran_for: float,
    previous_delay: float,
) -> Verdict:
    """What to do when the process ended; ``previous_delay`` 0 before the first restart."""
    if stopped_by_user or not _wants(policy, exit_code, restart_count):
        return Verdict(restart=False)
    if ran_for >= RESET_AFTER or previous_delay == 0:
        return Verdict(restart=True, delay=FIRST_DELAY)
    return Verdict(restart=True, delay=min(previous_delay * 2, LONGEST_DELAY))


def _wants(policy: RestartPolicy, exit_code: int, restart_count: int) -> bool:
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name != "on-failure" or exit_code == 0:
        return False
    return policy.maximum_retry_count == 0 or restart_count < policy.maximum_retry_count


def on_daemon_start(
    policy: RestartPolicy, *, stopped_by_user: bool, exit_code: int, restart_count: int
) -> bool:
    """Whether a container that once ran, and does not now, is started with the daemon.

    ``always`` starts even what the user stopped, ``unless-stopped`` does not;
    ``on-failure`` only what ended in failure by itself and was not tried as
    often as it may be.
    """
    if policy.name == "always":
        return True
    return not stopped_by_user and _wants(policy, exit_code, restart_count)
