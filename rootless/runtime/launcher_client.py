"""The daemon's side of the launcher."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rootless.errors import RootlessError, StartFailed, Unavailable
from rootless.model.plan import ExecPlan, LaunchPlan
from rootless.runtime import sequence, wire


@dataclass(slots=True)
class Created:
    """A sandbox that is being made and waits for :meth:`go` then.

    Its init exists and its shim listens, so the caller prepares the rest meanwhile.
    What goes wrong in the sandbox is told by :meth:`go`, or by :meth:`failure`.

    The descriptors are the caller's to close; an exec has none (-1).
    ``exit_fd`` reads the end of a pipe that the shim holds open.
    """

    shim_pid: int
    init_pid: int
    netns_fd: int
    userns_fd: int
    exit_fd: int
    _reply: _Reply
    trace: object = None
    """Marks of builder and init (``runtime.trace``) after :meth:`ready`."""
    _end: dict[str, object] | None = None
    on_log: Callable[[str], None] | None = None
    """Hears what the shim has to say of the container's log."""

    async def ready(self) -> None:
        """Wait until the sandbox stands and only ``go`` is missing; raises StartFailed.

        Only the builder of a plan with ``trace`` says so.
        """
        message = await self._news()
        if message is None or "ready" not in message:
            self._reply.close()
            raise wire.failure_of(message or _ENDED_EARLY)
        self.trace = message["ready"]

    async def go(self, *, listen: bool = False) -> None:
        """Let init execute the program; returns when execve(2) succeeded, raises StartFailed.

        With ``listen`` the end is heard by :meth:`ended`, which must be called then.
        """
        with contextlib.suppress(ConnectionError):  # it failed before, and has said why
            self._reply.send({"go": True})
        message = await self._news() or {}
        if "finished_ns" in message:
            self._end = message  # it was quicker than the word that it runs
        elif "started" not in message:
            self._reply.close()
            raise wire.failure_of(message or _ENDED_EARLY)
        if not listen:
            self._reply.close()

    async def ended(self) -> dict[str, object] | None:
        """Wait for the container's end: the content of ``exit.json``.

        None when the shim is gone without a word.
        """
        try:
            while self._end is None:
                message = await self._news()
                if message is None:
                    break
                if "finished_ns" in message:
                    self._end = message
        finally:
            self._reply.close()
        return self._end

    async def _news(self) -> dict[str, object] | None:
        """The next message that is not about the log."""
        while (answer := await self._reply.receive()) is not None:
            if "log" not in answer[0]:
                return answer[0]
            if self.on_log is not None:
                self.on_log(str(answer[0]["log"]))
        return None

    async def failure(self) -> StartFailed | None:
        """Give the start up; why the sandbox failed, None when it did not or has been told."""
        if self._reply.closed:
            return None
        self._reply.shutdown()
        message = await self._news()
        self._reply.close()
        if message is None or message.get("step") in (None, wire.GIVEN_UP):
            return None
        return wire.failure_of(message)

    def cancel(self) -> None:
        """Give the start up: the shim kills init and undoes the sandbox."""
        self._reply.close()
        self.close_fds()

    def close_fds(self) -> None:
        """Close the namespace descriptors."""
        for name in ("netns_fd", "userns_fd", "exit_fd"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)


class Spawned:
    """A program that runs inside the engine's user namespace."""

    def __init__(self, pid: int, reply: _Reply) -> None:
        self.pid = pid
        self._reply = reply

    async def wait(self) -> int:
        """Its exit code; 128 + signal when it was killed."""
        answer = await self._reply.receive()
        self._reply.close()
        if answer is None:
            return 137
        return int(str(answer[0].get("exit", 137)))

    def kill(self) -> None:
        """Kill it; :meth:`wait` returns afterwards."""
        self._reply.shutdown()


class _Reply:
    """One request's private socket."""

    def __init__(self) -> None:
        self._sock, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)

    def send(self, message: dict[str, object]) -> None:
        wire.send(self._sock, message)

    async def receive(self) -> tuple[dict[str, object], list[int]] | None:
        """The next message; None when the other side is gone."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return wire.receive(self._sock)
            except BlockingIOError:
                ready = loop.create_future()
                fd = self._sock.fileno()
                loop.add_reader(fd, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(fd)
            except ConnectionError:
                return None

    @property
    def closed(self) -> bool:
        """Nothing more is heard."""
        return self._sock.fileno() < 0

    def shutdown(self) -> None:
        """Tell the other side that nobody wants the result any more."""
        with contextlib.suppress(OSError):  # it is gone
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_ENDED_EARLY: dict[str, object] = {
    "error": "the container ended before its program was executed",
    "step": "Exec",
}


class _EndedSilently(StartFailed):
    """The shim was killed before it could answer."""


def frame_key(plan: LaunchPlan) -> bytes:
    """Names the frame that fits ``plan`` among those of this daemon's launcher; NO_KEY for none.

    One with a limit on processes is the container's own (its count is).
    """
    if plan.nproc or not sequence.is_framed(plan):
        return wire.NO_KEY
    return _key_of(sequence.frame_of(plan))


def entry_key(plan: LaunchPlan) -> bytes:
    """Names the spare that is in the root file system already; NO_KEY when none can be."""
    entry = sequence.entry_of(plan)
    if entry is None or frame_key(plan) == wire.NO_KEY:
        return wire.NO_KEY
    return _key_of((sequence.frame_of(plan), entry))


def _key_of(value: object) -> bytes:
    return (hash(value) & 0xFFFFFFFFFFFFFFFF or 1).to_bytes(8, "little")


def namespaces_of(pid: int) -> tuple[int, int]:
    """Descriptors of the user and mount namespace of one of the engine's processes; OSError.

    They are the caller's to close.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    user = os.open(f"/proc/{pid}/ns/user", flags)
    try:
        return user, os.open(f"/proc/{pid}/ns/mnt", flags)
    except BaseException:
        os.close(user)
        raise


class Launcher:
    """A running launcher. ``modules`` hold the functions that :meth:`call` can run."""

    def __init__(self, popen: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self._popen = popen
        self._sock = sock
        self._lost: Callable[[], None] | None = None
        self._sending = asyncio.Lock()
        self.pid = popen.pid

    @classmethod
    async def start(
        cls,
        *,
        modules: Sequence[str] = ("storage.tree",),
        enter: Sequence[int] = (),
    ) -> Launcher:
        """Start a launcher, in new engine namespaces or in those of :func:`namespaces_of`."""
        from rootless.runtime.launcher import command

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = ["--enter", ",".join(map(str, enter))] if enter else []
        popen = subprocess.Popen(
            command(str(theirs.fileno()), *arguments, *modules),
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *enter),
            start_new_session=True,
        )
        theirs.close()
        ours.setblocking(False)
        launcher = cls(popen, ours)
        await launcher._handshake()
        return launcher

    async def _handshake(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                answer = wire.receive(self._sock)
                break
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_reader(self._sock.fileno(), _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(self._sock.fileno())
        if answer is None or "ready" not in answer[0]:
            self._popen.wait()
            message = answer[0] if answer else {"error": "the launcher ended at its start"}
            hint = message.get("hint")
            raise Unavailable(
                f"cannot make the engine's user namespace: {message['error']}",
                hint=str(hint) if hint else "rootless doctor",
            )
        loop.add_reader(self._sock.fileno(), self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the launcher ends unexpectedly."""
        self._lost = callback

    async def _request(
        self,
        message: dict[str, object],
        fds: tuple[int, ...] = (),
        *,
        tag: bytes = b"-",
        key: bytes = wire.NO_KEY,
    ) -> _Reply:
        reply = _Reply()
        try:
            async with self._sending:
                await self._send(message, (reply.theirs.fileno(), *fds), tag, key)
        except (BrokenPipeError, ConnectionError):
            reply.close()
            # Before the event loop hears of it: what is tried next starts another one.
            self._on_end()
            raise Unavailable("the launcher is not running", hint="retry the command") from None
        except BaseException:
            reply.close()
            raise
        finally:
            reply.theirs.close()
        return reply

    async def _send(
        self, message: dict[str, object], fds: tuple[int, ...], tag: bytes, key: bytes
    ) -> None:
        """Send a request, when the launcher has taken enough of those before it."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                wire.send(self._sock, message, fds, tag=tag, key=key)
                return
            except BlockingIOError:
                room = loop.create_future()
                loop.add_writer(self._sock.fileno(), _wake, room)
                try:
                    await room
                finally:
                    loop.remove_writer(self._sock.fileno())

    async def create(
        self,
        plan: LaunchPlan,
        *,
        key: bytes | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Created:
        """Have a container's sandbox made, up to the point before its program runs.

        ``key`` names the spare to make it of: :func:`frame_key`, unless the caller knows better.
        ``meanwhile`` is called while it is made; when that fails the sandbox is given up.
        """
        if key is None:
            key = frame_key(plan)
        message: dict[str, object] = {"plan": plan}
        try:
            return await self._created(message, tag=b"c", key=key, meanwhile=meanwhile)
        except _EndedSilently:
            # A spare may be killed in the moment it is used. Nothing of the
            # container has run yet, so it is begun again, without one.
            return await self._created(message, tag=b"c")

    def prepare(self, plan: LaunchPlan, *, ahead: bool, enter: bool = False) -> None:
        """Have a sandbox made that a later :meth:`create` with an equal frame gets.

        ``ahead``: with the root file system of ``plan`` mounted, for a container
        whose own is the same. Its directories must be nobody else's until then.
        ``enter``: and with init in it already. This one is only for a create with
        the same :func:`entry_key`.
        """
        key = entry_key(plan) if enter else frame_key(plan)
        if key == wire.NO_KEY:
            return
        message: dict[str, object] = {"plan": plan, "ahead": ahead, "enter": enter}
        with contextlib.suppress(OSError):  # nobody relies on it
            wire.send(self._sock, message, tag=b"s", key=key)

    async def exec(self, plan: ExecPlan) -> Created:
        """Make a further process in a running container, waiting like :meth:`create`."""
        return await self._created({"op": "exec", "plan": plan})

    async def _created(
        self,
        message: dict[str, object],
        *,
        tag: bytes = b"-",
        key: bytes = wire.NO_KEY,
        meanwhile: Callable[[], None] | None = None,
    ) -> Created:
        reply = await self._request(message, tag=tag, key=key)
        try:
            if meanwhile is not None:
                meanwhile()
            answer = await reply.receive()
        except BaseException:
            reply.close()
            raise
        if answer is None or "created" not in answer[0]:
            reply.close()
            if answer is None:
                raise _EndedSilently(
                    "the shim ended while it made the sandbox", step="sandbox", exit_code=125
                )
            raise wire.failure_of(answer[0])
        body, fds = answer
        netns, userns, exit_fd = fds if len(fds) == 3 else (-1, -1, -1)
        pids = int(str(body["shim_pid"])), int(str(body["init_pid"]))
        return Created(*pids, netns, userns, exit_fd, reply)

    async def call(self, function: str, /, **arguments: object) -> object:
        """Run a function of the preloaded modules in a child inside the engine's namespaces."""
        reply = await self._request({"op": "call", "function": function, "arguments": arguments})
        try:
            answer = await reply.receive()
        finally:
            reply.close()
        if answer is None:
            raise Unavailable(f"the helper process for {function} ended without an answer")
        message = answer[0]
        if "error" in message:
            hint = message.get("hint")
            raise RootlessError(str(message["error"]), hint=str(hint) if hint else None)
        return message["result"]

    async def spawn(self, argv: Sequence[str], *, fds: Mapping[int, int]) -> Spawned:
        """Run a program inside the engine's namespaces; ``fds`` maps its descriptors to ours."""
        message: dict[str, object] = {
            "op": "spawn",
            "argv": list(argv),
            "targets": list(fds),
        }
        reply = await self._request(message, tuple(fds.values()))
        answer = await reply.receive()
        if answer is None or "pid" not in answer[0]:
            reply.close()
            detail = answer[0].get("error") if answer else "the watcher ended"
            raise Unavailable(f"cannot run {argv[0]}: {detail}")
        return Spawned(int(str(answer[0]["pid"])), reply)

    async def close(self) -> None:
        """End the launcher; shims and containers go on."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock.fileno())
        self._sock.close()
        await loop.run_in_executor(None, self._popen.wait)
