"""Where the addresses of an engine's own networks are taken from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AddressPool:
    """One of Docker's ``default-address-pools``: the block ``base`` in parts of ``size`` bits."""

    base: str
    size: int
