"""Sandboxes made by hand, beside the engines of tests/support/fixtures.py."""

from __future__ import annotations

from tests.integration.runtime.conftest import sandbox

__all__ = ["sandbox"]
