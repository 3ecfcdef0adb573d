"""The daemon's own renewal of certificates."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import cast

import pytest

from rootless.daemon import server
from rootless.errors import InvalidInput
from rootless.pki.online import OnlineAuthority


class _Authority:
    """Fails once for each reason, then renews."""

    def __init__(self) -> None:
        self.failures: list[Exception] = [
            OSError(errno.ENOSPC, "No space left on device"), InvalidInput("no such profile"),
        ]  # fmt: skip
        self.renewed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def renew_due(self) -> list[str]:
        if self.failures:
            raise self.failures.pop(0)
        self._loop.call_soon_threadsafe(self.renewed.set)
        return ["the certificate of web"]


async def test_a_failure_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_KEEP_SECONDS", 0)
    authority = _Authority()
    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(server.Daemon._keep(cast(OnlineAuthority, authority)))
        done, _ = await asyncio.wait(
            (task, waited := asyncio.create_task(authority.renewed.wait())),
            return_when=asyncio.FIRST_COMPLETED,
        )
    assert done == {waited}
    task.cancel()
    assert caplog.text.count("certificates are not renewed") == 2
