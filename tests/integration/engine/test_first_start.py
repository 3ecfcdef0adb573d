"""The first moments of a new engine, and the end of a daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
