"""Attach, logs and execs: what containers say and hear."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote_plus

from aiohttp import WSMsgType, web
from aiohttp.web_response import Response, StreamResponse

from rootless.api.call import Call
from rootless.api.dto import execs as exec_view
from rootless.api.dto.create import ExecBody, ExecStartBody, console_size, to_exec
from rootless.api.dto.times import rfc3339_fixed
from rootless.api.fields import query
from rootless.api.hijack import Hijacked, hijack, hijack_for, serve_streams
from rootless.api.router import Route
from rootless.api.routes.containers import size
from rootless.api.streams import Closing, frame, open_stream, stream_type
from rootless.engine.interface import AttachStreams
from rootless.errors import InvalidInput, StartFailed
from rootless.model.records import LogEntry
from rootless.units import whole_number

_STREAM = {"stdout": 1, "stderr": 2}


async def _attach(call: Call, *, default: bool = False) -> tuple[AttachStreams, bool, bool]:
    stdin, stdout, stderr = (
        call.flag(name, default=default) for name in ("stdin", "stdout", "stderr")
    )
    streams = await call.engine.containers.attach(
        call.identity,
        call.fields["ref"],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        logs=call.flag("logs"),
        stream=call.flag("stream"),
        detach_keys=call.text("detachKeys"),
    )
    return streams, stdin, stdout or stderr


async def attach(call: Call) -> StreamResponse:
    """``POST /containers/{ref}/attach``: the connection becomes the container's stdio."""
    streams, stdin, output = await _attach(call)
    raw = await hijack_for(call, streams, bare=streams.tty)
    await serve_streams(raw, streams, stdin=stdin, output=output, bare=streams.tty)
    return Hijacked()


async def attach_websocket(call: Call) -> StreamResponse:
    """``GET /containers/{ref}/attach/ws``: the same in binary messages, without frames."""
    socket = web.WebSocketResponse(max_msg_size=1 << 20)
    _check_handshake(call, socket)
    # Before 1.42 a websocket had all streams.
    streams, stdin, _ = await _attach(call, default=call.version < (1, 42))
    try:
        await socket.prepare(call.request)
    except BaseException:
        await streams.close()
        raise
    loop = asyncio.get_running_loop()
    send = loop.create_task(_websocket_output(socket, streams))
    receive = loop.create_task(_websocket_input(socket, streams, stdin=stdin))
    try:
        await asyncio.wait((send, receive), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (send, receive):
            task.cancel()
        await asyncio.gather(send, receive, return_exceptions=True)
        await streams.close()
    await socket.close()
    return socket


def _check_handshake(call: Call, socket: web.WebSocketResponse) -> None:
    """Refuse a request that is none to become a websocket (RFC 6455, 4.2.1)."""
    try:
        possible = socket.can_prepare(call.request).ok
    except ValueError:  # of a key that is not ASCII
        possible = False
    if not possible:
        raise InvalidInput("attach/ws needs a websocket handshake", hint="POST …/attach needs none")


async def _websocket_output(socket: web.WebSocketResponse, streams: AttachStreams) -> None:
    async for _, data in streams:
        await socket.send_bytes(data)


async def _websocket_input(
    socket: web.WebSocketResponse, streams: AttachStreams, *, stdin: bool
) -> None:
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            return
        data = message.data.encode() if isinstance(message.data, str) else message.data
        if stdin:
            await streams.write(data)


async def logs(call: Call) -> StreamResponse:
    """``GET /containers/{ref}/logs``."""
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not (stdout or stderr):
        raise InvalidInput("Bad parameters: you must choose at least one stream")
    ref = call.fields["ref"]
    view = await call.engine.containers.inspect(call.identity, ref, verb="logs")
    tty, details = view.record.config.tty, call.flag("details")
    source = await call.engine.containers.logs(
        call.identity,
        view.record.id,
        stdout=stdout,
        stderr=stderr,
        follow=call.flag("follow"),
        since_ns=call.time("since"),
        until_ns=call.time("until"),
        tail=_tail(call.text("tail")),
        details=details,
    )
    timestamps = call.flag("timestamps")
    async with Closing(source) as batches:
        response = await open_stream(call, stream_type(call.version, tty=tty))
        async for entries in batches:
            lines = _lines(entries, timestamps=timestamps, details=details)
            await response.write(b"".join(lines if tty else _framed(entries, lines)))
        await response.write_eof()
    return response


def _tail(text: str) -> int | None:
    """A count; anything that is no number means all, as Docker has it."""
    return whole_number(text)


def _lines(entries: Sequence[LogEntry], *, timestamps: bool, details: bool) -> Sequence[bytes]:
    """The records as they are shown: time, attributes, text."""
    if not (timestamps or details):
        return [entry.data for entry in entries]
    lines = []
    for entry in entries:
        line = entry.data
        if details:
            line = _attributes(entry.attrs) + b" " + line
        if timestamps:
            line = rfc3339_fixed(entry.time_ns).encode() + b" " + line
        lines.append(line)
    return lines


def _attributes(attrs: Mapping[str, str]) -> bytes:
    """``key=value`` by key, escaped as in the query of a URL."""
    pairs = (f"{quote_plus(key)}={quote_plus(attrs[key])}" for key in sorted(attrs))
    return ",".join(pairs).encode()


def _framed(entries: Sequence[LogEntry], lines: Sequence[bytes]) -> Iterator[bytes]:
    for entry, line in zip(entries, lines, strict=True):
        yield frame(_STREAM[entry.stream], line)


async def exec_create(call: Call) -> Response:
    """``POST /containers/{ref}/exec``."""
    body = await call.json(ExecBody)
    request = to_exec(body)
    if call.version < (1, 42):
        request = replace(request, console_size=(0, 0))
    exec_id = await call.engine.execs.create(call.identity, call.fields["ref"], request)
    return call.reply({"Id": exec_id}, status=201)


async def exec_start(call: Call) -> StreamResponse:
    """``POST /exec/{id}/start``.

    That the process cannot be started is said in the stream, as Docker does;
    the exit code (126, 127) is in the exec's inspect. Whether the output comes in frames
    is decided by ``Tty`` of this request; whether there is a terminal by that of the exec.
    """
    body = await call.json(ExecStartBody)
    exec_id = call.fields["id"]
    record = await call.engine.execs.inspect(call.identity, exec_id, verb="start")
    request = record.request
    try:
        streams = await call.engine.execs.start(
            call.identity,
            exec_id,
            detach=body.detach,
            console_size=console_size(body.console_size) if call.version >= (1, 42) else (0, 0),
        )
    except StartFailed as error:
        if body.detach:
            raise
        raw = await hijack(call, content_type=stream_type(call.version, tty=body.tty))
        text = f"{error}\r\n".encode()
        await raw.write(text if body.tty else frame(2, text))
        raw.close()
        return Hijacked()
    if streams is None:
        return call.empty(200)
    raw = await hijack_for(call, streams, bare=body.tty)
    await serve_streams(
        raw,
        streams,
        stdin=request.attach_stdin,
        output=request.attach_stdout or request.attach_stderr,
        bare=body.tty,
    )
    return Hijacked()


async def exec_inspect(call: Call) -> Response:
    """``GET /exec/{id}/json``."""
    record = await call.engine.execs.inspect(call.identity, call.fields["id"])
    return call.reply(exec_view.inspect(record))


async def exec_resize(call: Call) -> Response:
    """``POST /exec/{id}/resize``."""
    height, width = size(call)
    await call.engine.execs.resize(call.identity, call.fields["id"], height=height, width=width)
    return call.empty(200)


_STREAMS = query("detachKeys", "logs", "stream", "stdin", "stdout", "stderr")
_SIZE = query("h", "w")
_LOGS = query(
    *"follow stdout stderr since until timestamps tail details".split(),
)
ROUTES = (
    Route("POST", "/containers/{ref}/attach", attach, verb="container.attach", query=_STREAMS),
    Route(
        "GET",
        "/containers/{ref}/attach/ws",
        attach_websocket,
        verb="container.attach",
        disconnect="cancel",
        query=_STREAMS,
    ),
    Route(
        "GET",
        "/containers/{ref}/logs",
        logs,
        verb="container.logs",
        disconnect="cancel",
        query=_LOGS,
    ),
    Route("POST", "/containers/{ref}/exec", exec_create, verb="container.exec", body=ExecBody),
    Route("POST", "/exec/{id}/start", exec_start, verb="exec.start", body=ExecStartBody),
    Route("GET", "/exec/{id}/json", exec_inspect, verb="exec.inspect"),
    Route("POST", "/exec/{id}/resize", exec_resize, verb="exec.resize", query=_SIZE),
)
