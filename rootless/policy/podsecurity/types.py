"""What a check yields."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.policy.inputs.read import Path


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a check does not hold; ``field`` is what it is called in Docker's API."""

    message: str
    path: Path
    field: str
    value: str
