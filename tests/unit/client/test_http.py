"""The HTTP client against a peer that splits, lies and hangs up."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.client import api, jsonlite
from rootless.client.api import Client
from rootless.client.http import ApiError, BrokenReply, query, quote
from rootless.errors import InvalidInput, Unavailable
from tests.unit.client.server import reply, serving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_is_what_the_standard_package_makes(value: object) -> None:
    assert json.loads(jsonlite.dumps(value)) == value
    assert jsonlite.loads(json.dumps(value)) == value
    assert jsonlite.loads(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("text", ["", "{", "[1,", "nope", '{"a":1} x', '"\x01"', "[1] [2]"])
def test_json_that_is_not(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        jsonlite.loads(text)


def test_json_errors_without_the_standard_package() -> None:
    """The C scanner reports through json.decoder, which a short command never imports.

    Python 3.11's scanner then has nothing to raise; later ones import it themselves.
    """
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(jsonlite.__file__).parents[2])!r})\n"
        "from rootless.client import jsonlite\n"
        "print('json' in sys.modules)\n"
        "for text in ('{', '[1,', 'nope', '\"'):\n"
        "    for function in (jsonlite.loads, jsonlite.loads_prefix):\n"
        "        try:\n"
        "            function(text)\n"
        "        except ValueError:\n"
        "            continue\n"
        "        raise SystemExit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


@given(st.lists(st.integers(1, 7), min_size=1, max_size=30))
def test_any_split_of_an_answer_is_read(cuts: list[int]) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole += b'5\r\n{"a":\r\n4;x=y\r\n "\xc3\xa9\r\n2\r\n"}\r\n0\r\nTrailer: 1\r\n\r\n'

    def handler(peer: socket.socket, request: bytes) -> None:
        rest, index = whole, 0
        while rest:
            size = cuts[index % len(cuts)]
            peer.sendall(rest[:size])
            rest, index = rest[size:], index + 1

    with serving(handler) as path:
        client = Client(path)
        assert client.get("/x") == {"a": "é"}
        assert client.get("/x") == {"a": "é"}  # the same connection
        client.close()


def test_one_connection_serves_many_requests() -> None:
    peers = set()

    def handler(peer: socket.socket, request: bytes) -> None:
        peers.add(peer)
        peer.sendall(reply("[]"))

    with serving(handler) as path:
        client = Client(path)
        for _ in range(5):
            assert client.post("/x", {"a": 1}) == []
        client.close()
    assert len(peers) == 1


def test_connections_made_ahead_are_used_while_they_are_fresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon ends those that nothing is asked on, which a pull may take long enough for."""
    now = [100.0]
    monkeypatch.setattr(api, "monotonic", lambda: now[0])
    peers: list[socket.socket] = []

    def answer(peer: socket.socket, _request: bytes) -> None:
        peers.append(peer)
        peer.sendall(reply("1"))

    with serving(answer) as path:
        client = Client(path)
        client.connect_ahead(2)
        first, second = client._ahead
        assert client.get("/") == 1
        assert client._idle is first
        now[0] += 60
        other = client.connect()
        assert other not in {first, second}
        assert second.sock.fileno() < 0
        client.close()
        client.connect_ahead(1)
        (unused,) = client._ahead
        client.close()
        assert unused.sock.fileno() < 0
    assert len(peers) == 1


def test_connecting_ahead_reports_nothing(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "absent"))
    client.connect_ahead(3)
    with pytest.raises(Unavailable, match="is it running"):
        client.get("/")


def test_a_close_is_honoured() -> None:
    def handler(peer: socket.socket, request: bytes) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[1]")
        peer.shutdown(socket.SHUT_RDWR)

    with serving(handler) as path:
        client = Client(path)
        assert client.get("/x") == [1]
        assert client.get("/x") == [1]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nConte", "ends inside its headers"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", "malformed Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope", "not JSON"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000, "endless headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60000, "not JSON"),
    ],
)
def test_broken_answers_have_one_clear_line(answer: bytes, said: str) -> None:
    def handler(peer: socket.socket, request: bytes) -> None:
        peer.sendall(answer)
        peer.shutdown(socket.SHUT_RDWR)

    with serving(handler) as path, pytest.raises(BrokenReply, match=said):
        Client(path).get("/x")


def test_errors_carry_status_message_and_hint() -> None:
    message = "No such image: x (hint: pull it first)"

    def handler(peer: socket.socket, request: bytes) -> None:
        peer.sendall(reply(json.dumps({"message": message}), "404 Not Found"))

    with serving(handler) as path, pytest.raises(ApiError) as caught:
        Client(path).get("/x")
    assert (caught.value.status, caught.value.message) == (404, "No such image: x")
    assert caught.value.hint == "pull it first"


def test_documents_come_one_by_one() -> None:
    def handler(peer: socket.socket, request: bytes) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b'{"a": 1}\r\n{"b"', b': "\xe2\x82', b'\xac"}{"c":', b" 3}"):
            peer.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        peer.sendall(b"0\r\n\r\n")

    with serving(handler) as path:
        client = Client(path)
        response = client.open("GET", "/x")
        assert list(response.documents()) == [{"a": 1}, {"b": "€"}, {"c": 3}]
        response.connection.close()


def test_an_upload_that_is_refused_early_shows_why() -> None:
    def handler(peer: socket.socket, request: bytes) -> None:
        peer.sendall(reply('{"message": "too big"}', "400 Bad Request"))
        peer.shutdown(socket.SHUT_RDWR)

    def endless() -> object:
        while True:
            yield b"x" * 65536

    with serving(handler) as path, pytest.raises((ApiError, Unavailable)) as caught:
        Client(path).request("POST", "/x", upload=endless())  # type: ignore[arg-type]  # a generator is enough
    # An abortive close may lose the answer (RFC 9112, 9.6); it never hangs.
    assert caught.value.message


@pytest.mark.parametrize(
    ("path", "said"),
    [("/nonexistent/s", "is it running"), ("/" + "x" * 200, "too long"), ("/dev/null", "running")],
)
def test_no_daemon(path: str, said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        Client(f"unix://{path}").get("/x")


def test_other_transports_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="fd://3: only unix://"):
        Client("fd://3")


def test_quoting() -> None:
    assert quote("a/b c:é") == "a%2Fb%20c%3A%C3%A9"
    assert quote("a/b:1", "/:") == "a/b:1"
    assert query(a=True, b=None, c=["x", "y"], d={"k": ["v"]}) == (
        "?a=1&c=x&c=y&d=%7B%22k%22%3A%5B%22v%22%5D%7D"
    )
