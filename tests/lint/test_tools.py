"""ruff, mypy and import-linter, as ordinary tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def _run(repository: Path, *command: str, **env: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=repository,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_ruff_check(repository: Path) -> None:
    _run(repository, "ruff", "check", "--no-cache", "rootless", "tests", "ci")


def test_ruff_format(repository: Path) -> None:
    _run(repository, "ruff", "format", "--no-cache", "--check", "rootless", "tests", "ci")


@pytest.mark.timeout(400)
def test_mypy(repository: Path, tmp_path: Path) -> None:
    _run(repository, "mypy", "--cache-dir", str(tmp_path / "cache"))


@pytest.mark.timeout(400)
def test_mypy_of_ci(repository: Path, tmp_path: Path) -> None:
    where = str(repository / "ci")
    packages = ("-p", "lib", "-p", "benchmarks", "-p", "vmlane")
    _run(repository, "mypy", "--cache-dir", str(tmp_path / "cache"), *packages, MYPYPATH=where)


def test_import_contracts(repository: Path) -> None:
    # The module has no command-line guard of its own, hence the call.
    code = "import sys; from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=repository,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
