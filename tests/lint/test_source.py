"""Rules for the source that no tool checks: sizes, and nothing of a developer's machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

MAX_MODULE_LINES = 500
MAX_STATEMENTS = 40
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def _python_files(root: Path) -> list[Path]:
    return sorted(path for top in ("rootless", "ci") for path in (root / top).rglob("*.py"))


def statements(function: ast.AST) -> int:
    """Statements of a function; docstrings and the bodies of nested functions do not count."""
    count = 0
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.stmt):
            docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            count += not docstring
        if not isinstance(child, _FUNCTION):
            count += statements(child)
    return count


def test_statements_are_counted() -> None:
    lines = ["def f():", "    'doc'", "    if x:", "        y = 1", "    def g():", "        z = 1"]
    source = "\n".join(lines)
    assert statements(ast.parse(source).body[0]) == 3


def test_functions_stay_small(repository: Path) -> None:
    large = []
    for path in _python_files(repository):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, _FUNCTION) and statements(node) > MAX_STATEMENTS:
                where = f"{path.relative_to(repository)}:{node.lineno}"
                large.append(f"{where} {node.name}: {statements(node)} statements")
    assert not large, "\n".join(large)


def test_modules_stay_small(repository: Path) -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in _python_files(repository)}
    large = [
        f"{path.relative_to(repository)}: {lines} lines"
        for path, lines in sizes.items()
        if lines > MAX_MODULE_LINES
    ]
    assert not large, "\n".join(large)


# Written in two parts, or this file would find itself.
@pytest.mark.parametrize("pattern", ["/wo" + "rk/(?!dir)", "/opt/" + "rl-venv", "/opt/" + "pypi"])
def test_no_path_of_a_developers_machine(repository: Path, pattern: str) -> None:
    found = []
    for top in ("rootless", "tests", "ci", "docs", "policies", "profiles", "pki"):
        for path in sorted((repository / top).rglob("*")):
            if not path.is_file() or path.suffix == ".pyc":
                continue
            text = path.read_text(errors="replace")
            for match in re.finditer(rf"(?<![\w/.}}])({pattern})", text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(repository)}:{line} {match[1]}")
    assert not found, "\n".join(found)


def test_no_leftover_marks(repository: Path) -> None:
    marks = re.compile("#.*\\b(TO" + "DO|FIX" + "ME|XX" + "X)\\b")
    found = [
        f"{path.relative_to(repository)}:{number} {line.strip()}"
        for path in _python_files(repository)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


# In parts, as above: a reason follows, after " - ", in brackets or in a comment of its own.
_SUPPRESSED = re.compile(
    r"#\s*(?:ruff: )?(?:no"
    + r"qa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type: ig"
    + r"nore(?:\[[a-z, -]+\])?"
    r"|prag" + r"ma\b[^#(]*?)(?P<reason>\s*(?:- |\(|# )\s*\w.*)?$"
)


@pytest.mark.parametrize(
    ("comment", "given"),
    [
        ("no" + "qa: F401", False),
        ("no" + "qa: F401, E501 - the import is tried", True),
        ("type: ig" + "nore[arg-type, misc]", False),
        ("type: ig" + "nore[arg-type]  # its own key", True),
        ("prag" + "ma: no cover", False),
    ],
)
def test_reasons_are_told_from_none(comment: str, *, given: bool) -> None:
    found = _SUPPRESSED.search(f"x = 1  # {comment}")
    assert found is not None
    assert (found["reason"] is not None) is given


def test_what_is_suppressed_has_a_reason(repository: Path) -> None:
    found = []
    paths = (
        path for top in ("rootless", "ci", "tests") for path in (repository / top).rglob("*.py")
    )
    for path in sorted(paths):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = _SUPPRESSED.search(line)
            if match is not None and match["reason"] is None:
                found.append(f"{path.relative_to(repository)}:{number} {line.strip()}")
    assert not found, "\n".join(found)
