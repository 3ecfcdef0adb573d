"""The first moments of a new engine, and the end of a daemon."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.api import until
from tests.support.engine import Engine, new_engine

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"


@pytest.fixture
def unused() -> Iterator[Engine]:
    """An engine that never ran: the first command starts it."""
    with new_engine(start=False) as engine:
        yield engine


def test_the_first_command_runs_the_built_in_image(unused: Engine) -> None:
    assert unused.ok("run", "--rm", IMAGE, "echo", "here") == "here"


def test_the_first_command_lists_the_built_in_image(unused: Engine) -> None:
    assert unused.ok("images", "--format", "{{.Repository}}") == IMAGE


def test_a_command_killed_while_it_waits_for_the_daemon_leaves_no_more_than_one_socket(
    unused: Engine,
) -> None:
    directory = unused.socket.parent
    for _ in range(3):
        before = _sockets(directory)
        command = unused.popen("version")
        until(partial(_differs, directory, before))
        command.kill()
        command.communicate()
        unused.ok("version")  # waits for what was started, or starts it
        daemon = Path("/proc", (directory / "rootlessd.pid").read_text().strip())
        os.kill(int(daemon.name), signal.SIGKILL)
        until(lambda path=daemon: not path.exists())
    unused.ok("version")
    assert len(_sockets(directory)) <= 1


def _differs(directory: Path, before: set[tuple[str, int]]) -> bool:
    return bool(_sockets(directory) - before)


def _sockets(directory: Path) -> set[tuple[str, int]]:
    """Where a starting daemon tells that it is ready, and since when."""
    found = set()
    for path in directory.glob("notify*"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def test_a_removed_built_in_image_does_not_come_back(fresh_engine: Engine) -> None:
    fresh_engine.ok("rmi", IMAGE)
    fresh_engine.stop()
    fresh_engine.start()
    assert fresh_engine.ok("images", "--quiet") == ""


def test_a_daemon_takes_its_socket_along(fresh_engine: Engine) -> None:
    assert fresh_engine.socket.is_socket()
    assert fresh_engine.stop() == 0
    assert not fresh_engine.socket.exists()
    fresh_engine.start()
    assert fresh_engine.socket.is_socket()
