"""The Python environment: a venv in a cache, keyed by what is to be in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import time
import tomllib
from pathlib import Path

from lib import commands
from lib.say import SetupFailed, note, run

PYTHON = "/usr/bin/python3"
"""Debian's own: what `python3` on PATH is may be anything, a version manager's shim for one."""

_READY = ".complete"


def requirements(pyproject: Path, extras: tuple[str, ...]) -> list[str]:
    """The project's dependencies and those of ``extras``, as requirement strings."""
    project = tomllib.loads(pyproject.read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return sorted(wanted)


def cache_root() -> Path:
    """A directory outside the checkout that survives from one run to the next."""
    if os.geteuid() == 0:
        return Path("/var/cache/rootless-ci")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "rootless-ci"


def ensure(pyproject: Path, extras: tuple[str, ...]) -> Path:
    """The venv that holds exactly these requirements, made when absent."""
    if sys.version_info < (3, 11):  # noqa: UP036 (run by the machine's Python)
        raise SetupFailed(
            f"{PYTHON} is Python {platform.python_version()}; 3.11 or newer is needed (Debian 12)"
        )
    wanted = requirements(pyproject, extras)
    key = hashlib.sha256(
        json.dumps([wanted, platform.python_version(), platform.machine()]).encode()
    ).hexdigest()[:16]
    venv = cache_root() / f"venv-{key}"
    if (venv / _READY).exists():
        os.utime(venv / _READY)
        return venv
    venv.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(venv.parent / f"{venv.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / _READY).exists():
            _prune(venv.parent)
            _build(venv, wanted)
    return venv


def _prune(root: Path) -> None:
    """Remove environments that no run has used for two weeks: each is a few hundred MB."""
    for ready in root.glob(f"venv-*/{_READY}"):
        if time.time() - ready.stat().st_mtime > 14 * 86_400:
            shutil.rmtree(ready.parent, ignore_errors=True)


def _build(venv: Path, wanted: list[str]) -> None:
    note(f"making the Python environment {venv} ({len(wanted)} requirements)")
    shutil.rmtree(venv, ignore_errors=True)
    try:
        run([PYTHON, "-I", "-m", "venv", str(venv)])
    except SetupFailed as error:
        raise SetupFailed(f"{error}; on Debian: apt-get install python3-venv") from None
    # No -I: pip's configuration of this machine (indexes, wheels, certificates) applies.
    run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--no-input", *wanted])
    (venv / _READY).touch()


def overlay(base: Path, at: Path, source: Path) -> Path:
    """A venv at ``at`` that sees the packages of ``base`` and the project in ``source``.

    It costs 50 ms, and makes ``python -I -m rootless…`` and the two console
    scripts work from a checkout exactly as from an installation.
    """
    run([PYTHON, "-I", "-m", "venv", "--without-pip", "--symlinks", str(at)])
    (site,) = at.glob("lib/python3*/site-packages")
    (packages,) = base.glob("lib/python3*/site-packages")
    (site / "rootless-checkout.pth").write_text(
        f"{source}\nimport site; site.addsitedir({str(packages)!r})\n"
    )
    scripts = tomllib.loads((source / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        if name == "rootless":
            commands.write(at / "bin/rootless", at / "bin/python", [source, packages])
            continue
        module, function = target.split(":")
        script = at / "bin" / name
        script.write_text(
            f"#!{at}/bin/python -I\nimport sys\n\nfrom {module} import {function}\n\n"
            f"sys.exit({function}())\n"
        )
        script.chmod(0o755)
    for tool in ("ruff", "mypy", "lint-imports", "pytest"):
        if (base / "bin" / tool).exists():
            (at / "bin" / tool).symlink_to(base / "bin" / tool)
    return at
