"""The daemon's end of a process's streams, when the shim's end is gone."""

from __future__ import annotations

import asyncio
import socket

import pytest

from rootless.runtime.shim_client import Attachment


@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_writing_when_the_connection_is_lost(size: int) -> None:
    """Python 3.13 fails otherwise than other versions: with a TypeError of asyncio's own."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    theirs.close()
    await reader.read()
    writer.transport.abort()
    await asyncio.sleep(0)
    with pytest.raises(BrokenPipeError):
        await Attachment(reader, writer).write(bytes(size))
