"""One request per argument: names are printed as they succeed, errors as they come."""

from __future__ import annotations

import sys

from rootless.errors import RootlessError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def each(
    names: list[str],
    work: Callable[[str], object],
    *,
    show: Callable[[str, object], str] | None = None,
    forgive: int = 0,
) -> int:
    """Do ``work`` for every name, as Docker does: go on after an error, status 1 at the end.

    An error with the HTTP status ``forgive`` is printed and not counted.
    """
    status = 0
    for name in names:
        try:
            result = work(name)
        except Unavailable:
            raise
        except RootlessError as error:
            sys.stdout.flush()
            hint = f"hint: {error.hint}\n" if error.hint else ""
            sys.stderr.write(f"rootless: {error.message}\n{hint}")
            if not forgive or getattr(error, "status", 0) != forgive:
                status = 1
            continue
        sys.stdout.write((show(name, result) if show else name) + "\n")
        sys.stdout.flush()
    return status
