"""The holder's children: it starts them, tells them things, starts them again when they die.

They read what containers and the world send; they are processes without a
privilege, and the holder, which may change links and rules, never sees a byte
of that.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from rootless.errors import Unavailable

ANSWER_SECONDS = 10.0
"""For a child to say that it has done something; it takes less than a millisecond."""
_MAX_ANSWER = 4096
MAX_SAID = 64 << 10
"""Bytes of what it says unasked."""

_SERVED, _USERNS, _ABOVE = 3, 4, 8
_ALL = 1 << 20
"""More descriptors than a process has."""

Main = Callable[[Sequence[str], bytes], int]
Everything = Callable[[], Iterable[tuple[dict[str, Any], list[int]]]]
Obey = Callable[[dict[str, Any]], bool]
"""Does what a child says unasked; False when that is nonsense."""


class Child:
    """A part of this program in a process of its own, which serves messages on a socket.

    It is forked, so that the interpreter's memory is there once.
    """

    def __init__(
        self,
        main: Main,
        userns_fd: int,
        everything: Everything,
        selector: selectors.BaseSelector,
        calls: bytes,
        *,
        obey: Obey = lambda _: False,
    ) -> None:
        """``calls`` is the filter of its system calls.

        ``everything`` gives the messages and descriptors that a new one has to be told.
        A child that says what ``obey`` does not take is started again.
        """
        self._main = main
        self._calls = calls
        self._userns_fd = userns_fd
        self._everything = everything
        self._selector = selector
        self._obey = obey
        self._pid = 0
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
            self._pid = os.fork()
            if self._pid == 0:
                self._become(theirs.fileno())
        self._socket = ours
        ours.settimeout(ANSWER_SECONDS)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._heard, ours))
        for message, fds in self._everything():
            self.tell(message, fds)

    def _become(self, served_fd: int) -> NoReturn:
        """In the child: nothing of the holder's stays open but its log."""
        status = 1
        try:
            given = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE) for fd in (served_fd, self._userns_fd)]
            os.dup2(given[0], _SERVED)
            os.dup2(given[1], _USERNS)
            os.closerange(_USERNS + 1, _ALL)
            status = self._main([str(_SERVED), str(_USERNS)], self._calls)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(status)

    def stop(self) -> None:
        """End the process."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _heard(self, sock: socket.socket) -> None:
        """Something said unasked, its end, or an answer that came too late."""
        if self._socket is not sock:
            return
        try:
            said = json.loads(sock.recv(MAX_SAID, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return
        except (OSError, ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or not self._obey(said):
            self.start()

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message; a child that died is told everything when it is started again."""
        if self._socket is None:
            return
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], list(fds))
        except TimeoutError:  # it hangs: its end is heard of, and another one started
            os.kill(self._pid, signal.SIGKILL)
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
        raise Unavailable("a process of the network holder's did not answer, and was started again")
