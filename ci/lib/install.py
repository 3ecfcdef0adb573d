"""Install the engine from the checkout into /opt/rootless, with its commands on PATH."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from pathlib import Path

from lib import checkout, commands, pyenv
from lib.say import SetupFailed, note, run

PREFIX = Path("/opt/rootless")
COMMANDS = Path("/usr/local/bin")
_INSTALLED = ("rootless", "policies", "profiles", "pki", "pyproject.toml", "setup.py", "README.md")


def fingerprint(root: Path) -> str:
    """A digest of all that an installation is made of."""
    digest = hashlib.sha256(platform.python_version().encode())
    for name in sorted(checkout.tracked_files(root)):
        path = root / name
        if name.split("/")[0] in _INSTALLED and path.is_file():
            digest.update(f"\0{name}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def ensure(root: Path) -> bool:
    """Install or upgrade; False when this very source is installed already."""
    wanted = fingerprint(root)
    mark = PREFIX / "installed"
    current = mark.exists() and mark.read_text().strip() == wanted
    current = current and (PREFIX / "bin/rootless").exists()
    if not current:
        _install(root)
    _link(COMMANDS / "rootless", PREFIX / "bin/rootless")
    _link(COMMANDS / "rootlessd", PREFIX / "venv/bin/rootlessd")
    if not current:
        mark.write_text(f"{wanted}\n")
    return not current


def _install(root: Path) -> None:
    venv = PREFIX / "venv"
    python = str(venv / "bin/python")
    if not (venv / "bin/pip").exists():
        note(f"making the Python environment {venv}")
        PREFIX.mkdir(mode=0o755, parents=True, exist_ok=True)
        run([pyenv.PYTHON, "-I", "-m", "venv", "--clear", str(venv)])
    note("installing rootless and its Python packages")
    # setuptools and wheel are what pyproject.toml builds with; with them inside,
    # building needs no second environment.
    wanted = pyenv.requirements(root / "pyproject.toml", ())
    install = [python, "-m", "pip", "install", "--quiet", "--no-input"]
    run([*install, "setuptools>=68", "wheel", *wanted])
    with tempfile.TemporaryDirectory(prefix="rootless-build-") as work:
        checkout.copy(root, Path(work) / "src")
        build = ["--no-deps", "--no-build-isolation", "--force-reinstall", f"{work}/src"]
        run([*install, *build])
    (packages,) = venv.glob("lib/python3*/site-packages")
    commands.write(PREFIX / "bin/rootless", Path(python), [packages])


def _link(link: Path, target: Path) -> None:
    """Point ``link`` at ``target``; a file that is not ours is never replaced."""
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    if link.is_symlink() and os.readlink(link).startswith(str(PREFIX)):
        link.unlink()
    elif os.path.lexists(link):
        raise SetupFailed(f"{link} exists and is not ours; move it away and try again")
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    link.symlink_to(target)
