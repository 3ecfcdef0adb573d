"""Certificates as the API gives them out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Renewed:
    """A client's new certificate."""

    chain: str
    """PEM: the certificate and, if there is one, the intermediate."""
    identity: str
    serial: str
    not_after: str
    """UTC, as 2030-12-31T00:00:00Z."""
