"""The resolver: messages, names, who is told what, and what bounds a flood."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.network.dns import forward, message, server
from rootless.network.dns.message import AAAA, PTR, A, Malformed
from rootless.network.dns.zone import Entry, Zone


def question(name: str, kind: int = A, *, number: int = 7, flags: int = 0x100) -> bytes:
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".") if p)
    return struct.pack("!6H", number, flags, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)


def test_a_question_is_read() -> None:
    found = message.parse(question("WWW.Example.org", AAAA))
    assert (found.id, found.name, found.type, found.klass) == (7, "www.example.org", AAAA, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 11, question("a")[:-1], question("a", flags=0x8000),
        struct.pack("!6H", 1, 0, 2, 0, 0, 0) + question("a")[12:],
        struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        question(".".join(["a" * 63] * 4) + ".b"),
    ],
)  # fmt: skip
def test_what_is_no_question(data: bytes) -> None:
    with pytest.raises(Malformed):
        message.parse(data)


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        found = message.parse(data)
        assert len(message.compose(found)) == 12 + len(found.raw)
    assert len(message.failure(data, message.FORMAT_ERROR)) in (0, 12)


def test_an_answer_is_cut_where_the_asker_stops_reading() -> None:
    found = message.parse(question("a"))
    records = [message.address_record("10.0.0.1")] * 100
    cut = message.compose(found, records=records, limit=512)
    assert (len(cut) <= 512, bool(cut[2] & 2)) == (True, True)
    assert not message.compose(found, records=records)[2] & 2
    assert message.udp_limit(question("a"), found) == 512
    asked = bytearray(question("a")) + struct.pack("!BHHIH", 0, 41, 1232, 0, 0)
    asked[11] = 1
    assert message.udp_limit(bytes(asked), found) == 1232


def test_only_the_answer_to_a_question_counts() -> None:
    found = message.parse(question("a"))
    good = message.with_id(message.compose(found), 9)
    assert message.answers(good, found, 9)
    assert not message.answers(good, found, 8)
    assert not message.answers(message.with_id(question("a"), 9), found, 9)
    other = message.parse(question("b"))
    assert not message.answers(message.with_id(message.compose(other), 9), found, 9)


def zone() -> Zone:
    found = Zone()
    found.put("e1", Entry("n1", "front", ("Web", "www"), ("10.1.0.2", "fd00::2")))
    found.put("e2", Entry("n1", "front", ("web2", "www"), ("10.1.0.3",)))
    found.put("e3", Entry("n2", "back", ("db",), ("10.2.0.2",)))
    return found


def test_names_of_networks() -> None:
    found = zone()
    assert set(found.addresses(["n1"], "www") or ()) == {"10.1.0.2", "fd00::2", "10.1.0.3"}
    assert found.addresses(["n1"], "web.front") is not None
    assert found.addresses(["n1"], "db") is None
    assert found.addresses(["n1", "n2"], "db") == ["10.2.0.2"]
    assert found.pointer(["n1"], "2.0.1.10.in-addr.arpa") == "Web.front"
    assert found.pointer(["n2"], "2.0.1.10.in-addr.arpa") is None
    found.put("e1", Entry("n1", "front", ("shop",), ("10.1.0.2",)))
    assert found.addresses(["n1"], "web") is None
    assert found.addresses(["n1"], "www") == ["10.1.0.3"]
    for endpoint in ("e1", "e2", "e3", "e3"):
        found.drop(endpoint)
    assert found.addresses(["n1"], "www") is None
    assert found.pointer(["n1"], "2.0.1.10.in-addr.arpa") is None


@dataclass
class Resolver:
    """A server with one client, and a world of one server."""

    selector: selectors.BaseSelector
    server: server.Server
    asker: socket.socket
    address: tuple[str, int]
    stream_address: tuple[str, int]
    world: socket.socket
    sockets: list[socket.socket] = field(default_factory=list)

    def turn(self) -> None:
        """Let it do what there is to do."""
        while events := self.selector.select(0.05):
            for key, mask in events:
                if self.selector.get_map().get(key.fd) == key:
                    key.data(mask)

    def ask(self, data: bytes) -> bytes:
        self.asker.sendto(data, self.address)
        self.turn()
        return self.asker.recv(5000)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    with contextlib.ExitStack() as stack:

        def bound(kind: int) -> socket.socket:
            made = stack.enter_context(socket.socket(socket.AF_INET, kind))
            made.bind(("127.0.0.1", 0))
            return made

        world = bound(socket.SOCK_DGRAM)
        world.settimeout(20)
        monkeypatch.setattr(
            server, "Forwarder",
            lambda selector: forward.Forwarder(selector, port=world.getsockname()[1]),
        )  # fmt: skip
        selector = stack.enter_context(selectors.DefaultSelector())
        made = server.Server(selector, lambda _: False)
        made.zone = zone()
        datagrams, connections = bound(socket.SOCK_DGRAM), bound(socket.SOCK_STREAM)
        connections.listen()
        for one in (datagrams, connections):
            one.setblocking(False)
        asker = bound(socket.SOCK_DGRAM)
        asker.settimeout(20)
        addresses = datagrams.getsockname(), connections.getsockname()
        fds = [datagrams.detach(), connections.detach()]
        links = {"shop": "web", "store": "db"}
        sees = server.Sees(("n1",), ("n1", "n2"), ("127.0.0.1",), links)
        made.put("box", sees, fds)
        yield Resolver(selector, made, asker, *addresses, world)
        made.drop("box")


def test_own_names_are_answered_and_not_asked_for(resolver: Resolver) -> None:
    got = resolver.ask(question("web"))
    assert got[-4:] == bytes((10, 1, 0, 2))
    assert resolver.ask(question("WEB.front", AAAA)).endswith(socket.inet_pton(10, "fd00::2"))
    # No record of that type, but the name is there: not "no such name".
    assert resolver.ask(question("web2", AAAA))[3] & 15 == message.OK
    assert resolver.ask(question("shop"))[-4:] == bytes((10, 1, 0, 2))
    # A network whose names are there for links only.
    assert resolver.ask(question("store"))[-4:] == bytes((10, 2, 0, 2))
    assert b"\x03Web\x05front" in resolver.ask(question("2.0.1.10.in-addr.arpa", PTR))
    assert resolver.ask(b"\0\1\0\0\0\0\0\0\0\0\0\0")[3] & 15 == message.FORMAT_ERROR
    assert resolver.ask(question("web", flags=0x1000))[3] & 15 == message.NOT_IMPLEMENTED
    resolver.world.setblocking(False)
    with pytest.raises(BlockingIOError):
        resolver.world.recv(100)


def test_other_names_go_out_under_other_ids(resolver: Resolver) -> None:
    resolver.asker.sendto(question("db"), resolver.address)
    resolver.turn()
    asked, where = resolver.world.recvfrom(1000)
    assert message.parse(asked).name == "db"
    forged = message.compose(message.parse(question("db", number=1)), message.NO_NAME)
    number = message.parse(asked).id
    resolver.world.sendto(message.with_id(forged, number ^ 1), where)
    other = message.parse(question("evil"))
    resolver.world.sendto(message.with_id(message.compose(other), number), where)
    resolver.turn()
    resolver.asker.setblocking(False)
    with pytest.raises(BlockingIOError):
        resolver.asker.recv(100)
    resolver.asker.settimeout(20)
    resolver.world.sendto(message.with_id(forged, number), where)
    resolver.turn()
    got = resolver.asker.recv(1000)
    assert (int.from_bytes(got[:2]), got[3] & 15) == (7, message.NO_NAME)


def test_internal_networks_have_no_world(resolver: Resolver) -> None:
    resolver.server.put("box", server.Sees(("n2",), ("n2",), (), {}), [])
    assert resolver.ask(question("example.org"))[3] & 15 == message.NO_NAME
    assert resolver.ask(question("web"))[3] & 15 == message.NO_NAME
    assert resolver.ask(question("db"))[-4:] == bytes((10, 2, 0, 2))


def test_a_flood_is_refused_and_names_are_still_answered(resolver: Resolver) -> None:
    for number in range(forward.MOST_EACH):
        resolver.asker.sendto(question(f"n{number}.example", number=number), resolver.address)
        resolver.turn()
    assert resolver.ask(question("one.more"))[3] & 15 == message.REFUSED
    assert resolver.ask(question("web"))[-4:] == bytes((10, 1, 0, 2))


def test_a_silent_server_is_given_up(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "SECONDS", 0.0)
    resolver.asker.sendto(question("example.org"), resolver.address)
    resolver.turn()
    assert resolver.server.timeout() == 0.0
    resolver.server.expire()
    assert resolver.asker.recv(100)[3] & 15 == message.FAILURE
    assert resolver.server.timeout() is None


def test_over_tcp(resolver: Resolver) -> None:
    asked = question("web")
    with socket.create_connection(resolver.stream_address) as client:
        client.settimeout(20)
        whole = len(asked).to_bytes(2) + asked
        client.sendall(whole[:5])
        resolver.turn()
        client.sendall(whole[5:] + whole)
        resolver.turn()
        got = b""
        while len(got) < 2 * (2 + len(asked) + 16):
            got += client.recv(1000)
    assert got.count(bytes((10, 1, 0, 2))) == 2
    resolver.turn()
    assert resolver.server.timeout() is None
