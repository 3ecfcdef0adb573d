"""The process that starts network helpers through ``sh``.

``sh`` forks its user and runs Python in the child before exec. Of the daemon,
with its threads, its keys and 50 MB of memory, that would neither be safe nor
quick (7 ms, most of them for copying and dropping page tables). This process
has nothing but ``sh``, ends with the daemon, and may die: the daemon starts another.

A request is one SOCK_SEQPACKET message ``{"argv": […], "numbers": […]}`` with
the reply's socket, the log and the descriptors that the program gets under
those numbers; the answer is ``{"pid": N}``, or ``{}`` when the program has ended.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Sequence

from rootless.errors import Unavailable
from rootless.linux import isolated
from rootless.network import starter_main
from rootless.network.starter_main import MAX_MESSAGE

ANSWER_SECONDS = 20.0
"""How long a start may take: it forks and executes, which is milliseconds."""


class Starter:
    """The daemon's end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def open(self) -> socket.socket:
        """Start the process when it is not there; its socket."""
        if self._requests is not None:
            return self._requests
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                isolated.command(starter_main.__name__, [str(theirs.fileno())], site_packages=True),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        self._requests = ours
        return ours

    def close(self) -> None:
        """End the process, whatever it is at; what it started goes on."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def start(self, argv: Sequence[str], fds: Sequence[int], log_fd: int) -> int:
        """Start a program with the descriptors ``fds`` under their own numbers; its process id.

        Raises ProcessLookupError when it has ended already, Unavailable when nobody answers.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._send({"argv": argv, "numbers": fds}, [theirs.fileno(), log_fd, *fds])
            ours.setblocking(False)
            answer = await self._answer(ours)
        pid = json.loads(answer).get("pid")
        if pid is None:
            raise ProcessLookupError(argv[0])
        return int(pid)

    async def _answer(self, ours: socket.socket) -> bytes:
        asked = self._process
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await asyncio.get_running_loop().sock_recv(ours, MAX_MESSAGE)
        except TimeoutError:
            answer = b""
        if not answer:
            if self._process is asked:
                self.close()  # it hangs, or was killed: the next request gets another one
            raise Unavailable(
                "the process that starts network helpers ended or did not answer for "
                f"{ANSWER_SECONDS:g} seconds",
                hint="the machine may be overloaded; try again",
            )
        return answer

    def _send(self, message: dict[str, object], fds: list[int]) -> None:
        data = [json.dumps(message).encode()]
        try:
            socket.send_fds(self.open(), data, fds)
        except ConnectionError:  # it was killed, perhaps with a request unread (unix(7))
            self.close()
            socket.send_fds(self.open(), data, fds)
