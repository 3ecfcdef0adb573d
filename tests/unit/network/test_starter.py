"""The process that starts network helpers is small while it waits."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from rootless.network.starter_main import _load_sh
_load_sh()
import sh
print(sh.echo("it works", _bg=True).wait().strip())
print(sorted({"ssl", "asyncio.events", "email", "zipfile"} & set(sys.modules)))
"""


def test_sh_comes_without_what_it_does_not_use_here() -> None:
    root = __file__.partition("/tests/")[0]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CODE, root], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["it works", "[]"], done.stderr
