"""Who is at the other end of a connection."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from functools import lru_cache

from rootless.model.identity import Identity

_UCRED = struct.Struct("3i")
_SO_PEERGROUPS = 59
"""From asm-generic/socket.h; the socket module does not know it."""
_BUFFER = 1024
"""Bytes; the socket module takes no more. Of a user with more groups only the first counts."""


@lru_cache(maxsize=256)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _executable(pid: int) -> str | None:
    """The program of a process; ``None`` for another user's, which ptrace(2) rules hide."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def peer_groups(sock: socket.socket, gid: int) -> tuple[int, ...]:
    """All groups of the peer."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _BUFFER)
    except OSError:
        return (gid,)
    return (gid, *struct.unpack(f"{len(raw) // 4}I", raw))


def peer_identity(sock: socket.socket) -> Identity | None:
    """The identity by the peer credentials of a Unix socket (unix(7), SO_PEERCRED).

    The kernel recorded them at connect(2), so a descriptor passed on to another
    process still speaks for the process that connected. ``None`` for a socket
    of another family, which needs a certificate.
    """
    if sock.family != socket.AF_UNIX:
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Identity(
        source="unix",
        name=_user_name(uid),
        uid=uid,
        gid=gid,
        pid=pid or None,
        executable=_executable(pid) if pid > 0 else None,
        groups=() if uid in (0, os.getuid()) else peer_groups(sock, gid),
    )
