"""Makes the bundle that ``bundled.py`` imports from. Run by the interpreter that is to read it.

``python -IS bundle.py FILE PATH…``: the paths are what the command appends to ``sys.path``.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib import import_module
from pathlib import Path

FAST = ("main", "commands.run", "commands.exec", "foreground")
"""Modules of the command line whose start counts; what they import comes along."""


def table() -> dict[str, tuple[str, bool, int, int, bytes]]:
    """Each module of ours that the fast ones import, as ``bundled.Entry`` describes it."""
    for name in FAST:
        import_module(f"rootless.cli.{name}")
    found = {}
    for name, module in sys.modules.items():
        if name.partition(".")[0] != "rootless":
            continue
        spec = module.__spec__
        assert spec is not None
        assert spec.origin is not None
        state = os.stat(spec.origin)
        code = spec.loader.get_code(name)  # type: ignore[union-attr]  # a source file's loader
        package = spec.submodule_search_locations is not None
        entry = (spec.origin, package, int(state.st_mtime), state.st_size, marshal.dumps(code))
        found[name] = entry
    return found


def main(target: str, *paths: str) -> None:
    """Write the bundle to ``target``."""
    sys.path += paths
    loader = Path(__file__).with_name("bundled.py")
    code = compile(loader.read_text(), str(loader), "exec", dont_inherit=True)
    Path(target).write_bytes(marshal.dumps(code) + marshal.dumps(table()))


if __name__ == "__main__":
    main(*sys.argv[1:])
