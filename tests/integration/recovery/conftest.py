"""An engine whose processes can be killed at a given step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.integration.recovery.world import World
from tests.support import processes, registry
from tests.support.engine import new_engine


@contextmanager
def _new_world() -> Iterator[World]:
    before = processes.ours()
    with new_engine(start=False) as engine:
        world = World(engine, before)
        world.start()
        yield world
        world.control.disarm()


class Worlds:
    """The engine of a module; a new one after a test that failed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._world: World | None = None

    def get(self) -> World:
        """An engine nobody has broken."""
        if self._world is None:
            self._world = self._stack.enter_context(_new_world())
        return self._world

    def drop(self) -> None:
        """End the engine."""
        self._world = None
        self._stack.close()


@pytest.fixture(scope="module")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry without authentication."""
    with registry.running(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


@pytest.fixture(scope="module")
def worlds(registry_host: str) -> Iterator[Worlds]:
    """Engines for the tests of a module; the daemon is restarted as they kill it.

    The registry is there before: an engine that ends takes what began later for its own.
    """
    made = Worlds()
    yield made
    made.drop()


@pytest.fixture
def world(worlds: Worlds) -> Iterator[World]:
    """The shared engine; afterwards nothing of the test may be left."""
    world = worlds.get()
    try:
        yield world
        world.control.disarm()
        world.restart_if_dead()
        world.engine.purge()
        world.assert_clean()
    except BaseException:
        worlds.drop()
        raise
