"""What the verbs share: their parsers, the store, how results are told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from rootless.errors import InvalidInput
from rootless.model.roles import ROLES
from rootless.pki.profiles import parse_duration
from rootless.pki.store import Record, Store, default_directory


def parser(verb: str, usage: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    """A parser with ``--dir``."""
    made = argparse.ArgumentParser(
        prog=f"rootless pki {verb}",
        usage=f"rootless pki {verb} {usage}",
        description=summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help=f"the authority's directory (default {_shown(default_directory())})",
    )
    return made


def _shown(path: Path) -> str:
    return str(path).replace(str(Path.home()), "~", 1)


def store(options: argparse.Namespace) -> Store:
    """The authority's directory that was named, or the default one."""
    return Store((options.dir or default_directory()).absolute())


def lifetime(add: Callable[..., object], what: str) -> None:
    """The option ``--lifetime``."""
    add("--lifetime", type=duration, metavar="TIME", help=f"{what}, such as 24h or 30d")


def duration(text: str) -> timedelta:
    """An argument like ``30d``."""
    try:
        return parse_duration(text)
    except InvalidInput as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def note_role(role: str) -> None:
    """Tell whom nobody bounds: what a role may do that no built-in policy is about."""
    if role and role not in ROLES:
        print(
            f"note: {role} is none of the built-in roles ({', '.join(ROLES)}): unless the daemon's "
            "policy says what it may do, its holder may do everything with what it makes",
            file=sys.stderr,
        )


def told(record: Record) -> str:
    """A certificate in a line."""
    return (
        f"{record.kind} {record.name} ({record.identity}), serial {record.serial}, "
        f"until {record.not_after}"
    )
