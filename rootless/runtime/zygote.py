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
import signal
import socket
from typing import NoReturn

from rootless.linux import libc, process
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
    buffer = ctypes.create_string_buffer(1)
    read = libc.libc.read
    while read(wake, buffer, 1) == 1:
        if process.clone(0, signal.SIGCHLD) == 0:
            os.close(wake)
            _serve(orders, last_capability)
    os._exit(0)


def _serve(orders: socket.socket, last_capability: int) -> NoReturn:
    try:
        order = wire.receive_raw(orders)
        orders.close()
        if order is not None:
            data, fds = order
            if wire.tag_of(data) == SPARE:
                requests = socket.socket(fileno=fds[0])
                shim.run_container(data, [], requests, last_capability)
            shim.run_container(data, fds, None, last_capability)
    finally:
        os._exit(0)
