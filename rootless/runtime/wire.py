"""How plans travel between daemon, launcher and shim: JSON of registered dataclasses.

Both ends are this program and the socket is private, yet only classes that
were registered can come out of a message: the receiver never runs what the
sender names.
"""

from __future__ import annotations

import array
import json
import os
import socket
from dataclasses import fields

from rootless.errors import RootlessError, StartFailed, Unavailable, in_words
from rootless.linux import bare

_CLASSES: dict[str, tuple[type, tuple[str, ...]]] = {}
_INLINE_LIMIT = 64 << 10
NO_KEY = bytes(8)
IN_PLACE, IN_MEMORY_FILE = b"J", b"M"
"""First byte of a raw message: where its body is."""
_HEADER = 10
MAX_MESSAGE = _INLINE_LIMIT + 4096
"""Bytes of a raw message."""
GIVEN_UP = "go"
"""Step of the failure of a start that nobody wants any more."""


def register(*classes: type) -> None:
    """Let ``classes`` (dataclasses) cross the wire."""
    for cls in classes:
        _CLASSES[cls.__name__] = (cls, tuple(f.name for f in fields(cls)))


def _tagged(value: object) -> dict[str, object]:
    """What the encoder does not know: an object of a registered class, as its name and fields."""
    cls, names = _CLASSES.get(type(value).__name__, (None, ()))
    if cls is not type(value):
        raise TypeError(f"{type(value).__name__} is not registered for the wire")
    return {"#": cls.__name__, "=": [getattr(value, name) for name in names]}


def _untagged(found: dict[str, object]) -> object:
    """The inverse of :func:`_tagged`; lists become tuples, as frozen data wants them."""
    name = found.get("#")
    if name is None:
        for key, value in found.items():
            if type(value) is list:
                found[key] = _tuple(value)
        return found
    values = found["="]
    assert isinstance(values, list)
    return _CLASSES[str(name)][0](*_tuple(values))


def _tuple(values: list[object]) -> tuple[object, ...]:
    return tuple([_tuple(value) if type(value) is list else value for value in values])


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_tagged)
_DECODER = json.JSONDecoder(object_hook=_untagged)
"""Made once: json.dumps() and json.loads() would make one each time."""


def send(
    sock: socket.socket,
    message: dict[str, object],
    fds: tuple[int, ...] = (),
    *,
    tag: bytes = b"-",
    key: bytes = NO_KEY,
) -> None:
    """Send one message over a SOCK_SEQPACKET socket.

    ``tag`` (one byte) and ``key`` (eight) are for a receiver that does not decode.

    A long message (an environment may have megabytes) goes through an unnamed
    memory file, since a packet is bounded by the socket's buffer.
    """
    body = _ENCODER.encode(message).encode()
    if len(body) <= _INLINE_LIMIT:
        _send(sock, IN_PLACE + tag + key + body, fds)
        return
    memory = os.memfd_create("rootless-message", os.MFD_CLOEXEC)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(memory, view) :]
        _send(sock, IN_MEMORY_FILE + tag + key, (memory, *fds))
    finally:
        os.close(memory)


def _send(sock: socket.socket, data: bytes, fds: tuple[int, ...]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights)


def receive(sock: socket.socket) -> tuple[dict[str, object], list[int]] | None:
    """Receive one message and its descriptors (close-on-exec); None at the end of the stream."""
    raw = receive_raw(sock)
    return None if raw is None else (decode(*raw), raw[1])


def receive_raw(sock: socket.socket) -> tuple[bytes, list[int]] | None:
    """Receive a message without looking into it; see :func:`tag_of`, :func:`key_of`."""
    try:
        data, fds = bare.receive(sock, MAX_MESSAGE)
    except ConnectionResetError:
        # The other side ended before it had read everything (unix(7)). That is said
        # once, and before what it may have sent: then come its last words, or its end.
        data, fds = bare.receive(sock, MAX_MESSAGE)
    return (data, fds) if data else None


def raw(body: bytes) -> bytes:
    """The raw message whose body is this JSON."""
    return IN_PLACE + b"-" + NO_KEY + body


def forward(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    """Pass a raw message on, of its descriptors only the memory file it may be in."""
    _send(sock, data, tuple(fds[:1]) if data[:1] == IN_MEMORY_FILE else ())


def tag_of(data: bytes) -> bytes:
    """The tag of a raw message."""
    return data[1:2]


def key_of(data: bytes) -> bytes:
    """The key of a raw message; NO_KEY for none, and for one that is in a memory file."""
    return data[2:_HEADER] if data[:1] == IN_PLACE else NO_KEY


def decode(data: bytes, fds: list[int]) -> dict[str, object]:
    """The message in ``data``; a memory file is taken out of ``fds``."""
    if data[:1] == IN_MEMORY_FILE:
        memory = fds.pop(0)
        try:
            size = os.fstat(memory).st_size
            body = os.pread(memory, size, 0)
        finally:
            os.close(memory)
    else:
        body = data[_HEADER:]
    message = _DECODER.decode(body.decode())
    if not isinstance(message, dict):
        raise Unavailable("a message between the engine's processes is not an object")
    return message


def error_fields(error: BaseException, step: str = "") -> dict[str, object]:
    """How a failure is reported over the wire."""
    if isinstance(error, OSError):
        error = in_words(error, "the data root")
    if isinstance(error, RootlessError):
        return {
            "error": error.message,
            "hint": error.hint,
            "code": error.code,
            "step": getattr(error, "step", step),
            "exit_code": getattr(error, "exit_code", 125),
            "errno": getattr(error, "errno", 0),
        }
    return {
        "error": f"{type(error).__name__}: {error}",
        "hint": None,
        "code": "internal",
        "step": step,
        "exit_code": 125,
        "errno": getattr(error, "errno", 0) or 0,
    }


def failure_of(message: dict[str, object]) -> StartFailed:
    """The error that the other side of a wire reported."""
    hint = message.get("hint")
    return StartFailed(
        str(message["error"]),
        step=str(message.get("step", "")),
        exit_code=int(str(message.get("exit_code", 125))),
        hint=str(hint) if hint else None,
        context={"code": message.get("code"), "errno": message.get("errno")},
    )
