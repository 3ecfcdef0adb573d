"""Sockets without the standard library's classes, for processes that outlive their fork by days.

A shim shares its memory with the process it was forked from until it writes to
it, and to use a Python object is to write to it (its reference count). The
classes of ``socket`` convert enumerations, count their files and wrap every
call; the C type below them does none of that, and costs a shim a third of a
megabyte less.
"""

from __future__ import annotations

import _socket
import os

from rootless.errors import Unavailable

RawSocket = _socket.socket
"""What ``socket.socket`` is made of: the same methods, without the conveniences."""

_FDS = 250
_SPACE = _socket.CMSG_SPACE(_FDS * 4)
_CLOEXEC = 0x40000000
_CUT = _socket.MSG_TRUNC | _socket.MSG_CTRUNC


def packet_pair() -> tuple[RawSocket, RawSocket]:
    """Two ends of a connection that keeps messages apart (socketpair(2), SOCK_SEQPACKET)."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def receive(sock: RawSocket, size: int) -> tuple[bytes, list[int]]:
    """One message of at most ``size`` bytes and its descriptors (close-on-exec); b'' at the end.

    Raises Unavailable for a longer one.
    """
    data, ancillary, flags, _ = sock.recvmsg(size, _SPACE, _CLOEXEC)
    # One item at most, SCM_RIGHTS: nothing else was asked for.
    fds: list[int] = memoryview(ancillary[0][2]).cast("i").tolist() if ancillary else []
    if flags & _CUT or not data:
        for fd in fds:
            os.close(fd)
        fds = []
    if flags & _CUT:
        raise Unavailable("a message between the engine's processes was cut")
    return data, fds


def accept(listener: RawSocket) -> int:
    """A new connection's descriptor (accept4(2), close-on-exec)."""
    # What socket.accept() is made of; without its class there is no other name for it.
    fd: int = listener._accept()[0]  # type: ignore[attr-defined]  # private to socket.py
    return fd
