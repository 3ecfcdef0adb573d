"""Attach on a raw connection: what was said before, leaving by keys, sizes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.api import Api, until
from tests.support.engine import Engine
from tests.support.hijacked import FRAME, Hijacked, unframed

pytestmark = pytest.mark.integration
_LINES = 300_000
"""Two megabytes: more than the sockets on the way hold."""


Attach = Callable[..., Hijacked]


@pytest.fixture
def attach(engine: Engine) -> Iterator[Attach]:
    opened: list[Hijacked] = []

    def start(ref: str, **query: object) -> Hijacked:
        opened.append(Hijacked(engine, f"/containers/{ref}/attach", **query))
        return opened[-1]

    yield start
    for each in opened:
        each.sock.close()


_OUTPUT = {"stdout": 1, "stderr": 1}
_ALL = {"stdin": 1, "stream": 1, **_OUTPUT}


def _tail(api: Api, ref: str) -> bytes:
    return unframed(api.raw("GET", f"/containers/{ref}/logs", tail=1, **_OUTPUT)[2])


def test_what_was_said_before_comes_first_and_nothing_comes_twice(api: Api, attach: Attach) -> None:
    """A slow reader's past is still on its way when what is new is in the log as well."""
    ref = api.run("sh", "-c", f"seq {_LINES}; read go; seq 10; echo end >&2", OpenStdin=True)
    until(lambda: _tail(api, ref) == b"%d\n" % _LINES)
    stream = attach(ref, logs=1, **_ALL)
    assert stream.status == 101
    stream.sock.sendall(b"\n")
    until(lambda: _tail(api, ref) == b"end\n")
    numbers = [*range(1, _LINES + 1), *range(1, 11), "end"]
    assert unframed(stream.rest()) == "".join(f"{n}\n" for n in numbers).encode()
    again = attach(ref, logs=1, stdout=1)
    assert unframed(again.rest()).endswith(b"\n9\n10\n")
    api.remove(ref)


def test_the_past_of_a_terminal_and_of_one_stream(api: Api, attach: Attach) -> None:
    both = api.run("sh", "-c", "echo out; echo err >&2")
    api.ok("POST", f"/containers/{both}/wait")
    assert attach(both, logs=1, stderr=1).rest() == FRAME.pack(2, 4) + b"err\n"
    assert attach(both, **_OUTPUT).rest() == b""
    api.remove(both)
    raw = api.run("echo", "line", Tty=True)
    api.ok("POST", f"/containers/{raw}/wait")
    stream = attach(raw, logs=1, stdout=1)
    assert b"Content-Type: application/vnd.docker.raw-stream" in stream.head
    assert stream.rest() == b"line\r\n"
    api.remove(raw)


def test_a_log_that_nobody_can_read(api: Api, attach: Attach) -> None:
    ref = api.run("cat", OpenStdin=True, HostConfig={"LogConfig": {"Type": "none"}})
    assert attach(ref, logs=1, **_ALL).status == 501
    assert attach(ref, **_ALL).status == 101
    api.remove(ref)


@pytest.mark.parametrize(
    ("keys", "typed"),
    [({}, b"\x10\x11"), ({"detachKeys": "a,ctrl-b,DEL"}, b"a\x02\x7f")],
    ids=["default", "chosen"],
)
def test_leaving_by_keys(api: Api, attach: Attach, keys: dict[str, str], typed: bytes) -> None:
    """What begins like the keys and goes on otherwise reaches the program."""
    ref = api.run("sh", "-c", "stty raw -echo; echo ready; cat", Tty=True, OpenStdin=True)
    until(lambda: b"ready" in api.raw("GET", f"/containers/{ref}/logs", stdout=1)[2])
    stream = attach(ref, **_ALL, **keys)
    stream.sock.sendall(typed[:1] + b"-")
    assert stream.until(b"-") == typed[:1] + b"-"
    for key in typed:
        stream.sock.sendall(bytes([key]))
    assert stream.rest() == b""
    assert api.state(ref)["Running"]
    with api.stream(
        "GET", "/events", until=time.time(), since=0, filters={"container": [ref]}
    ) as e:
        assert [event["Action"] for event in e][-1] == "detach"
    api.remove(ref)


def test_keys_mean_nothing_without_a_terminal(api: Api, attach: Attach) -> None:
    ref = api.run("cat", OpenStdin=True, StdinOnce=True)
    stream = attach(ref, **_ALL)
    stream.sock.sendall(b"\x10\x11")
    stream.sock.shutdown(socket.SHUT_WR)
    assert unframed(stream.rest()) == b"\x10\x11"
    api.remove(ref)


@pytest.mark.parametrize("keys", ["ctrl-", "shift-x", "a,,b", "ctrl-A"])
def test_keys_that_do_not_exist(api: Api, attach: Attach, keys: str) -> None:
    ref = api.create("cat", Tty=True, OpenStdin=True)
    assert attach(ref, **_ALL, detachKeys=keys).status == 400
    api.remove(ref)


_SIZES = "trap 'stty size' WINCH; stty size; while :; do read line; done"


def test_sizes(engine: Engine, api: Api, attach: Attach) -> None:
    ref = api.create(
        "sh", "-c", _SIZES, Tty=True, OpenStdin=True, HostConfig={"ConsoleSize": [5, 7]}
    )
    stream = attach(ref, **_ALL)
    api.ok("POST", f"/containers/{ref}/start")
    stream.until(b"5 7")
    api.ok("POST", f"/containers/{ref}/resize", h=33, w=99)
    stream.until(b"33 99")
    body = {"Cmd": ["sh", "-c", _SIZES], "Tty": True, "AttachStdin": True, "AttachStdout": True}
    made = api.ok("POST", f"/containers/{ref}/exec", {**body, "DetachKeys": "q,q"})["Id"]
    inner = Hijacked(engine, f"/exec/{made}/start", {"Tty": True, "ConsoleSize": [44, 111]})
    inner.until(b"44 111")
    api.ok("POST", f"/exec/{made}/resize", h=10, w=20)
    inner.until(b"10 20")
    inner.sock.sendall(b"qq")
    assert inner.rest() == b""
    inner.sock.close()
    assert api.ok("GET", f"/exec/{made}/json")["Running"]
    api.remove(ref)


def test_sizes_that_cannot_be(api: Api) -> None:
    ref = api.run("cat", OpenStdin=True)
    assert api.refused("POST", f"/containers/{ref}/resize", h=1, w=1)[0] == 400
    for size in ({}, {"h": 1}, {"h": "x", "w": 1}, {"h": -1, "w": 1}, {"h": 1, "w": 1 << 40}):
        assert api.refused("POST", f"/containers/{ref}/resize", **size)[0] == 400
    api.ok("POST", f"/containers/{ref}/kill")
    api.ok("POST", f"/containers/{ref}/wait")
    assert api.refused("POST", f"/containers/{ref}/resize", h=1, w=1)[0] == 409
    assert api.refused("POST", "/containers/nosuch/resize", h=1, w=1)[0] == 404
    assert api.refused("POST", "/exec/nosuch/resize", h=1, w=1)[0] == 404
    api.remove(ref)
