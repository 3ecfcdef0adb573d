"""Whom a signal reaches."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import cast

import pytest

from rootless.engine.core import Core
from rootless.engine.lifecycle import Lifecycle
from rootless.engine.unit import Unit
from rootless.runtime.shim_client import ShimClient
from tests.unit.engine.samples import record


class _Shim:
    """Notes what it is asked to send."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    async def signal(self, signum: int) -> None:
        self.sent.append(signum)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_process_that_is_not_in_its_cgroup_yet_is_reached(
    tmp_path: Path, number: signal.Signals
) -> None:
    """While a start is under way the cgroup may still be empty, and to kill it kills nobody."""
    (tmp_path / "cgroup.kill").touch()
    (tmp_path / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    unit, shim = Unit(record()), _Shim()
    unit.cgroup = str(tmp_path)
    unit.shim = cast(ShimClient, shim)
    await Lifecycle(cast(Core, None)).signal(unit, number)
    assert shim.sent == [number]
    killed = (tmp_path / "cgroup.kill").read_text() == "1"
    assert killed == (number == signal.SIGKILL)
