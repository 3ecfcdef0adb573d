"""Messages, and the one exception these scripts end with."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence


class SetupFailed(Exception):
    """Something on this machine stands in the way; the text names it and the next step."""


def note(text: str) -> None:
    """One progress line on standard error, so that standard output stays the tests' own."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def open_standard_streams() -> None:
    """Put /dev/null on descriptors 0 to 2 where the caller closed them.

    Otherwise the next file opened becomes "standard output" of every child.
    """
    while True:
        fd = os.open("/dev/null", os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> None:
    """Run a command quietly; its whole output is shown when it fails."""
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        raise SetupFailed(f"command failed with status {done.returncode}: {shlex.join(command)}")
