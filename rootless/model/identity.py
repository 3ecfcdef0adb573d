"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of a request.

    ``source`` is ``unix`` for the peer credentials of the Unix socket (unix(7),
    SO_PEERCRED) and ``certificate`` for a client certificate. ``name`` is the user
    name, or the last component of the certificate's SPIFFE ID, else its common name.
    """

    source: Literal["unix", "certificate"]
    name: str
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    role: str | None = None
    executable: str | None = None
    groups: tuple[int, ...] = ()
    """Groups of another user than the engine's own."""
    uri: str | None = None
    """The certificate's SPIFFE ID."""
    fingerprint: str | None = None
    """SHA-256 of the certificate, in hexadecimal digits."""
