"""The ``rootless`` command as a file: what pip writes takes twice as long to start.

pip's script imports ``re``, and the interpreter goes through every ``.pth`` file
of the environment before it. The command line needs neither: with ``-S`` the
interpreter finds the standard library only, and the script says where the rest is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = """\
#!{python} -IS
import sys

sys.path += {paths!r}
from rootless.cli.main import main

main()
"""


def write(script: Path, python: Path, paths: Sequence[Path]) -> None:
    """Make ``script``, run by ``python``, with ``paths`` behind the standard library's."""
    script.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = script.with_name(f".{script.name}.new")
    temporary.write_text(_SCRIPT.format(python=python, paths=[str(path) for path in paths]))
    temporary.chmod(0o755)
    os.replace(temporary, script)
