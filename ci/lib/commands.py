"""The ``rootless`` command as a file: what pip writes takes twice as long to start.

pip's script imports ``re``, and the interpreter goes through every ``.pth`` file
of the environment before it. The command line needs neither: with ``-S`` the
interpreter finds the standard library only, and the script says where the rest is.
The modules of the commands that have to be fast come from one file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.say import run

_SCRIPT = """\
#!{python} -IS
import sys

sys.path += {paths!r}
if sys.implementation.cache_tag == {tag!r}:
    from marshal import load

    try:
        with open({bundle!r}, "rb") as FILE:
            exec(load(FILE))
    except OSError:
        pass  # it is gone: the modules are found one by one
from rootless.cli.main import main

main()
"""


def write(script: Path, python: Path, paths: Sequence[Path]) -> None:
    """Make ``script``, run by ``python``, with ``paths`` behind the standard library's.

    ``python`` is of the version that runs this; one of another, later, reads no bundle.
    """
    bundle = script.parent.parent / "lib/rootless-cli.bundle"
    for path in (script, bundle):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = bundle.with_name(f"{bundle.name}.new")
    maker = Path(__file__).with_name("bundle.py")
    run([str(python), "-IS", str(maker), str(fresh), *map(str, paths)])
    fresh.chmod(0o644)
    os.replace(fresh, bundle)
    temporary = script.with_name(f".{script.name}.new")
    places = [str(path) for path in paths]
    temporary.write_text(
        _SCRIPT.format(
            python=python, paths=places, tag=sys.implementation.cache_tag, bundle=str(bundle)
        )
    )
    temporary.chmod(0o755)
    os.replace(temporary, script)
