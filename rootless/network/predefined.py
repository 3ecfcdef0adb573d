"""The networks that exist by definition."""

from __future__ import annotations

import hashlib
from functools import cache

PREDEFINED = {"slirp4netns": "slirp4netns", "host": "host", "none": "null"}
"""Name → driver, of those that are no bridges."""


@cache
def network_id(name: str) -> str:
    """A stable id for a network that exists by definition."""
    return hashlib.sha256(f"rootless network {name}".encode()).hexdigest()


BRIDGE_ID = network_id("bridge")
"""Of the bridge that containers are on which name no network."""
