"""A copy of the checkout that the test user can read and not write."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def tracked_files(root: Path) -> list[str]:
    """Paths of the files git knows or would add; everything but .git where there is no git."""
    if shutil.which("git") and (root / ".git").exists():
        # Under sudo the checkout belongs to another user, which git distrusts for
        # the sake of its hooks and configuration; listing files runs neither.
        listing = subprocess.run(
            [
                "git",
                "-c",
                "safe.directory=*",
                "-C",
                str(root),
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        if listing.returncode == 0:
            return [os.fsdecode(name) for name in listing.stdout.split(b"\0") if name]
    found = []
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if relative.parts[0] != ".git" and (path.is_symlink() or path.is_file()):
            found.append(str(relative))
    return found


def copy(root: Path, to: Path) -> None:
    """Copy the tracked files; every directory 0755, every file readable by all."""
    to.mkdir(mode=0o755)
    for name in tracked_files(root):
        source, target = root / name, to / name
        if not os.path.lexists(source):
            continue  # deleted in the work tree, still in the index
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        else:
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def shared_data(root: Path) -> Path | None:
    """The external tables that some tests compare with, when they lie beside the checkout."""
    named = os.environ.get("ROOTLESS_SHARED_DATA")
    candidate = Path(named) if named else root.parent / "shared" / "data"
    return candidate if candidate.is_dir() else None


def copy_data(source: Path, to: Path) -> None:
    """Copy the tables to where the test user can read them."""
    shutil.copytree(source, to, symlinks=True, copy_function=shutil.copyfile)
    for directory, _, _ in os.walk(to):
        os.chmod(directory, 0o755)  # noqa: S103 (public tables)
