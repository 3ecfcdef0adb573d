"""Exit statuses, the same for every command here."""

from __future__ import annotations

import sys

from rootless.policy.documents import InvalidPolicy

HOLDS = 0
VIOLATIONS = 1
USAGE = 2
INVALID = 3
WARNINGS = 4
NOT_UNDERSTOOD = 5

TEXT = (
    "exit status: 0 the policy holds, 1 violations, 2 usage or a file that cannot be read, "
    "3 an invalid policy, 4 warnings with --fail-on warn, 5 an input that is not understood"
)


def complain(command: str, problem: str) -> int:
    """One line on standard error, for usage and files; the status for it."""
    print(f"rootless {command}: {problem}", file=sys.stderr)
    return USAGE


def invalid(error: InvalidPolicy) -> int:
    """Every complaint about a policy, a line each; the status for it."""
    complaints = error.context["complaints"]
    assert isinstance(complaints, list)
    for line in complaints:
        print(line, file=sys.stderr)
    return INVALID
