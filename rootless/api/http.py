"""HTTP/1.1 connections: aiohttp's server with what Docker's protocol needs on top.

Five things differ from plain aiohttp, and all of them are kept here and in ``parser``:

* The pure-Python parser is used by name, whatever ``AIOHTTP_NO_EXTENSIONS``
  says and whoever imported aiohttp first: the C parser drops bytes that arrive
  in one segment with the head of an ``Upgrade: tcp`` request.
* Connections are bounded in number, heads in size and time.
* A client that closes its sending side still gets its answer. ``attach`` and
  ``exec`` depend on it (stdin ends, output goes on), and asyncio would close
  the connection.
* A body whose chunk ended just when reading paused goes on.
* A request that only watches (``events``, ``logs``, ``wait`` …) is cancelled as
  soon as its client is gone; one that changes something is finished.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server as AioServer

from rootless.api.identity import peer_identity
from rootless.api.parser import MAX_LINE, RequestParser
from rootless.api.tls import Credentials, TlsServer
from rootless.model.identity import Identity

READ_BUFFER = 256 << 10
"""Bytes of a body (or of early data behind an upgrade) held before reading pauses."""
MAX_PIPELINED = 32
BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel's bound is usually the same."""
HEAD_SECONDS = 30.0
"""A connection whose first request has not come by then is closed, and one whose next
request's head was begun that long ago."""

Disconnect = Literal["finish", "cancel"]
Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = (
        "disconnect",
        "error_response",
        "head_timer",
        "hijacked",
        "identity",
        "input_ended",
    )

    def __init__(self, manager: Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._parser = RequestParser(
            self,
            loop,
            READ_BUFFER,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            payload_exception=RequestPayloadError,
            # Bodies are archives or JSON; Docker's server never unpacks them either.
            auto_decompress=False,
            max_msg_queue_size=MAX_PIPELINED,
        )
        self.identity: Identity | None = None
        self.disconnect: Disconnect = "finish"
        self.hijacked = False
        self.input_ended = False
        self.error_response = manager.error_response
        self.head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who connected, before the peer can exit and its pid be used again.

        Idle connections, and heads that come byte by byte, must not take the
        descriptors that containers need.
        """
        self.identity = transport.get_extra_info("identity") or peer_identity(
            transport.get_extra_info("socket")
        )
        super().connection_made(transport)
        manager = self._manager
        number = transport.get_extra_info("socket").fileno()
        if isinstance(manager, Server) and not manager.make_room(self, number):
            self.cancel()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; a head that was begun has to be finished in time."""
        super().data_received(data)
        parser = self._parser
        if not isinstance(parser, RequestParser):
            return  # the connection is lost
        if parser.broken:
            self._lingering_time = 0.0  # nothing of the body is left that could be read
        if not parser.inside_head:
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None
        elif self.head_timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self.head_timer = self._loop.call_later(HEAD_SECONDS, self._no_request)

    def _no_request(self) -> None:
        if self.idle:
            self.cancel()
        else:
            self._await_head()  # of a request behind the one that is being served

    @property
    def idle(self) -> bool:
        """No request is being served, none waits."""
        return not self._messages and self._waiter is not None and not self.hijacked

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp says None, asyncio's transports look at it
        """The client sends no more: keep the connection while it is owed an answer."""
        # Between requests start() waits on _waiter; before the first one it may
        # not have come that far.
        busy = self._messages or (self._request_count and self._waiter is None)
        asked = self._current_request
        # Who has sent a whole body waits for what becomes of it; who sent none may be gone.
        watches = asked is not None and self.disconnect == "cancel" and not asked.body_exists
        if not busy or watches:
            return None
        parser = self._parser
        if parser is None or parser._payload_parser is not None:
            # The rest of a body will never come.
            return None
        self.input_ended = True
        if not self._messages:
            self.close()
        return True

    def resume_reading(self, *arguments: bool, **named: bool) -> None:
        """The parser goes on too.

        aiohttp 3.14.5's forgets that it was paused only when it stops for that. Paused
        by the last byte of a chunk it had stopped anyway, and would stop at the next
        one, which nobody resumes: reading is not paused then.
        """
        payload = self._parser._payload_parser if self._parser is not None else None
        if payload is not None:
            payload._paused = False
        super().resume_reading(*arguments, **named)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel a request that only watches."""
        task = self._task_handler
        if self.head_timer is not None:
            self.head_timer.cancel()
        super().connection_lost(exc)
        if task is not None and self.disconnect == "cancel":
            task.cancel()

    def cancel(self) -> None:
        """End the request under way, if there is one, and the connection."""
        if self._task_handler is not None:
            self._task_handler.cancel()
        if self.transport is not None:
            self.transport.abort()

    @property
    def exhausted(self) -> bool:
        """No request can come behind the one being served."""
        return self.input_ended and not self._messages

    def take_over(self) -> tuple[asyncio.Transport, bytes]:
        """Hand the transport to a raw protocol, with the bytes already received."""
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("client is gone")
        early = self._message_tail
        self._message_tail = b""
        self.hijacked = True
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
            self._keepalive_handle = None
        # aiohttp neither reads nor writes from here on.
        self._force_close = True
        self.transport = None
        return transport, early

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """JSON instead of aiohttp's pages; what cannot be parsed is the client's fault alone."""
        if request.writer.output_size > 0:
            raise ConnectionResetError("response was under way")
        if isinstance(exc, ConnectionError):
            raise exc  # the client is gone: there is nobody to answer
        if isinstance(exc, HttpProcessingError):
            status, message = exc.code or 400, f"Bad Request: {str(exc.message).splitlines()[0]}"
        elif exc is not None:
            self.log_exception("error while serving %s %s", request.method, request.path)
        response = self.error_response(status, message or "internal error")
        response.force_close()
        return response


class Server(AioServer):
    """Makes :class:`Connection` objects."""

    def __init__(
        self, handler: Handler, error_response: Callable[[int, str], StreamResponse]
    ) -> None:
        super().__init__(handler)
        self.error_response = error_response
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # The other half is for pipes and sockets of containers.
        self.max_connections = limit // 2
        self.max_descriptor = limit - limit // 8

    def make_room(self, new: Connection, descriptor: int) -> bool:
        """Keep within the bounds: the oldest idle one goes; False when none is idle.

        ``descriptor`` is the new one's: the kernel gives the lowest that is free, so that
        a high one says how few are left for everything else.
        """
        if len(self._connections) <= self.max_connections and descriptor < self.max_descriptor:
            return True
        for found, transport in self._connections.items():
            if found is new or transport.is_closing():
                continue
            if isinstance(found, Connection) and found.idle:
                found.cancel()
                return True
        return False

    def __call__(self) -> Connection:
        """The protocol of a new connection."""
        return Connection(
            self,
            loop=self._loop,
            access_log=None,
            tcp_keepalive=True,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            auto_decompress=False,
        )


class Runner:
    """Listening sockets and their connections."""

    def __init__(
        self, server: Server, listeners: list[asyncio.Server], remotes: list[TlsServer]
    ) -> None:
        self.server = server
        self._listeners = listeners
        self._remotes = remotes

    def recheck(self) -> None:
        """End the connections of clients whose certificate was taken back."""
        for remote in self._remotes:
            remote.recheck()

    async def close(self, *, grace: float = 10.0) -> None:
        """Stop listening, end streams at once, give other requests ``grace`` seconds."""
        for listener in self._listeners:
            listener.close()
        for remote in self._remotes:
            remote.close()
        connections = [c for c in self.server.connections if isinstance(c, Connection)]
        for connection in connections:
            if connection.hijacked or connection.disconnect == "cancel":
                connection.cancel()
            else:
                connection.close()
        await self.server.shutdown(grace)
        for connection in connections:
            connection.cancel()


async def listen(
    server: Server,
    sockets: list[socket.socket],
    tls: Credentials | None = None,
) -> Runner:
    """Accept connections on bound sockets. Their paths stay when the runner closes.

    ``tls`` is asked for the context of each connection that does not come by a Unix
    socket; without it such a client has no identity.
    """
    loop = asyncio.get_running_loop()
    listeners = []
    remotes: list[TlsServer] = []
    for sock in sockets:
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            # From Python 3.13 on the path would be removed, also of a socket systemd owns.
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            listener = await loop.create_unix_server(server, sock=sock, backlog=BACKLOG, **keep)
        else:
            factory: Callable[[], asyncio.Protocol] = server
            if tls is not None:
                factory = TlsServer(server, tls)
                remotes.append(factory)
            listener = await loop.create_server(factory, sock=sock, backlog=BACKLOG)
        listeners.append(listener)
    return Runner(server, listeners, remotes)
