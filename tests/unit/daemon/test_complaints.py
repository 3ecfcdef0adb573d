"""What the daemon says of errors that nobody caught."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from rootless.daemon.server import Complaints


async def test_a_try_to_accept_at_a_closed_socket(caplog: pytest.LogCaptureFixture) -> None:
    """Without descriptors asyncio tries again a second later; the daemon may have ended by then."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(Complaints())
    closed = socket.socket(socket.AF_UNIX)
    closed.close()
    with caplog.at_level(logging.ERROR):
        loop.call_soon(loop._start_serving, asyncio.Protocol, closed)  # type: ignore[attr-defined]  # what asyncio itself calls
        await asyncio.sleep(0)
        assert caplog.records == []
        loop.call_soon(int, "no number")
        await asyncio.sleep(0)
        assert "Exception in callback" in caplog.text
