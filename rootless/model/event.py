"""Engine events, in the shape of the API's ``EventMessage``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """``type`` container, image, volume, network, daemon; ``time_ns`` Unix nanoseconds."""

    type: str
    action: str
    actor_id: str
    attributes: tuple[tuple[str, str], ...]
    time_ns: int
    owners: tuple[str, ...] | None = None
    """Whose object it is about (``Identity.key``); None for what everybody may hear of."""
