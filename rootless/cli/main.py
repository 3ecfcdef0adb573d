"""The entry point: global flags, the command's module, and every error's one line."""

from __future__ import annotations

import sys

from rootless.cli.command import Command, Invocation
from rootless.cli.descriptors import open_standard
from rootless.cli.flags import HelpWanted, UsageError, parse
from rootless.cli.registry import GROUPS, TOP, find
from rootless.client import clientconfig
from rootless.client import lightos as os
from rootless.client.endpoint import Where, choose
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from rootless.client.api import Client

_CONNECTIONS = {"run": 3, "container run": 3, "exec": 2, "container exec": 2}
"""How many the commands take whose start counts; made while the command is imported."""


def main() -> NoReturn:
    """Run ``sys.argv`` and end the process.

    ``os._exit`` skips the interpreter's tear-down (about 2 ms) and a reader
    thread that may still be blocked on the terminal.
    """
    import gc

    gc.disable()  # short-lived: what is allocated is freed by the kernel
    open_standard()
    if os.isatty(1) or os.isatty(2):
        from rootless.cli.plain import guard

        guard()
    os._exit(_flushed(run(sys.argv[1:])))


def _flushed(status: int) -> int:
    """What is still buffered is written; output that cannot be is a failure that is told."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return _closed_output()
    except OSError as error:
        return _complain(f"cannot write the output: {error.strerror}", None, status or 1)
    return status


def run(words: list[str]) -> int:
    """Run one command line; the exit status."""
    try:
        return _dispatch(words)
    except UsageError as error:
        return _report(error, error.status)
    except RootlessError as error:
        return _report(error, 1 if error.exit_status is None else error.exit_status)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _closed_output()
    except FileNotFoundError as error:
        missing = error.filename or "the working directory"
        return _complain(f"{missing}: {error.strerror}", None, 1)
    except OSError as error:
        name = error.filename or "input or output failed"
        return _complain(f"{name}: {error.strerror or error}", None, 1)
    except RecursionError:
        return _complain("the input is nested too deeply", None, 1)
    except Exception as error:
        return _unexpected(error)


def _report(error: RootlessError, status: int) -> int:
    return _complain(error.message, error.hint, status)


def _complain(message: str, hint: str | None, status: int) -> int:
    line = message.replace("\n", "\\n")  # one line, whatever name or path is in it
    text = f"rootless: {line}\n"
    if hint:
        text += f"hint: {hint}\n"
    try:
        sys.stdout.flush()
    except OSError:
        status = status or 1
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        return status
    return status


def _closed_output() -> int:
    """Nobody reads our output: end as any filter does, by SIGPIPE's default action."""
    from rootless.client.rawsignal import raw
    from rootless.client.signals import die_by

    return die_by(raw.SIGPIPE)


def _unexpected(error: Exception) -> int:
    """A defect of ours: the traceback goes to the log, one line to the user."""
    import traceback
    from os import makedirs

    from rootless.client import paths

    where = f"{paths.state_dir()}/rootless-cli.log"
    try:
        makedirs(paths.state_dir(), mode=0o700, exist_ok=True)
        with open(where, "a", encoding="utf-8") as log:
            log.write(f"--- {sys.argv!r}\n")
            traceback.print_exception(error, file=log)
        hint = f"this is a defect of rootless; details are in {where}"
    except OSError:
        hint = "this is a defect of rootless; please report it"
    return _complain(f"internal error: {type(error).__name__}: {error}", hint, 125)


def _dispatch(words: list[str]) -> int:
    where, allow_root, rest = _global_flags(words)
    if not rest or rest[0] == "help":
        return _help(rest[1:])
    found = find(rest)
    if found is None:
        return _no_command(rest)
    path = found[0]
    if path not in _CONNECTIONS:
        return _perform(*found, where, allow_root=allow_root)
    client = _connect_ahead(where, _CONNECTIONS[path])
    try:
        return _perform(*found, where, allow_root=allow_root, client=client)
    finally:
        if client is not None:
            client.close()


def _perform(
    path: str,
    entry: tuple[str, str, str],
    arguments: list[str],
    where: Where,
    *,
    allow_root: bool,
    client: Client | None = None,
) -> int:
    command = load(path, entry)
    if entry[0] == "host":  # programs of their own, with their own flags
        return command.run(Invocation(command, {}, set(), arguments, where))
    try:
        parsed = parse(command.flags, arguments, interspersed=command.interspersed)
    except HelpWanted:
        return _show(command)
    except UsageError as error:
        hint = f"See 'rootless {path} --help'."
        error.hint = f"{error.hint} {hint}" if error.hint else hint
        raise
    _check_count(command, parsed.args)
    if clientconfig.read():
        from rootless.cli.defaults import fill

        fill(path, parsed.values)
    _refuse_root(allow=allow_root)
    call = Invocation(command, parsed.values, parsed.given, parsed.args, where, client=client)
    try:
        return command.run(call)
    finally:
        call.close()


def _connect_ahead(where: Where, count: int) -> Client | None:
    from rootless.client.api import Client

    try:
        client = Client(choose(where))
    except RootlessError:
        return None  # told when the command asks for it
    client.connect_ahead(count)
    return client


def load(path: str, entry: tuple[str, str, str]) -> Command:
    """Import the module of a command."""
    module = __import__(f"rootless.cli.commands.{entry[0]}", fromlist=[entry[1]])
    command: Command = getattr(module, entry[1])
    command.path = path
    return command


_STRINGS = ("host", "context", "tlscacert", "tlscert", "tlskey")
_BOOLS = ("tls", "tlsverify")
_LETTERS = {"-H": "host", "-c": "context"}


def _global_flags(words: list[str]) -> tuple[Where, bool, list[str]]:
    """Flags before the command."""
    where = Where()
    allow_root = os.environ.get("ROOTLESS_ALLOW_ROOT") == "1"
    index = 0
    while index < len(words) and words[index].startswith("-"):
        word = words[index]
        index += 1
        if word == "--allow-root":
            allow_root = True
        elif word in ("--help", "-h"):
            return where, allow_root, ["help", *words[index:]]
        elif word in ("--version", "-v"):
            from rootless import __version__

            sys.stdout.write(f"rootless version {__version__}\n")
            return where, allow_root, ["help", "--nothing"]
        else:
            index = _place(where, word, words, index)
    return where, allow_root, words[index:]


def _place(where: Where, word: str, words: list[str], index: int) -> int:
    """A flag that says where the daemon is, or the configuration; the next word's index."""
    if letter := _LETTERS.get(word[:2] if word[1:2] != "-" else ""):
        name, value = letter, word[2:].removeprefix("=")
        mark = value
    else:
        name, mark, value = word[2:].partition("=")
    if word[1:2] == "-" and name in _BOOLS:
        if value not in ("", "true", "1", "false", "0"):
            raise UsageError(f'invalid argument "{value}" for "--{name}" flag: not a boolean')
        setattr(where, name, value not in ("false", "0"))
        return index
    if name not in _STRINGS and name != "config":
        raise UsageError(f"unknown flag: {word}", hint="See 'rootless --help'.")
    if not mark:
        if index == len(words):
            raise UsageError(f"flag needs an argument: {word}")
        value = words[index]
        index += 1
    if name == "config":
        clientconfig.use_directory(value)
    else:
        setattr(where, name, value)
    return index


def _help(words: list[str]) -> int:
    from rootless.cli.usage import group_help, top_help

    if words == ["--nothing"]:
        return 0
    if not words:
        sys.stdout.write(top_help())
        return 0
    found = find(words)
    if found is not None:
        return _show(load(found[0], found[1]))
    if words[0] in GROUPS:
        sys.stdout.write(group_help(words[0]))
        return 0
    return _no_command(words)


def _show(command: Command) -> int:
    from rootless.cli.usage import command_help

    if find(command.path.split())[1][0] == "host":  # type: ignore[index]  # it was found there
        return command.run(Invocation(command, {}, set(), ["--help"], None))
    sys.stdout.write(command_help(command))
    return 0


def _no_command(words: list[str]) -> int:
    from rootless.cli.absent import absent
    from rootless.cli.nearest import nearest

    name = words[0]
    group = GROUPS.get(name)
    if group is not None and (len(words) == 1 or words[1] in ("--help", "-h")):
        from rootless.cli.usage import group_help

        sys.stdout.write(group_help(name))
        return 0
    known = [*TOP, *GROUPS] if group is None else list(group.commands)
    asked = words[0] if group is None else words[1]
    path = f"rootless {name}" if group is None else f"rootless {name} {asked}"
    if found := absent(words):
        return _complain(f"no command '{path}': {found[0]}", found[1], 1)
    hint = f"See '{path.removesuffix(asked)}--help'."
    if near := nearest(asked, known):
        hint = f"did you mean {near!r}? {hint}"
    return _complain(f"unknown command: {path}", hint, 1)


def _check_count(command: Command, args: list[str]) -> None:
    low, high = command.min_args, command.max_args
    count = len(args)
    if count >= low and (high is None or count <= high):
        return
    if high is not None and low == high:
        need = "no arguments" if not low else f"{low} argument{'s' if low > 1 else ''}"
        verb = "accepts" if not low else "requires"
    elif count < low:
        need, verb = f"at least {low} argument{'s' if low > 1 else ''}", "requires"
    else:
        need, verb = f"at most {high} argument{'s' if high != 1 else ''}", "requires"
    raise UsageError(
        f"'rootless {command.path}' {verb} {need}",
        hint=f"See 'rootless {command.path} --help'.",
        status=1,
    )


def _refuse_root(*, allow: bool) -> None:
    if allow or os.geteuid() != 0:
        return
    with open("/proc/self/uid_map", encoding="ascii") as id_map:
        if id_map.read().split() != ["0", "0", "4294967295"]:
            return  # root of a user namespace only
    raise UsageError(
        "refusing to run as root: this engine exists so that containers need no root",
        hint="run it as an ordinary user (sudo rootless setup --user NAME prepares one); "
        "--allow-root overrides this, at the price of what a break-out would own",
        status=1,
    )


if __name__ == "__main__":
    main()
