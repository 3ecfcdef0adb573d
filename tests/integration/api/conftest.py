"""The API over the fake engine, for real clients."""

from __future__ import annotations

from tests.unit.api.conftest import served

__all__ = ["served"]
