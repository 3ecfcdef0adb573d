"""Volumes."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

from typing import Annotated

from rootless.api.dto.decode import Body
from rootless.api.dto.times import rfc3339
from rootless.api.fields import refused
from rootless.model.records import VolumeRecord

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""How Docker's clients tell an anonymous volume."""


class VolumeBody(Body, frozen=True):
    """The body of ``POST /volumes/create``."""

    name: str = ""
    driver: str = "local"
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}
    cluster_volume_spec: Annotated[
        dict[str, object], refused("cluster volumes need a swarm, and this engine is in none")
    ] = {}


def volume(record: VolumeRecord) -> dict[str, object]:
    """One volume; ``UsageData`` only when it was counted."""
    labels = dict(record.labels)
    if record.anonymous:
        labels.setdefault(ANONYMOUS_LABEL, "")
    body: dict[str, object] = {
        "CreatedAt": rfc3339(record.created_ns),
        "Driver": record.driver,
        "Labels": labels,
        "Mountpoint": record.mountpoint,
        "Name": record.name,
        "Options": dict(record.options),
        "Scope": "local",
    }
    if record.size is not None:
        body["UsageData"] = {
            "Size": record.size,
            "RefCount": -1 if record.references is None else record.references,
        }
    return body
