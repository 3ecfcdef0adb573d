"""The daemon's side of a shim's socket (protocol: ``shim_io``)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from rootless.errors import NotFound, Unavailable

_HEADER = struct.Struct(">BxxxI")
_STDIN, _CLOSE_STDIN, _RESIZE = 0, 3, 4
_CHUNK = 1 << 16
_FRAME = 1 << 18
_CLOSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended; ``code`` is 128 + signal for a killed one.

    ``denied`` counts the system calls that the filter denied, as audit
    architecture, number and count (only with ``seccomp-log``).
    """

    code: int
    finished_ns: int
    oom_killed: bool
    denied: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ShimState:
    """The content of ``shim.json``; start times in clock ticks since boot."""

    shim_pid: int
    shim_start: int
    init_pid: int
    init_start: int


def parse_exit(text: str | bytes) -> ExitStatus:
    """Decode ``exit.json``."""
    data = json.loads(text)
    denied = tuple(
        (int(key.partition(":")[0]), int(key.partition(":")[2]), int(count))
        for key, count in data.get("denied", {}).items()
    )
    return ExitStatus(int(data["code"]), int(data["finished_ns"]), bool(data["oom_killed"]), denied)


def read_exit(directory: Path) -> ExitStatus | None:
    """How the process of ``directory`` ended; None while it runs or if that was never recorded."""
    try:
        return parse_exit((directory / "exit.json").read_bytes())
    except (FileNotFoundError, ValueError, KeyError):
        return None  # a power cut may leave an empty file


def read_state(directory: Path) -> ShimState | None:
    """Who serves ``directory``; None when nobody does."""
    try:
        data = json.loads((directory / "shim.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return ShimState(
        int(data["shim_pid"]),
        int(data["shim_start"]),
        int(data["init_pid"]),
        int(data["init_start"]),
    )


class Attachment:
    """The streams of a process. Iterating yields ``(stream, bytes)``, stream 1 or 2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def accepted(self, name: str) -> int:
        """Wait until the shim delivers output; NotFound, naming ``name``, when it ended.

        The Unix time in nanoseconds up to which output is only in the log; 0 when the
        shim is of an older version, which does not tell.
        """
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        if not line:
            self._writer.close()
            raise NotFound(f"nothing runs in {name} any more")
        told: dict[str, object] = json.loads(line)
        return int(str(told.get("time_ns", 0)))

    def drop(self) -> None:
        """Close it without waiting for anything."""
        self._writer.close()

    async def read_frame(self) -> tuple[bytes, bytes] | None:
        """The next frame as Docker's 8-byte header and its payload; None at the end."""
        try:
            header = await self._reader.readexactly(_HEADER.size)
            _, length = _HEADER.unpack(header)
            return header, await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def read_raw(self, limit: int = _CHUNK * 4) -> bytes:
        """Whatever came, as frames run together; b'' at the end. For relaying without a look."""
        try:
            return await self._reader.read(limit)
        except ConnectionError:
            return b""

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        while (frame := await self.read_frame()) is not None:
            yield frame[0][0], frame[1]

    async def write(self, data: bytes | memoryview) -> None:
        """Feed stdin; waits while the process does not read (back-pressure)."""
        view = memoryview(data)
        try:
            for start in range(0, len(view), _FRAME):
                if self._writer.is_closing():
                    raise BrokenPipeError  # Python 3.13's writelines() would raise a TypeError
                part = view[start : start + _FRAME]
                # At once: the shim would wake up for a header alone.
                self._writer.writelines((_HEADER.pack(_STDIN, len(part)), part))
                await self._writer.drain()
        except ConnectionError:
            raise BrokenPipeError from None

    async def close_stdin(self) -> None:
        """End of stdin; output goes on."""
        await self._command(_CLOSE_STDIN, b"")

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size, in order with the data."""
        await self._command(_RESIZE, struct.pack(">HH", rows, columns))

    async def _command(self, kind: int, payload: bytes) -> None:
        try:
            self._writer.write(_HEADER.pack(kind, len(payload)) + payload)
            await self._writer.drain()
        except ConnectionError:
            return  # the process ended; there is nobody to tell

    async def close(self) -> None:
        """Detach; the process goes on (its stdin ends if it was opened for one client only).

        What was written is the process' to take, but not for ever.
        """
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except ConnectionError:
            return


class ShimClient:
    """Questions to the shim of one container (or exec) directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ending: Callable[[], Awaitable[dict[str, object] | None]] | None = None
        """Who tells the end without being asked, if anybody does (``Created.ended``)."""
        self.on_log: Callable[[str], None] | None = None
        """Hears what the shim has to say of the container's log."""

    @classmethod
    async def connect(cls, directory: Path) -> ShimClient:
        """A client of ``directory``; NotFound when no shim listens there."""
        client = cls(directory)
        _, writer = await client._open()
        writer.close()
        return client

    async def listens(self) -> bool:
        """Whether the process has not ended."""
        try:
            _, writer = await self._open()
        except NotFound:
            return False
        writer.close()
        return True

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        fd = -1
        try:
            # A socket's address holds 107 bytes (unix(7)); through the directory's
            # descriptor any path fits.
            fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            sock.connect(f"/proc/self/fd/{fd}/shim.sock")
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise NotFound(f"nothing runs in {self.directory.name}") from None
        finally:
            if fd >= 0:
                os.close(fd)
        return await asyncio.open_unix_connection(sock=sock, limit=_CHUNK * 8)

    async def _ask(self, request: dict[str, object]) -> dict[str, object]:
        reader, writer = await self._open()
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            while (line := await reader.readline()).startswith(b'{"log": '):
                if self.on_log is not None:
                    self.on_log(str(json.loads(line)["log"]))
        except ConnectionError:
            line = b""
        finally:
            writer.close()
        if not line:
            raise NotFound(f"nothing runs in {self.directory.name} any more")
        answer: dict[str, object] = json.loads(line)
        if answer.get("ok") is False:
            raise Unavailable(f"the shim refused {request['op']}: {answer.get('error')}")
        return answer

    async def wait(self) -> ExitStatus:
        """Wait for the end of the process."""
        recorded = read_exit(self.directory)
        if recorded is not None:
            return recorded
        try:
            if self.ending is not None:
                answer = await self.ending() or {}
            else:
                answer = await self._ask({"op": "wait"})
        except NotFound:
            answer = {}
        if "code" in answer:
            return parse_exit(json.dumps(answer))
        recorded = read_exit(self.directory)
        if recorded is None:
            raise NotFound(f"the shim of {self.directory.name} ended without an exit status")
        return recorded

    async def signal(self, signum: int) -> None:
        """Send a signal to the first process."""
        await self._ask({"op": "signal", "signum": signum})

    async def end(self) -> None:
        """End what may run although nobody said so: a builder can die right before it does."""
        try:
            await self.signal(signal.SIGKILL)
            await self.wait()
        except (NotFound, Unavailable):
            return  # it never ran

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters."""
        await self._ask({"op": "resize", "rows": height, "columns": width})

    async def ask_attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> Attachment:
        """Ask for the streams without waiting for the answer; see :meth:`Attachment.accepted`."""
        reader, writer = await self._open()
        request = {"op": "attach", "stdin": stdin, "stdout": stdout, "stderr": stderr}
        writer.write(json.dumps(request).encode() + b"\n")
        return Attachment(reader, writer)

    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> Attachment:
        """Connect to the streams; output from now on is delivered, none is lost."""
        asked = await self.ask_attach(stdin=stdin, stdout=stdout, stderr=stderr)
        await asked.accepted(self.directory.name)
        return asked
