"""The daemon's side of the launcher, without one."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rootless.errors import StartFailed, Unavailable
from rootless.runtime import wire
from rootless.runtime.launcher_client import Created, Launcher, _Reply


async def test_a_builder_that_was_killed_before_go_is_a_failed_start() -> None:
    reply = _Reply()
    reply.theirs.close()
    created = Created(1, 1, -1, -1, -1, reply)
    with pytest.raises(StartFailed, match="ended before its program was executed"):
        await created.go()


_MANY = 300
"""Requests, of some kilobytes each: more than a socket holds."""


@pytest.fixture
def busy() -> Iterator[tuple[Launcher, socket.socket]]:
    """A launcher's client, and the launcher's end: nobody reads there but the test."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with subprocess.Popen([sys.executable, "-c", ""]) as process, ours, theirs:
        yield Launcher(process, ours), theirs


def _ask_much(launcher: Launcher) -> list[asyncio.Task[object]]:
    return [asyncio.ensure_future(launcher.call("f", n=n, more="x" * 4000)) for n in range(_MANY)]


def _answer(theirs: socket.socket) -> int:
    """Answer one request with its number, and return that."""
    taken = wire.receive(theirs)
    assert taken is not None
    message, (fd,) = taken
    with socket.socket(fileno=fd) as reply:
        number = int(str(message["arguments"]["n"]))  # type: ignore[index]  # JSON
        wire.send(reply, {"result": number})
    return number


async def test_more_requests_than_the_launcher_has_taken(
    busy: tuple[Launcher, socket.socket],
) -> None:
    launcher, theirs = busy
    asked = _ask_much(launcher)
    given_up = asked.pop(_MANY // 2)
    await asyncio.sleep(0)
    given_up.cancel()
    left = asyncio.get_running_loop().run_in_executor(
        None, lambda: [_answer(theirs) for _ in range(_MANY - 1)]
    )
    expected = [n for n in range(_MANY) if n != _MANY // 2]
    assert await asyncio.gather(*asked) == expected
    assert await left == expected
    assert given_up.cancelled()


async def test_a_launcher_that_ends_while_requests_wait(
    busy: tuple[Launcher, socket.socket],
) -> None:
    launcher, theirs = busy
    asked = _ask_much(launcher)
    await asyncio.sleep(0)
    theirs.close()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in found)
