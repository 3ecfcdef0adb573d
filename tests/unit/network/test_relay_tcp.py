"""How many clients a container's TCP ports have at once, on real sockets."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from rootless.network.relay_tcp import Streams


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as found:
        yield found


def _listen() -> socket.socket:
    found = socket.create_server(("127.0.0.1", 0))
    found.setblocking(False)
    return found


def _serve(selector: selectors.BaseSelector) -> int:
    """What there is to do now is done: how much that was."""
    events = selector.select(0)
    for key, mask in events:
        if selector.get_map().get(key.fd) == key:
            key.data(mask)
    return len(events)


def _until_greeted(selector: selectors.BaseSelector, client: socket.socket) -> None:
    client.setblocking(False)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        _serve(selector)
        with contextlib.suppress(BlockingIOError):
            assert client.recv(2) == b"hi"
            return
        time.sleep(0.001)
    raise AssertionError("nobody answered")


def test_a_port_that_is_added_while_there_is_no_room(selector: selectors.BaseSelector) -> None:
    """Its clients wait, which costs nothing, and are served when others have left."""
    with _listen() as inside:
        streams = Streams(selector, ["127.0.0.1"], connections=1)
        port = inside.getsockname()[1]
        first, second = _listen(), _listen()
        served = []
        streams.add(first, port)
        with socket.create_connection(first.getsockname()) as holds:
            inside.setblocking(True)
            _serve(selector)
            served.append(inside.accept()[0])
            served[0].sendall(b"hi")
            _until_greeted(selector, holds)
            streams.add(second, port)
            waits = socket.create_connection(second.getsockname())
            assert _serve(selector) == 0
        with waits:
            end = time.monotonic() + 60
            inside.setblocking(False)
            served[0].close()
            while len(served) < 2 and time.monotonic() < end:
                _serve(selector)
                with contextlib.suppress(BlockingIOError):
                    served.append(inside.accept()[0])
            served[1].sendall(b"hi")
            _until_greeted(selector, waits)
        served[1].close()
        streams.close()
    assert not selector.get_map()
