"""Who is asking."""

from __future__ import annotations

import os
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

    @property
    def key(self) -> str:
        """Whose something is: what of a caller is the same in each of its connections.

        ``uid:1000``, the certificate's SPIFFE ID, or ``certificate:NAME``.
        """
        if self.source == "unix":
            return f"uid:{self.uid}"
        return self.uri or f"certificate:{self.name}"

    @property
    def own(self) -> bool:
        """Whether it is the engine's own user, or root of the host, who may become that user."""
        return self.source == "unix" and self.uid in (0, os.getuid())
