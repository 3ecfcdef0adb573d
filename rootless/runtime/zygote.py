"""The process that shims are forked from, and which does nothing else.

Whatever a process writes to after a fork it no longer shares with the child,
and an interpreter writes to hundreds of pages (reference counts) in every
round of a loop. Shims forked by a busy process would each keep a version of
those pages of their own, about 0.8 MB. The zygote's loop is two C calls.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
from typing import NoReturn

from rootless.linux import bare, libc, process
from rootless.runtime import shim, wire

SPARE = b"s"
"""Tag of an order for a spare. Here its descriptor is where the request will come from."""


class Zygote:
    """The launcher's end."""

    def __init__(self, requests: socket.socket, last_capability: int) -> None:
        """``requests`` is the launcher's own: held here too, its death would go unnoticed."""
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wake, self._wake = os.pipe2(os.O_CLOEXEC)
        if os.fork() == 0:
            requests.close()
            self._orders.close()
            os.close(self._wake)
            _run(wake, theirs, last_capability)
        theirs.close()
        os.close(wake)

    def fork_shim(self, data: bytes, fds: list[int]) -> None:
        """Have a shim forked that serves the request ``data`` with ``fds``."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self._orders.sendmsg([data], rights)
        os.write(self._wake, b"+")

    def close(self) -> None:
        """Close this end, in a child that does not speak with the zygote."""
        self._orders.close()
        os.close(self._wake)


def _run(wake: int, orders: socket.socket, last_capability: int) -> NoReturn:
    """Fork a shim for each byte; end with the launcher. Any shim may take any order."""
    process.set_name("rootless-shim")
    raw = bare.RawSocket(fileno=orders.detach())
    read, fork = libc.libc.read, process.plain_fork()
    arguments = (ctypes.c_int(wake), ctypes.create_string_buffer(1), ctypes.c_size_t(1))
    pid = 1
    while pid > 0 and read(*arguments) == 1:
        pid = fork()
        if pid == 0:
            _serve(raw, wake, last_capability)
    os._exit(0)


def _serve(orders: bare.RawSocket, wake: int, last_capability: int) -> NoReturn:
    try:
        os.close(wake)
        data, fds = bare.receive(orders, wire.MAX_MESSAGE)
        orders.close()
        if data[1:2] == SPARE:
            shim.run_container(data, [], fds[0], last_capability)
        elif data:
            shim.run_container(data, fds, -1, last_capability)
    finally:
        os._exit(0)
