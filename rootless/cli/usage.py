"""The text of ``--help``: each command's manual, and the list of commands."""

from __future__ import annotations

import os

from rootless.cli.command import (
    BOOL,
    BYTES,
    DECIMAL,
    DURATION,
    LIST,
    MAP,
    OPTIONAL,
    Command,
    Flag,
)
from rootless.cli.registry import GROUPS, TOP

_COMMON = ("run", "exec", "ps", "pull", "push", "images", "login", "logout", "version", "info")
_HOST = ("doctor", "setup", "check-policy", "audit")
_EXIT = """  0      success
  1      wrong arguments, or the daemon refused or failed
  125    wrong flags, or a defect of this program
  130    interrupted"""


def command_help(command: Command) -> str:
    """The manual of one command."""
    usages = command.usage.split("\n")
    lines = [f"Usage:  rootless {usages[0]}"]
    lines += [f"        rootless {usage}" for usage in usages[1:]]
    lines += ["", command.summary, ""]
    if command.description:
        lines += [command.description.strip("\n"), ""]
    if command.aliases:
        names = ", ".join(f"rootless {alias.strip()}" for alias in command.aliases.split(","))
        lines += ["Aliases:", f"  {names}", ""]
    if command.flags:
        lines += ["Options:", *_flag_lines(command.flags), "", *_value_lines(command.flags)]
    if command.examples:
        lines += ["Examples:", _indent(command.examples), ""]
    lines += ["Exit status:", command.exit_codes.strip("\n") or _EXIT]
    return "\n".join(lines) + "\n"


def group_help(name: str) -> str:
    """The commands of one group."""
    group = GROUPS[name]
    width = max(map(len, group.commands)) + 3
    lines = [f"Usage:  rootless {name} COMMAND", "", group.summary, "", "Commands:"]
    lines += [f"  {word:<{width}}{entry[2]}" for word, entry in sorted(group.commands.items())]
    lines += ["", f"Run 'rootless {name} COMMAND --help' for more information on a command."]
    return "\n".join(lines) + "\n"


def top_help() -> str:
    """What ``rootless`` and ``rootless --help`` print."""
    lines = [
        "Usage:  rootless [OPTIONS] COMMAND",
        "",
        "Containers without root: Docker's commands, a tighter sandbox",
        "",
        "Common Commands:",
        *[f"  {name:<14}{TOP[name][2]}" for name in _COMMON],
        "",
        "Host Commands:",
        *[f"  {name:<14}{TOP[name][2]}" for name in _HOST if name in TOP],
        "",
        "Management Commands:",
        *[f"  {name:<14}{group.summary}" for name, group in sorted(GROUPS.items())],
        "",
        "Commands:",
        *[
            f"  {name:<14}{entry[2]}"
            for name, entry in sorted(TOP.items())
            if name not in _COMMON and name not in _HOST
        ],
        "",
        "Global Options:",
        "      --allow-root         Run even as real root (also ROOTLESS_ALLOW_ROOT=1)",
        "      --config DIR         Configuration shared with docker (default ~/.docker)",
        "  -c, --context string     The context to use (see rootless context ls)",
        "      --help               Print this text",
        "  -H, --host string        The daemon: unix:///PATH, tcp://HOST:PORT or ssh://HOST",
        "                           (default $ROOTLESS_HOST, $DOCKER_HOST, the context in use,",
        "                           else the user's own daemon, which is started on demand)",
        "      --tls                Use TLS; the server is not checked without --tlsverify",
        "      --tlscacert FILE     Trust servers of this authority (~/.docker/ca.pem)",
        "      --tlscert FILE       Our certificate (~/.docker/cert.pem)",
        "      --tlskey FILE        Our key (~/.docker/key.pem)",
        "      --tlsverify          Use TLS and verify the server (DOCKER_TLS_VERIFY)",
        "  -v, --version            Print the version and exit",
        "",
        "Run 'rootless COMMAND --help' for more information on a command.",
    ]
    return "\n".join(lines) + "\n"


def _flag_lines(flags: tuple[Flag, ...]) -> list[str]:
    heads = []
    rows = [*flags, ("help", "", BOOL, False, "Print this text")]
    for name, letter, kind, _, _ in rows:
        head = f"  -{letter}, --{name}" if letter else f"      --{name}"
        heads.append(head if kind in (BOOL, OPTIONAL) else f"{head} {kind}")
    width = max(map(len, heads)) + 3
    columns = _columns()
    lines = []
    for head, (_, _, kind, default, text) in sorted(
        zip(heads, rows, strict=True), key=lambda pair: pair[1][0]
    ):
        shown = default in (None, False, "", 0, -1) or kind == OPTIONAL or "(default" in text
        full = text if shown else f"{text} (default {_go(default)})"
        wrapped = _wrap(full, max(columns - width, 30))
        lines.append(f"{head:<{width}}{wrapped[0]}")
        lines += [" " * width + part for part in wrapped[1:]]
    return lines


_VALUES = (
    (BYTES, "a number of bytes, or with b, k, m, g, t (powers of 1024): 512m, 1.5g"),
    (DECIMAL, "a number with up to nine decimals: 0.5"),
    (DURATION, "numbers with ns, us, ms, s, m, h: 1m30s, 500ms"),
    (LIST, "may be given several times"),
    (MAP, "NAME=VALUE, may be given several times"),
)


def _value_lines(flags: tuple[Flag, ...]) -> list[str]:
    """What the kinds of values mean that the flags of this command take."""
    used = {flag[2] for flag in flags}
    rows = [f"  {kind:<11}{text}" for kind, text in _VALUES if kind in used]
    return ["Values:", *rows, ""] if rows else []


def _go(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.strip("\n").split("\n"))


def _columns() -> int:
    try:
        return max(60, min(os.get_terminal_size(1).columns, 110))
    except OSError:
        return 80
