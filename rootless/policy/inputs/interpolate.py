"""Variables in compose files (the specification's "Interpolation"), in an empty environment.

A variable is its default, or empty as compose has it with a warning; one that
must be set (``${X:?…}``) cannot be known.
"""

from __future__ import annotations

import re
from typing import Any

from rootless.policy.inputs.read import NotUnderstood, Path, shortened

_START = re.compile(r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|(?P<brace>\{))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_MAX_DEPTH = 16


def _closing(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        if text[at] == "{" and text[at - 1] == "$":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
    return -1


def _expand(text: str, path: Path, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise NotUnderstood("variables are nested too deeply", path=path)
    parts, at = [], 0
    while (match := _START.search(text, at)) is not None:
        parts.append(text[at : match.start()])
        at = match.end()
        if match["escaped"]:
            parts.append("$")
        elif match["brace"]:
            end = _closing(text, at)
            if end < 0:
                raise NotUnderstood(f"${{ is not closed in {shortened(text)!r}", path=path)
            parts.append(_braced(text[at:end], path, depth))
            at = end + 1
    parts.append(text[at:])
    return "".join(parts)


def _braced(body: str, path: Path, depth: int) -> str:
    name = _NAME.match(body)
    if name is None:
        raise NotUnderstood(f"${{{shortened(body)}}} names no variable", path=path)
    rest = body[name.end() :]
    if not rest:
        return ""
    operator = next((op for op in _OPERATORS if rest.startswith(op)), None)
    if operator is None:
        raise NotUnderstood(f"${{{shortened(body)}}} is no form of a variable", path=path)
    word = rest[len(operator) :]
    if operator.endswith("-"):
        return _expand(word, path, depth + 1)
    if operator.endswith("?"):
        raise NotUnderstood(f"the variable {name[0]} must be set", path=path)
    return ""


def interpolate(value: Any, path: Path) -> Any:
    """A value with the variables in its strings replaced."""
    if isinstance(value, str):
        return _expand(value, path, 0) if "$" in value else value
    if isinstance(value, list):
        return [interpolate(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: interpolate(item, (*path, key)) for key, item in value.items()}
    return value
