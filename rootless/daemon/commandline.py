"""The command line of ``rootlessd``: Docker's flags by Docker's grammar."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rootless.cli.command import BOOL, STRING, Flag
from rootless.cli.flags import HelpWanted, Parsed, parse
from rootless.daemon.options import OPTIONS
from rootless.daemon.refusals import REFUSALS
from rootless.daemon.sources import Flags
from rootless.errors import InvalidInput

_OWN: tuple[Flag, ...] = (
    ("config-file", "", STRING, "", ""),
    ("config", "", STRING, "", ""),
    ("validate", "", BOOL, False, ""),
    ("allow-root", "", BOOL, False, ""),
    ("version", "v", BOOL, False, ""),
)
FLAGS: tuple[Flag, ...] = (
    *_OWN,
    *((o.name, o.letter, o.kind.flag, None, "") for o in OPTIONS),
    *((r.name, r.letter, r.kind.flag, None, "") for r in REFUSALS if r.name),
)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What to do, and the settings that were given."""

    flags: Flags
    validate: bool = False
    allow_root: bool = False
    version: bool = False
    help: bool = False


def read(arguments: Sequence[str], environ: Mapping[str, str]) -> CommandLine:
    """Parse the words behind the program's name; raises UsageError or InvalidInput."""
    try:
        found = parse(FLAGS, list(arguments))
    except HelpWanted:
        return CommandLine(Flags(), help=True)
    if found.args:
        switch = found.args[0] in ("true", "false")
        raise InvalidInput(
            f'"rootlessd" accepts no arguments, not {found.args[0]!r}',
            hint="a flag takes it after =: --ipv6=false" if switch else "see rootlessd --help",
        )
    own = {flag[0] for flag in _OWN}
    file, required = _config_file(found, environ)
    return CommandLine(
        Flags({name: found.values[name] for name in sorted(found.given - own)}, file, required),
        validate=found.values["validate"],
        allow_root=found.values["allow-root"],
        version=found.values["version"],
    )


def _config_file(found: Parsed, environ: Mapping[str, str]) -> tuple[str, bool]:
    """The path of daemon.json, and whether it was named."""
    named = found.values["config-file"] or found.values["config"]
    if named:
        return os.path.abspath(os.path.expanduser(named)), True
    return default_config_file(environ), False


def default_config_file(environ: Mapping[str, str]) -> str:
    """Where daemon.json is when nobody names another."""
    home = environ.get("HOME") or os.path.expanduser("~")
    base = Path(environ.get("XDG_CONFIG_HOME") or f"{home}/.config")
    if not base.is_absolute():
        raise InvalidInput(
            f"XDG_CONFIG_HOME is {str(base)!r}, which is not an absolute path",
            hint="export XDG_CONFIG_HOME with an absolute path, or unset it",
        )
    return str(base / "rootless/daemon.json")
