"""The daemon's side of the launcher, without one."""

from __future__ import annotations

import pytest

from rootless.errors import StartFailed
from rootless.runtime.launcher_client import Created, _Reply


async def test_a_builder_that_was_killed_before_go_is_a_failed_start() -> None:
    reply = _Reply()
    reply.theirs.close()
    created = Created(1, 1, -1, -1, -1, reply)
    with pytest.raises(StartFailed, match="ended before its program was executed"):
        await created.go()
