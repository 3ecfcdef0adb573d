"""Connections that stop being HTTP: attach and exec.

The client sends raw stdin and gets output, framed or raw. Either side may close
its sending half alone. A half-closed Unix socket and a dead client look alike
to asyncio (both read as end of file), and while reading is paused it sees
neither. Then epoll watches for EPOLLHUP, which the kernel reports only when both
halves are shut (unix_poll in net/unix/af_unix.c); without it a silent container's
handler would wait for a client that is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import termios
from array import array
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse

from rootless.api.call import Call
from rootless.api.fields import warning_header
from rootless.api.http import Connection
from rootless.api.streams import RAW_STREAM, frame, stream_type
from rootless.engine.interface import AttachStreams

HIGH_WATER = 1 << 20
"""Bytes held for either direction before its source is paused."""
STALL_SECONDS = 10.0
"""What a client that is gone had sent is dropped when the process takes none for so long."""
_PIECE = 64 << 10


_READS_EXACTLY = ("Docker-Client/", "rootless")
"""Clients that lose nothing. docker-py, under whatever name (testcontainers gives it
another), reads the head through a buffer and the stream around it: output that arrives
together with the head is lost in the buffer. Docker's daemon starts the process after the
head was sent, which hides it most of the time."""


class Hijacked(StreamResponse):
    """Stands for an answer that was written by hand; aiohttp has nothing left to do."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    @property
    def prepared(self) -> bool:
        """Its head was sent."""
        return True

    async def prepare(self, _request: BaseRequest) -> AbstractStreamWriter | None:
        """Nothing."""
        return None

    async def write_eof(self, _data: bytes = b"") -> None:
        """Nothing."""


class RawStream(asyncio.Protocol):
    """A duplex byte stream with bounded buffers in both directions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._eof = False
        self._paused = False
        self._full = False
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._hangup: select.epoll | None = None
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        """Done when the client is gone; what it sent can still be read."""
        self.taken = 0
        """Bytes the process has taken."""
        self.waits_for_reader = False
        """The next write waits until the client has taken all before it."""
        self._transport, early = connection.take_over()
        if early:
            self._chunks.append(early)
            self._size = len(early)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport.set_protocol(self)
        if connection.input_ended:
            self.eof_received()
        # aiohttp pauses reading when much early data piled up.
        with suppress(RuntimeError):
            self._transport.resume_reading()

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        """Hold what the client sent."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self._watch_hangup()
        self._wake()

    def eof_received(self) -> bool:
        """The client closed its sending half."""
        self._eof = True
        self._watch_hangup()
        self._wake()
        if self.lost.done():
            self._transport.abort()
        return True

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._full = True

    def resume_writing(self) -> None:
        """The client caught up."""
        self._full = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._eof = True
        self._end_watch()
        self._lose()
        self._wake()
        self._connection.connection_lost(error)

    def _lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        self.resume_writing()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _watch_hangup(self) -> None:
        sock: socket.socket = self._transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX or self._hangup is not None:
            return
        self._hangup = select.epoll()
        self._hangup.register(sock.fileno(), 0)
        self._loop.add_reader(self._hangup.fileno(), self._on_hangup)

    def _on_hangup(self) -> None:
        self._end_watch()
        self._lose()
        if self._eof:
            self._transport.abort()

    def _end_watch(self) -> None:
        if self._hangup is not None:
            self._loop.remove_reader(self._hangup.fileno())
            self._hangup.close()
            self._hangup = None

    # The handler's side

    async def read(self) -> bytes:
        """All that arrived; waits for the first byte, b'' at the end."""
        while not self._chunks:
            if self._eof:
                return b""
            self._arrival = self._loop.create_future()
            await self._arrival
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def _until_read(self) -> None:
        """Wait until the client has taken everything sent so far (unix(7), SIOCOUTQ)."""
        sock: socket.socket = self._transport.get_extra_info("socket")
        pause = 0.0001
        while not (self.lost.done() or self._transport.is_closing()) and _unread(sock):
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.02)

    async def write(self, data: bytes) -> None:
        """Send, waiting while the client has more than HIGH_WATER bytes to read.

        Nothing is sent to a client that is gone.
        """
        if self.waits_for_reader:
            self.waits_for_reader = False
            await self._until_read()
        if self.lost.done() or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._full:
            self._room = self._loop.create_future()
            await self._room

    def close(self) -> None:
        """Send what is buffered, then close."""
        self._transport.close()


def _unread(sock: socket.socket) -> int:
    buffer = array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, buffer)
    return buffer[0]


async def hijack(call: Call, *, content_type: str) -> RawStream:
    """Answer that the connection is a raw stream from here on, and take it."""
    connection = call.request.protocol
    assert isinstance(connection, Connection)
    asked = call.request.headers.get("X-Rootless-Upgrade") == "1"
    stream = RawStream(connection)
    status = "101 UPGRADED" if asked else "200 OK"
    # As Docker: only who asked for the upgrade is told whether there are frames.
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type if asked else RAW_STREAM}"]
    if asked:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in call.common_headers.items()]
    if call.warnings:
        lines.append(f"Warning: {warning_header(call.take_warnings())}")
    await stream.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    agent = call.request.headers.get("User-Agent", "")
    stream.waits_for_reader = not agent.startswith(_READS_EXACTLY)
    return stream


async def serve_streams(
    raw: RawStream, streams: AttachStreams, *, stdin: bool, output: bool, bare: bool
) -> None:
    """Carry both directions until the output ends (also by detaching) or the client is gone.

    ``bare`` output has no frames that tell stdout and stderr apart.
    When only stdin is attached (no ``output``) the end of stdin ends it too. What the
    client sent before it went is the process'.
    """
    loop = asyncio.get_running_loop()
    send = loop.create_task(_output(raw, streams, bare=bare))
    receive = loop.create_task(_input(raw, streams, stdin=stdin))
    tasks: set[asyncio.Future[Any]] = {send, receive, raw.lost}
    try:
        while True:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if send in done:
                break
            if raw.lost in done:
                await _rest_of_input(raw, send, receive)
                break
            receive.result()
            if not output:
                break
    finally:
        for task in (send, receive):
            task.cancel()
        results = await asyncio.gather(send, receive, return_exceptions=True)
        raw.close()
        await streams.close()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError):
            raise result


async def _rest_of_input(
    raw: RawStream, send: asyncio.Future[None], receive: asyncio.Future[None]
) -> None:
    taken = -1
    while taken != raw.taken and not (send.done() or receive.done()):
        taken = raw.taken
        await asyncio.wait(
            (send, receive), timeout=STALL_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )


@runtime_checkable
class Framed(Protocol):
    """Streams that can also give their output in frames already, run together."""

    def frames(self) -> AsyncIterator[bytes]:
        """Bytes of the multiplexed stream."""
        ...


async def _output(raw: RawStream, streams: AttachStreams, *, bare: bool) -> None:
    if bare:
        async for _, data in streams:
            await raw.write(data)
        return
    if isinstance(streams, Framed):
        async for framed in streams.frames():
            await raw.write(framed)
        return
    async for number, data in streams:
        await raw.write(frame(number, data))


async def _input(raw: RawStream, streams: AttachStreams, *, stdin: bool) -> None:
    while data := await raw.read():
        if not stdin:
            continue
        try:
            for start in range(0, len(data), _PIECE):
                await streams.write(data[start : start + _PIECE])
                raw.taken += _PIECE
        except ConnectionError:
            # A process that closed its stdin may go on writing output; the rest is dropped.
            stdin = False
    if stdin:
        await streams.close_stdin()


async def hijack_for(call: Call, streams: AttachStreams, *, bare: bool) -> RawStream:
    """:func:`hijack` for these streams; they are closed when the client has gone meanwhile."""
    try:
        return await hijack(call, content_type=stream_type(call.version, tty=bare))
    except BaseException:
        await streams.close()
        raise
