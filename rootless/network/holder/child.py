"""The holder's children: it starts them, tells them things, starts them again when they die.

They read what containers and the world send; they are processes without a
privilege, and the holder, which may change links and rules, never sees a byte
of that.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from rootless.errors import Unavailable
from rootless.linux import isolated

ANSWER_SECONDS = 10.0
"""For a child to say that it has done something; it takes less than a millisecond."""
_MAX_ANSWER = 4096

Everything = Callable[[], Iterable[tuple[dict[str, Any], list[int]]]]


class Child:
    """A program of the engine's that serves messages on the socket it is given."""

    def __init__(
        self,
        module: str,
        userns_fd: int,
        everything: Everything,
        selector: selectors.BaseSelector,
    ) -> None:
        """``everything`` gives the messages and descriptors that a new one has to be told."""
        self._module = module
        self._userns_fd = userns_fd
        self._everything = everything
        self._selector = selector
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def running(self) -> bool:
        """It was started, and is started again whenever it dies."""
        return self._socket is not None

    def start(self) -> None:
        """Start the process and tell it everything."""
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            numbers = (theirs.fileno(), self._userns_fd)
            self._process = subprocess.Popen(
                isolated.command(self._module, [str(n) for n in numbers]),
                stdin=subprocess.DEVNULL,
                pass_fds=numbers,
                cwd="/",
            )
        self._socket = ours
        ours.settimeout(ANSWER_SECONDS)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._heard, ours))
        for message, fds in self._everything():
            self.tell(message, fds)

    def stop(self) -> None:
        """End the process: it ends when nobody talks to it any more."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _heard(self, sock: socket.socket) -> None:
        """Nothing is said unasked: this is its end, or an answer that came too late."""
        if self._socket is sock:
            self.start()

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message; a child that died is told everything when it is started again."""
        if self._socket is None:
            return
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], list(fds))
        except TimeoutError:  # it hangs: its end is heard of, and another one started
            assert self._process is not None
            self._process.kill()
        except OSError:
            pass

    def ask(self, message: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Send one message and wait for what it says; Unavailable when it died of it or hangs."""
        assert self._socket is not None
        try:
            asked = json.dumps({**message, "ask": True}).encode()
            socket.send_fds(self._socket, [asked], list(fds))
            answer = self._socket.recv(_MAX_ANSWER)
            if answer:
                found: dict[str, Any] = json.loads(answer)
                return found
        except OSError:
            pass
        self.start()
        raise Unavailable(f"{self._module} did not answer and was started again")
