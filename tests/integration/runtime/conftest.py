"""A sandbox per test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.sandbox import Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A launcher with one busybox layer; nothing is left when the test is over."""
    base = Path(tempfile.mkdtemp(prefix="rl-"))
    box = await Sandbox.open(base)
    try:
        yield box
    finally:
        await box.close()
        shutil.rmtree(base)
