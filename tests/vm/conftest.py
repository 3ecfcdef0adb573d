"""Nothing of this is collected outside the machine: there it could neither pass nor fail."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine, new_engine

collect_ignore_glob = [] if os.environ.get("ROOTLESS_TEST_VM") else ["test_*.py"]


@pytest.fixture(scope="session")
def vm_engine() -> Iterator[Engine]:
    """One engine for all: a start takes a minute under emulation."""
    with new_engine(selinux_enabled=True) as engine:
        engine.ok("run", "--rm", "--network", "none", "rootless/busybox", "true")
        yield engine


@pytest.fixture
def engine(vm_engine: Engine) -> Iterator[Engine]:
    """The engine; containers that a test leaves are removed, and fail it."""
    yield vm_engine
    left = vm_engine.containers()
    vm_engine.purge()
    assert not left, f"the test left containers: {left}"
