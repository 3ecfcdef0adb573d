"""``rootlessd --help``: the daemon's manual."""

from __future__ import annotations

import os
import textwrap

from rootless.daemon.options import SECTIONS, Option
from rootless.daemon.values import LIST, MAP, POOLS, SIZE, SWITCH, SWITCHES, ULIMITS

_HEAD = """\
Usage:  rootlessd [OPTIONS]

The daemon of the rootless container engine. It serves Docker's Engine API and needs no
privileges of its own. Running containers survive its end and are found again when it starts.

Usually nothing needs to be started by hand: the command line starts the daemon on demand, and
`rootless system service install` makes it a systemd user service with socket activation.

Each setting is a flag here or a key in daemon.json ($XDG_CONFIG_HOME/rootless/daemon.json), not
both. Where the key has another name it stands in brackets. Settings marked * are applied by
SIGHUP. docs/daemon.md tells more, and which of Docker's settings are refused here, and why.
"""
_OWN = (
    ("    --config-file FILE", "another daemon.json (also --config)"),
    ("    --validate", "check the configuration and the files it names, and end"),
    (
        "    --allow-root",
        "run although you are root: who breaks out of a container owns all",
    ),
    ("-v, --version", "print the version and end"),
    ("    --help", "print this text"),
)
_TAIL = """\
Values:
  A flag that is on or off may be given a value after =, as in --ipv6=false. Sizes are bytes, or
  numbers with k, m, g, t. What may be given any number of times adds up.

Signals:
  SIGTERM, SIGINT   end; containers go on (live-restore)
  SIGHUP            read daemon.json and the TLS files again; a wrong file changes nothing

Files:
  daemon.json       {"debug": true, "dns": ["192.0.2.53"], "proxies": {"http-proxy": "http://…"}}
  key.json          this engine's identity (JSON web key), made at the first start
  policy.yaml       your policy
  tls/              ca.pem, cert.pem and key.pem for tcp://
  All are in $XDG_CONFIG_HOME/rootless.

Exit status:
  0   it ended as it was told to, or the configuration is right
  1   the configuration is wrong, or the daemon cannot run; the reason is the last line of output
"""


def manual() -> str:
    """The whole text, as wide as the terminal."""
    columns = _columns()
    parts = [_HEAD]
    for title, options in SECTIONS.items():
        lines = [f"{title}:"]
        for option in options:
            lines += _entry(_usage(option), _text(option), columns)
        parts.append("\n".join(lines) + "\n")
    lines = ["This program:"]
    for usage, text in _OWN:
        lines += _entry(usage, text, columns)
    parts += ["\n".join(lines) + "\n", _TAIL]
    return "\n".join(parts)


def _usage(option: Option) -> str:
    letter = f"-{option.letter}, " if option.letter else "    "
    meta = option.meta or {LIST: "TEXT", SWITCH: "", MAP: MAP.meta, SIZE: SIZE.meta}.get(
        option.kind, option.kind.meta
    )
    return f"{letter}--{option.name} {meta}".rstrip()


def _text(option: Option) -> str:
    where = f"{option.inside}." if option.inside else ""
    key = f" [{where}{option.key}]" if option.key != option.name or where else ""
    many = option.kind in (ULIMITS, POOLS, SWITCHES) and "any number" not in option.text
    return f"{option.text}{'; any number' if many else ''}{key}{' *' if option.reload else ''}"


def _entry(usage: str, text: str, columns: int) -> list[str]:
    width = 34
    lines = textwrap.wrap(text, columns - width)
    head = f"  {usage}"
    if len(head) > width - 2:
        return [head, *(" " * width + line for line in lines)]
    return [f"{head:<{width}}{lines[0]}", *(" " * width + line for line in lines[1:])]


def _columns() -> int:
    try:
        return max(80, min(os.get_terminal_size(1).columns, 110))
    except OSError:
        return 100
