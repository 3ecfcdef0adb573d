"""Clients attached to containers and execs."""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from rootless.errors import InvalidInput, NotFound
from rootless.model.records import LogEntry

if TYPE_CHECKING:
    from rootless.runtime.shim_client import Attachment, ShimClient

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_FRAME = struct.Struct(">BxxxI")
_CONTROL = re.compile(r"ctrl-([a-z@\[\\\]^_])")


def parse_detach_keys(text: str) -> bytes:
    """The byte sequence of ``ctrl-p,ctrl-q``, ``a,b`` or ``DEL``; '' takes the default."""
    keys = bytearray()
    for part in (text or DEFAULT_DETACH_KEYS).split(","):
        match = _CONTROL.fullmatch(part)
        if match is not None:
            keys.append(ord(match[1].upper()) & 0x1F)
        elif len(part) == 1 and part.isascii():
            keys.append(ord(part))
        elif part == "DEL":
            keys.append(0x7F)
        else:
            raise InvalidInput(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


class DetachScanner:
    """Finds the detach sequence in what a client types; half of it is held back."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the whole sequence was seen)."""
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            self._matched = int(byte == self._keys[0])
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False


class Attached:
    """One client's streams; see :class:`rootless.engine.interface.AttachStreams`.

    Made before or after the container starts; :meth:`connect` joins it to the
    shim, before the program is executed when it was made before the start.
    """

    def __init__(
        self,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        detach_keys: bytes = b"",
        history: Callable[[int], AsyncIterator[Sequence[LogEntry]]] | None = None,
        stream: bool = True,
        on_detach: Callable[[], None] | None = None,
        finished: asyncio.Event | None = None,
        epilogue: Callable[[], bytes] | None = None,
    ) -> None:
        self.tty = tty
        self._wanted = (stdin, stdout, stderr)
        self._scanner = DetachScanner(detach_keys) if tty and detach_keys else None
        self._history = history
        self._until_ns = time.time_ns() if stream else 0
        """Where the log ends for this client (Unix time): what is newer comes as a stream."""
        self._stream = stream
        self._on_detach = on_detach
        self._finished = finished
        self._epilogue = epilogue
        self._closed = False
        self._shim: ShimClient | None = None
        self._ready: asyncio.Future[Attachment | None] = asyncio.get_running_loop().create_future()
        self._asked: Attachment | None = None
        self.on_close: Callable[[], None] | None = None

    async def connect(self, shim: ShimClient) -> None:
        """Join the running process; a client that went away meanwhile is left out."""
        await self.ask(shim)
        await self.join(shim)

    async def ask(self, shim: ShimClient) -> None:
        """The first half of :meth:`connect`; a program let go afterwards is heard in full."""
        stdin, stdout, stderr = self._wanted
        if not self._ready.done():
            self._shim = shim
            self._asked = await shim.ask_attach(stdin=stdin, stdout=stdout, stderr=stderr)

    async def join(self, shim: ShimClient) -> None:
        """The second half: output is delivered from now on."""
        made, self._asked = self._asked, None
        if made is None:
            return
        self._until_ns = await made.accepted(shim.directory.name) or self._until_ns
        if self._ready.done():
            await made.close()
        else:
            self._ready.set_result(made)

    async def join_late(self, shim: ShimClient) -> None:
        """:meth:`join` when the program has been let go; it may be over, and its shim killed."""
        try:
            await self.join(shim)
        except NotFound:
            self.fail()

    def fail(self) -> None:
        """There will be no process: iteration ends."""
        if self._asked is not None:
            self._asked.drop()
            self._asked = None
        if not self._ready.done():
            self._ready.set_result(None)

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        if self._history is not None:
            async for entries in self._history(self._until_ns):
                for entry in entries:
                    yield (2 if entry.stream == "stderr" and not self.tty else 1), entry.data
        if not self._stream:
            return
        attachment = await asyncio.shield(self._ready)
        if attachment is None:
            return
        async for stream, data in attachment:
            yield stream, data
        if text := await self._last_words():
            yield (1 if self.tty else 2), text

    async def _last_words(self) -> bytes:
        """Who saw the end of the output asks for the exit status next: wait until it is known."""
        if self._finished is None or self._closed:
            return b""
        if self._epilogue is not None and self._shim is not None and await self._shim.listens():
            return b""  # only this client's output has ended, which was too slow (shim_io)
        await self._finished.wait()
        return self._epilogue() if self._epilogue is not None else b""

    async def frames(self) -> AsyncIterator[bytes]:
        """What iterating gives, as frames of Docker's stream run together; without a terminal.

        The shim speaks the same framing, so gigabytes pass without being taken apart.
        """
        if self._history is not None:
            async for entries in self._history(self._until_ns):
                yield b"".join(
                    _FRAME.pack(2 if entry.stream == "stderr" else 1, len(entry.data)) + entry.data
                    for entry in entries
                )
        if not self._stream:
            return
        attachment = await asyncio.shield(self._ready)
        if attachment is None:
            return
        while data := await attachment.read_raw():
            yield data
        if text := await self._last_words():
            yield _FRAME.pack(2, len(text)) + text

    async def write(self, data: bytes) -> None:
        """Feed stdin; the detach sequence detaches instead."""
        detach = False
        if self._scanner is not None:
            data, detach = self._scanner.feed(data)
        attachment = await asyncio.shield(self._ready)
        if attachment is not None and data:
            try:
                await attachment.write(data)
            except BrokenPipeError:
                # The process is gone; its end reaches the client through the output.
                return
        if detach:
            if self._on_detach is not None:
                self._on_detach()
            await self.close()

    async def close_stdin(self) -> None:
        """End of input."""
        attachment = await asyncio.shield(self._ready)
        if attachment is not None:
            await attachment.close_stdin()

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters."""
        if self._ready.done() and (attachment := self._ready.result()) is not None:
            await attachment.resize(height, width)

    async def close(self) -> None:
        """Detach; the process goes on."""
        self._closed = True
        if self.on_close is not None:
            self.on_close()
        if not self._ready.done():
            self._ready.set_result(None)
        elif (attachment := self._ready.result()) is not None:
            await attachment.close()
