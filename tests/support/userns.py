"""Running Python in a user namespace with the engine's id map."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent.parent


def run_python(code: str, *args: str, timeout: float = 60) -> str:
    """Standard output of ``code``, run as root of a namespace that maps the user's subids.

    0 is the user, 1… the subordinate ids: the map of the engine's user namespace.
    """
    done = subprocess.run(
        [
            *"unshare --user --map-root-user --map-auto --mount".split(),
            *(sys.executable, "-W", "error", "-c", code, *args),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode != 0:
        raise AssertionError(f"code in the namespace failed: {done.stderr[-3000:]}")
    return done.stdout


def first_subid() -> int:
    """The host's id of the engine's id 1 (first range of this user in /etc/subuid)."""
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    for line in Path("/etc/subuid").read_text().splitlines():
        owner, start, _ = line.split(":")
        if owner in (name, str(os.getuid())):
            return int(start)
    raise AssertionError(f"/etc/subuid has no entry for {name}")
