"""The question before something is removed."""

from __future__ import annotations

import sys

from rootless.cli.flags import UsageError


def confirm(warning: str) -> bool:
    """Ask on the terminal; without one, --force is needed."""
    if not sys.stdin.isatty():
        raise UsageError(
            "this removes data and there is no terminal to ask on", hint="add --force", status=1
        )
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() == "y"
