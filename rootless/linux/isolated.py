"""Command lines for the engine's own worker programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def forbid_imports() -> None:
    """Make any import of a module that is not loaded yet fail."""
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
    sys.path_importer_cache.clear()


def command(module: str, arguments: Sequence[str], *, site_packages: bool = False) -> list[str]:
    """Run ``main(arguments)`` of ``module`` from this very tree; its result is the exit status.

    ``python -m`` would search the working directory first, and a worker runs as
    root of the engine's user namespace: a file ``json.py`` in the directory the
    daemon was started in must not become part of it. Isolated mode (-I) looks
    neither there nor at PYTHON… variables nor in the user's own packages; without
    ``site_packages`` only the standard library is found, and the start is faster.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import sys; sys.path.insert(0, {root!r}); "
        f"from {module} import main; sys.exit(main(sys.argv[1:]))"
    )
    flags = ["-I"] if site_packages else ["-I", "-S"]
    return [sys.executable, *flags, "-c", code, *arguments]
