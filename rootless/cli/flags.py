"""The flag parser: GNU long options and bundled letters with Docker's rules and words.

Docker's parser is Go's pflag. Its habits that scripts rely on: ``--flag=value``
and ``--flag value``, ``-it``, ``-p8080:80`` and ``-p=8080:80``, booleans only
take a value after ``=``, repeated flags add up or overwrite, ``--`` ends flags.
"""

from __future__ import annotations

from rootless.cli.command import BOOL, BYTES, DECIMAL, DURATION, INT, LIST, MAP, OPTIONAL, STRING
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.command import Flag

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class UsageError(RootlessError):
    """The command line itself is wrong. ``status`` is what the process ends with."""

    code = "usage"

    def __init__(self, message: str, *, hint: str | None = None, status: int = 125) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class HelpWanted(Exception):
    """``--help`` was given."""


class Parsed:
    """Values by flag name, which flags were written, and the arguments."""

    __slots__ = ("args", "given", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.given: set[str] = set()
        self.args: list[str] = []


def parse(flags: tuple[Flag, ...], words: list[str], *, interspersed: bool = True) -> Parsed:
    """Parse ``words``. Without ``interspersed`` flags end at the first argument."""
    result = Parsed()
    by_name: dict[str, Flag] = {}
    by_letter: dict[str, Flag] = {}
    for flag in flags:
        by_name[flag[0]] = flag
        if flag[1]:
            by_letter[flag[1]] = flag
    index = 0
    count = len(words)
    while index < count:
        word = words[index]
        index += 1
        if len(word) < 2 or word[0] != "-":
            if not interspersed:
                result.args.extend(words[index - 1 :])
                break
            result.args.append(word)
        elif word == "--":
            result.args.extend(words[index:])
            break
        elif word[1] == "-":
            index = _long(by_name, word, words, index, result)
        else:
            index = _letters(by_letter, word, words, index, result)
    for flag in flags:
        if flag[0] not in result.values:
            result.values[flag[0]] = [] if flag[2] in (LIST, MAP) else flag[3]
    return result


def _long(by_name: dict[str, Flag], word: str, words: list[str], index: int, out: Parsed) -> int:
    name, mark, value = word[2:].partition("=")
    flag = by_name.get(name)
    if flag is None:
        if name == "help":
            raise HelpWanted
        if not name or name[0] in "-=":
            raise UsageError(f"bad flag syntax: {word}")
        raise UsageError(f"unknown flag: --{name}", hint=_nearest(name, by_name))
    if mark:
        _store(flag, value, out)
    elif flag[2] == BOOL:
        _store(flag, "true", out)
    elif flag[2] == OPTIONAL:
        _store(flag, "", out)
    elif index < len(words):
        _store(flag, words[index], out)
        index += 1
    else:
        raise UsageError(f"flag needs an argument: --{name}")
    return index


def _letters(
    by_letter: dict[str, Flag], word: str, words: list[str], index: int, out: Parsed
) -> int:
    position = 1
    while position < len(word):
        letter = word[position]
        rest = word[position + 1 :]
        flag = by_letter.get(letter)
        if flag is None:
            if letter == "h" and word == "-h":
                raise HelpWanted
            raise UsageError(f"unknown shorthand flag: {letter!r} in {word}")
        position += 1
        if rest.startswith("=") and len(rest) > 1:
            _store(flag, rest[1:], out)
            break
        if flag[2] in (BOOL, OPTIONAL):
            _store(flag, "true" if flag[2] == BOOL else "", out)
        elif rest:
            _store(flag, rest, out)
            break
        elif index < len(words):
            _store(flag, words[index], out)
            index += 1
        else:
            raise UsageError(f"flag needs an argument: {letter!r} in {word}")
    return index


def _store(flag: Flag, text: str, out: Parsed) -> None:
    name, _, kind = flag[:3]
    if kind in (LIST, MAP):
        if kind == MAP and "=" not in text:
            raise _invalid(flag, text, f"{text} must be formatted as key=value")
        out.values.setdefault(name, []).append(text)
    else:
        out.values[name] = text if kind in (STRING, OPTIONAL) else _convert(flag, kind, text)
    out.given.add(name)


def _convert(flag: Flag, kind: str, text: str) -> object:
    if kind == BOOL:
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise _invalid(flag, text, f'strconv.ParseBool: parsing "{text}": invalid syntax')
    if kind == INT:
        return _integer(flag, text)
    from rootless.units import parse_duration, parse_size

    try:
        if kind == BYTES:
            return -1 if text == "-1" else _fits(parse_size(text))
        if kind == DURATION:
            return _fits(parse_duration(text))
        if kind == DECIMAL:
            return _fits(_decimal(text))
    except (RootlessError, ValueError, OverflowError) as error:
        reason = error.message if isinstance(error, RootlessError) else str(error)
        raise _invalid(flag, text, reason) from None
    raise AssertionError(kind)


def _integer(flag: Flag, text: str) -> int:
    """Go's ParseInt: decimal, or hexadecimal after 0x, in 64 bits."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    try:
        if not digits.isascii() or "_" in digits or not digits[:1].isalnum():
            raise ValueError  # what int() takes beyond Go: other scripts' digits, 1_000, blanks
        value = int(text, 16) if digits[:2] in ("0x", "0X") else int(text)
    except ValueError:
        raise _invalid(flag, text, f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    try:
        return _fits(value)
    except ValueError as error:
        raise _invalid(flag, text, f'strconv.ParseInt: parsing "{text}": {error}') from None


def _fits(value: int) -> int:
    """The API's numbers have 64 bits with a sign."""
    if not -1 << 63 <= value < 1 << 63:
        raise ValueError("value out of range")
    return value


def _decimal(text: str) -> int:
    """A number of CPUs in billionths, without the error of floating point."""
    whole, _, fraction = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    whole = whole[1:] if whole[:1] in ("+", "-") else whole
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f'failed to parse "{text}" as a rational number')
    if len(fraction.rstrip("0")) > 9:
        raise ValueError("value is too precise")
    return sign * (int(whole or "0") * 10**9 + int(fraction[:9].ljust(9, "0") or "0"))


def _invalid(flag: Flag, text: str, reason: str) -> UsageError:
    shown = f"-{flag[1]}, --{flag[0]}" if flag[1] else f"--{flag[0]}"
    return UsageError(f'invalid argument "{text}" for "{shown}" flag: {reason}')


def _nearest(name: str, known: dict[str, Flag]) -> str | None:
    from rootless.cli.nearest import nearest

    found = nearest(name, known)
    return f"did you mean --{found}?" if found else None
