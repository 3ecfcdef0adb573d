"""The daemon's end of the holder: find or start it, and ask it one thing after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rootless.errors import (
    Conflict,
    Exhausted,
    HostUnsupported,
    NotFound,
    RootlessError,
    Unavailable,
)
from rootless.network import helper
from rootless.network.holder import main as holder_main

SOCKET = "holder.sock"
LOG = "holder.log"
START_TIMEOUT = 60.0
ANSWER_TIMEOUT = 30.0
"""Seconds: the machine may be busy; it takes milliseconds otherwise."""
_MAX_FDS = 4
_ERRORS = {
    kind.code: kind for kind in (Conflict, Exhausted, HostUnsupported, NotFound, Unavailable)
}


class Namespaces(Protocol):
    """The engine's user namespace, in which the holder is started."""

    owner: int
    """The id in it that is root of the holder's own user namespace."""

    async def spawn(self, argv: Sequence[str], fds: Mapping[int, int]) -> int:
        """Run a program in there; its exit status."""
        ...

    async def inode(self) -> int:
        """Which one it is."""
        ...


@dataclass(frozen=True, slots=True)
class Hello:
    """What a holder says of itself. The descriptors are the caller's to close."""

    pid: int
    containers: Mapping[str, set[str]]
    """Container → its endpoints' ids."""
    networks: tuple[str, ...]
    netns_fd: int
    userns_fd: int
    exit_fd: int
    """Reads the end of a pipe that closes with the holder."""

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self.netns_fd, self.userns_fd, self.exit_fd):
            os.close(fd)


class HolderClient:
    """A connection to a running holder."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.on_lost: Callable[[], None] | None = None
        """Called when it ends unexpectedly."""
        self.on_denied: Callable[[], None] | None = None
        """Called when it says that there are denials to ask for."""
        self._lock = asyncio.Lock()
        self._answer: asyncio.Future[tuple[dict[str, Any], list[int]]] | None = None
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """It ended, or was let go of."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Let go of it."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unavailable("the network holder was let go of"))

    def _lose(self) -> None:
        self.close()
        if self.on_lost is not None:
            self.on_lost()

    def _readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, holder_main.MAX_MESSAGE, _MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if data == holder_main.DENIED:
            if self.on_denied is not None:
                self.on_denied()
            return
        if data == holder_main.IN_MEMORY_FILE:
            memory = fds.pop()
            data = os.pread(memory, os.fstat(memory).st_size, 0)
            os.close(memory)
        if data and self._answer is not None and not self._answer.done():
            self._answer.set_result((json.loads(data), fds))
            return
        for fd in fds:
            os.close(fd)
        if not data:
            self._lose()

    async def ask(self, fds: Sequence[int] = (), /, **message: Any) -> dict[str, Any]:
        """A request without descriptors in its answer; raises what the holder says."""
        answer, _ = await self._ask(message, fds)
        return answer

    async def hello(self) -> tuple[Hello, int]:
        """Who it is, and the inode of the user namespace it is in.

        Unavailable when it is of another version of the engine: it is told to end then.
        """
        found, fds = await self._ask({"op": "hello"}, ())
        if found.get("protocol") != holder_main.PROTOCOL:
            for fd in fds:
                os.close(fd)
            with contextlib.suppress(RootlessError):
                await self._ask({"op": "quit"}, ())
            raise Unavailable("the network holder is of another version")
        containers = {key: set(value) for key, value in found["containers"].items()}
        networks = tuple(found["networks"])
        return Hello(found["pid"], containers, networks, *fds), found["userns"]

    async def _ask(
        self, message: dict[str, Any], fds: Sequence[int]
    ) -> tuple[dict[str, Any], list[int]]:
        # To the end, also when nobody wants the answer any more: the next one is another's.
        return await asyncio.shield(asyncio.ensure_future(self._exchange(message, fds)))

    async def _exchange(
        self, message: dict[str, Any], fds: Sequence[int]
    ) -> tuple[dict[str, Any], list[int]]:
        own = [os.dup(fd) for fd in fds]  # the caller may close its own when it was cancelled
        try:
            async with self._lock:
                if self._socket.fileno() < 0:
                    raise Unavailable("the network holder is not running")
                self._answer = asyncio.get_running_loop().create_future()
                try:
                    data = json.dumps(message).encode()
                    if len(data) > holder_main.MAX_INLINE:
                        data, memory = holder_main.IN_MEMORY_FILE, holder_main.memory_file(data)
                        own.append(memory)
                    socket.send_fds(self._socket, [data], own)
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        answer, got = await self._answer
                except TimeoutError:
                    self._lose()
                    raise Unavailable("the network holder does not answer") from None
                except OSError as error:
                    raise Unavailable(f"the network holder is gone: {error.strerror}") from None
                finally:
                    self._answer = None
        finally:
            for fd in own:
                os.close(fd)
        if "error" in answer:
            kind = _ERRORS.get(answer["code"], RootlessError)
            raise kind(answer["error"], hint=answer["hint"] or None)
        return answer, got


async def open_holder(directory: str, namespaces: Namespaces) -> tuple[HolderClient, Hello]:
    """The holder whose socket is in ``directory``; a new one when there is none of this engine's.

    One in another user namespace than the engine's cannot reach its containers any more.
    """
    found = await _join(directory)
    if found is not None:
        client, hello, inode = found
        if inode == await namespaces.inode():
            return client, hello
        hello.close()
        client.close()
    await _start(directory, namespaces)
    found = await _join(directory)
    if found is None:
        raise Unavailable("the network holder ended at once", hint=f"see {directory}/{LOG}")
    return found[:2]


async def _join(directory: str) -> tuple[HolderClient, Hello, int] | None:
    kind = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        with _through_descriptor(directory) as path:
            sock.connect(path)
    except OSError:
        sock.close()
        return None
    client = HolderClient(sock)
    try:
        return client, *await client.hello()
    except RootlessError:
        client.close()
        return None


async def _start(directory: str, namespaces: Namespaces) -> None:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        kind = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
        with _through_descriptor(directory) as path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{directory}/{SOCKET}")
            listener.bind(path)
        listener.listen(4)
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, ready_read)
        writer = stack.enter_context(open(ready_write, "wb", buffering=0))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        log = os.open(f"{directory}/{LOG}", flags, 0o600)
        stack.callback(os.close, log)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, null)
        argv = holder_main.command(3, 4, namespaces.owner)
        fds = {0: null, 1: log, 2: log, 3: listener.fileno(), 4: ready_write}
        await namespaces.spawn(argv, fds)
        writer.close()
        await _await_ready(ready_read, directory)


async def _await_ready(ready_fd: int, directory: str) -> None:
    if not await helper.readable(ready_fd, START_TIMEOUT):
        raise Unavailable(f"the network holder was not ready after {START_TIMEOUT:g} seconds")
    answer = os.read(ready_fd, 4096)
    if not answer:
        hint = f"see {directory}/{LOG}"
        raise Unavailable("the network holder ended without a message", hint=hint)
    if answer != holder_main.READY:
        said = json.loads(answer)
        kind = _ERRORS.get(said["code"], RootlessError)
        raise kind(f"bridge networks: {said['error']}", hint=said["hint"] or None)


@contextlib.contextmanager
def _through_descriptor(directory: str) -> Iterator[str]:
    """The socket's path, short whatever the directory's is (unix(7): 107 bytes)."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)
