"""The ``rootless`` command as ``ci/quickstart`` installs it: its modules come from one file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rootless

PYTHON = "/usr/bin/python3"
_WRITE = """
import sys
from pathlib import Path
ci, tree = sys.argv[1:]
sys.path.insert(0, ci)
from lib import commands
commands.write(Path(tree, "bin/rootless"), Path(sys.executable), [Path(tree, "src")])
"""


@pytest.fixture
def tree(tmp_path: Path, repository: Path) -> Path:
    """A copy of the engine's sources with a command of its own, written under a tight umask."""
    source = Path(rootless.__file__).parent
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, tmp_path / "src/rootless", ignore=skip)
    command = [PYTHON, "-IBc", _WRITE, str(repository / "ci"), str(tmp_path)]
    subprocess.run(command, check=True, umask=0o077)
    return tmp_path


def version(tree: Path) -> str:
    done = subprocess.run([tree / "bin/rootless", "--version"], capture_output=True, check=True)
    return done.stdout.decode().split()[-1]


def change(tree: Path, *, seen: bool) -> None:
    """Another version, as long and never compiled; not ``seen``: with the file's old time."""
    for compiled in list((tree / "src").rglob("__pycache__")):
        shutil.rmtree(compiled)
    file = tree / "src/rootless/__init__.py"
    before = file.stat()
    file.write_text(file.read_text().replace(rootless.__version__, "9" * len(rootless.__version__)))
    if not seen:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 2 * 10**9))


def test_modules_come_from_the_bundle(tree: Path) -> None:
    assert version(tree) == rootless.__version__
    change(tree, seen=False)
    assert version(tree) == rootless.__version__


def test_a_source_that_was_changed_is_seen(tree: Path) -> None:
    change(tree, seen=True)
    assert version(tree) == "9" * len(rootless.__version__)


def test_another_python_does_without(tree: Path) -> None:
    change(tree, seen=False)
    script = tree / "bin/rootless"
    tag = sys.implementation.cache_tag
    assert tag is not None
    script.write_text(script.read_text().replace(tag, "cpython-399"))
    assert version(tree) == "9" * len(rootless.__version__)


def test_a_bundle_that_is_gone_is_done_without(tree: Path) -> None:
    (tree / "lib/rootless-cli.bundle").unlink()
    change(tree, seen=False)
    assert version(tree) == "9" * len(rootless.__version__)


def test_what_is_not_bundled_is_found(tree: Path) -> None:
    """The help is in modules that no fast command imports."""
    done = subprocess.run([tree / "bin/rootless", "run", "--help"], capture_output=True, check=True)
    assert b"Usage:" in done.stdout
    bundle = (tree / "lib/rootless-cli.bundle").read_bytes()
    assert b"cli/commands/run.py" in bundle
    assert b"cli/usage.py" not in bundle


def test_others_can_read_it(tree: Path) -> None:
    """Whatever the umask of who installs it is."""
    assert (tree / "lib/rootless-cli.bundle").stat().st_mode & 0o777 == 0o644
    assert (tree / "bin/rootless").stat().st_mode & 0o777 == 0o755
