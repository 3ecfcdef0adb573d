"""The C module under ``signal``: the same functions without 3 ms of enums."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as raw
else:
    import _signal as raw

__all__ = ["raw"]
