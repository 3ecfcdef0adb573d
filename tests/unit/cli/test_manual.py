"""``--help`` is the manual: laid out, complete, and its examples are command lines that parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from rootless.cli import main as entry
from rootless.cli.command import LIST, Command
from rootless.cli.flags import parse
from rootless.cli.registry import GROUPS, TOP, find
from rootless.cli.usage import command_help


def _commands() -> Iterator[tuple[str, Command]]:
    for name, item in TOP.items():
        if item[0] != "host":  # programs of their own
            yield name, entry.load(name, item)
    for group, found in GROUPS.items():
        for verb, item in found.commands.items():
            if item[0] == "host":
                continue
            yield f"{group} {verb}", entry.load(f"{group} {verb}", item)


COMMANDS = dict(_commands())


@pytest.mark.parametrize("path", COMMANDS)
def test_options_stand_apart_from_their_text(path: str) -> None:
    command = COMMANDS[path]
    text = command_help(command)
    for name, letter, kind, *_ in command.flags:
        head = f"-{letter}, --{name}" if letter else f"--{name}"
        word = "" if kind in ("bool", "optional") else f" {kind}"
        assert re.search(rf"^ +{re.escape(head + word)}   +\S", text, re.MULTILINE), head
        if kind == LIST:
            assert "may be given several times" in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("path", COMMANDS)
def test_usage_names_options_when_there_are_any(path: str) -> None:
    command = COMMANDS[path]
    assert ("[OPTIONS]" in command.usage) == bool(command.flags)


def _examples(command: Command) -> Iterator[list[str]]:
    """The words of every ``rootless …`` in the examples, whatever stands before a pipe."""
    for line in command.examples.strip().splitlines():
        plain = re.sub(r"\$\(rootless [^)]*\)", "ID", line)
        for part in re.split(r"[|;]", plain) if "'{{" not in plain else [plain]:
            words = shlex.split(part, comments=True)
            if words[:1] == ["rootless"]:
                yield words[1:]


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_are_right(path: str) -> None:
    command = COMMANDS[path]
    examples = list(_examples(command))
    assert examples or not command.flags or path.endswith("inspect"), "no example"
    for words in examples:
        found = find(words)
        assert found is not None, words
        name, item, rest = found
        other = entry.load(name, item)
        parsed = parse(other.flags, rest, interspersed=other.interspersed)
        assert len(parsed.args) >= other.min_args, words
        assert other.max_args is None or len(parsed.args) <= other.max_args, words
