"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of a request.

    ``source`` is ``unix`` for the peer credentials of the Unix socket (unix(7),
    SO_PEERCRED) and ``tls`` for a client certificate's SPIFFE URI. ``name`` is
    the user name or the URI's last component.
    """

    source: Literal["unix", "tls"]
    name: str
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    role: str | None = None
    executable: str | None = None
