"""Steps of a start that meet a process which is gone already."""

from __future__ import annotations

import subprocess

import pytest

from rootless.engine import starting
from rootless.errors import StartFailed


def test_a_first_process_that_was_killed_before_it_was_looked_at() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    with pytest.raises(StartFailed, match="ended before its program was executed"):
        starting.start_of(process.pid)
