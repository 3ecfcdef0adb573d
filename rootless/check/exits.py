"""Exit statuses, the same for every command here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps

from rootless.errors import RootlessError
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


Main = Callable[[Sequence[str]], int]


def guarded(command: str) -> Callable[[Main], Main]:
    """A command whose failures have the statuses above, output that cannot be written too."""

    def wrap(main: Main) -> Main:
        @wraps(main)
        def run(argv: Sequence[str]) -> int:
            try:
                status = main(argv)
                sys.stdout.flush()
            except BrokenPipeError:
                raise
            except InvalidPolicy as error:
                return invalid(error)
            except OSError as error:
                if error.filename is None:
                    _discard_output()
                return complain(command, f"{error.filename or 'the output'}: {error.strerror}")
            except RootlessError as error:
                return complain(command, str(error))
            return status

        return run

    return wrap


def _discard_output() -> None:
    """What is left in the buffer has been told to be lost; nobody tries again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def invalid(error: InvalidPolicy) -> int:
    """Every complaint about a policy, a line each; the status for it."""
    complaints = error.context["complaints"]
    assert isinstance(complaints, list)
    for line in complaints:
        print(line, file=sys.stderr)
    return INVALID
