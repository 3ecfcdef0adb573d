"""The holder's end of the resolver: starts it, tells it names, starts it again when it dies.

The resolver reads what containers and the world send; it is a process without
a privilege and this one, which may change links and rules, never sees a byte
of that.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rootless.linux import isolated
from rootless.network.dns import main as dns_main


class Resolver:
    """A running resolver. ``everything`` gives what a new one has to be told."""

    def __init__(
        self, userns_fd: int, everything: Callable[[], Iterable[tuple[dict[str, Any], list[int]]]]
    ) -> None:
        self._userns_fd = userns_fd
        self._everything = everything
        self._process: subprocess.Popen[bytes] | None = None
        self.socket: socket.socket | None = None

    def start(self) -> None:
        """Start the process and tell it everything."""
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            numbers = (theirs.fileno(), self._userns_fd)
            self._process = subprocess.Popen(
                isolated.command(dns_main.__name__, [str(n) for n in numbers]),
                stdin=subprocess.DEVNULL,
                pass_fds=numbers,
                cwd="/",
            )
        self.socket = ours
        for message, fds in self._everything():
            self.tell(message, fds)

    def stop(self) -> None:
        """End the process: it ends when nobody talks to it any more."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message; a resolver that died is told everything when it is started again."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                socket.send_fds(self.socket, [json.dumps(message).encode()], list(fds))
