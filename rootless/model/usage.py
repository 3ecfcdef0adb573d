"""What an identity has of the engine's, for quotas."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.model.identity import Identity


@dataclass(frozen=True, slots=True)
class Usage:
    """What ``owner`` would have if the request that is judged were granted.

    0 for what the request does not change. ``memory`` (bytes) and ``cpus`` are the limits of
    everything that would run, infinite when something has none; ``disk`` are bytes.
    """

    owner: Identity
    containers: int = 0
    running: int = 0
    memory: float = 0
    cpus: float = 0
    disk: int = 0
