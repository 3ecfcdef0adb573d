"""TLS under the API: who is let in, and streams whose halves close one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rootless.api import tls
from rootless.api.app import make_app, serve
from rootless.api.tls import TlsServer, TlsTransport, certificate_identity
from rootless.daemon.certificates import TlsFiles, load
from rootless.errors import Denied
from rootless.model.identity import Identity
from tests.support import pki
from tests.unit.api.fake_engine import FakeEngine

CA = pki.authority()
OTHER = pki.authority("Other CA")
SPIFFE = "spiffe://example.org/ci/runner-7"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """The daemon's."""
    directory = pki.write(
        tmp_path_factory.mktemp("tls") / "tls", CA, pki.signed(CA, "server", server=True)
    )
    names = ("ca.pem", "cert.pem", "key.pem", "crl.pem")
    return load(TlsFiles(*(directory / name for name in names))).context


class Fixed:
    """Credentials that stay, and certificates (DER) that a test takes back."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.revoked: set[bytes] = set()

    def context(self) -> ssl.SSLContext:
        return self._context

    def is_revoked(self, certificate: bytes) -> bool:
        return certificate in self.revoked


def client_context(tmp_path: Path, pair: pki.Pair | None) -> ssl.SSLContext:
    """A client that trusts the daemon's authority and shows ``pair``."""
    made = ssl.create_default_context(cadata=CA.pem.decode())
    if pair is not None:
        directory = pki.write(tmp_path / "client", CA, pair)
        made.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return made


class Peer:
    """A client by hand: unlike asyncio's it can end its half alone. Blocking; for a thread."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self.sock = socket.create_connection(address, timeout=30)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._drive(self.tls.do_handshake)

    def _drive(self, call: Callable[[], object]) -> object:
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                self._send()
                data = self.sock.recv(1 << 16)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                self._send()

    def _send(self) -> None:
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self._send()

    def end_input(self) -> None:
        """close_notify, and no more; unwrap() alone would wait for the server's."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._send()

    def read_all(self) -> bytes:
        found = b""
        while True:
            try:
                data = self._drive(lambda: self.tls.read(1 << 16))
            except ssl.SSLZeroReturnError:
                return found
            assert isinstance(data, bytes)
            if not data:
                return found
            found += data


class Recorder(asyncio.Protocol):
    """Notes what it is told; answers with all of it when the client has ended its half."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()
        self.ended = False
        self.answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.ended = True
        asyncio.get_running_loop().call_later(0.05, self._reply)
        return True

    def _reply(self) -> None:
        self.transport.write(self.answer or self.data)
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(error)


@asynccontextmanager
async def served(
    factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext
) -> AsyncIterator[tuple[str, int]]:
    """The address of a server whose connections speak ``factory``'s protocol through TLS."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(TlsServer(factory, Fixed(context)), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def api(context: ssl.SSLContext) -> AsyncIterator[tuple[FakeEngine, tuple[str, int]]]:
    """The API over a fake engine."""
    engine = FakeEngine()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        runner = await serve(make_app(engine), [listener], tls=Fixed(context))
        try:
            yield engine, listener.getsockname()
        finally:
            await runner.close(grace=1)


async def ask(address: tuple[str, int], context: ssl.SSLContext, *headers: str) -> bytes:
    """The answer to ``GET /info``."""
    reader, writer = await asyncio.open_connection(
        *address, ssl=context, server_hostname="localhost"
    )
    lines = ["GET /info HTTP/1.1", "Connection: close", *headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    try:
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def test_a_client_of_the_authority_is_served_by_any_name(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    async with api(context) as (_, address):
        client = client_context(tmp_path, pki.signed(CA, "alice"))
        answer = await ask(address, client, "Host: docker.example.com:2376")
        assert answer.startswith(b"HTTP/1.1 200")
        answer = await ask(address, client, "Host: a.example", "Origin: https://evil.example")
        assert answer.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    ("pair", "newest", "reason"),
    [
        (None, None, "peer did not return a certificate"),
        (pki.signed(OTHER, "mallory"), None, "unable to get local issuer certificate"),
        (pki.signed(CA, "late", begins=-9, days=-1), None, "certificate has expired"),
        (pki.signed(CA, "early", begins=2), None, "certificate is not yet valid"),
        (pki.signed(CA, "server", server=True), None, "unsuitable certificate purpose"),
        (pki.signed(CA, "alice"), ssl.TLSVersion.TLSv1_2, "unsupported protocol"),
        (pki.signed(CA, "two", uris=(SPIFFE, "https://x")), None, "other URIs beside it"),
    ],
)
async def test_who_is_not_let_in(
    tmp_path: Path,
    context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    pair: pki.Pair | None,
    newest: ssl.TLSVersion | None,
    reason: str,
) -> None:
    caplog.set_level("INFO", logger="rootless.api.tls")
    client = client_context(tmp_path, pair)
    if newest is not None:
        client.maximum_version = newest
    async with api(context) as (_, address):
        answer = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            answer = await ask(address, client, "Host: localhost")
        assert answer == b""
        assert reason in caplog.text.lower().replace("_", " ").replace("uris", "URIs")
        good = client_context(tmp_path, pki.signed(CA, "alice"))
        assert (await ask(address, good, "Host: localhost")).startswith(b"HTTP/1.1 200")


async def test_plain_http_gets_nothing(context: ssl.SSLContext) -> None:
    async with api(context) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in await reader.read()
        writer.close()


@pytest.mark.parametrize("seed", range(8))
async def test_rubbish_ends_its_connection_only(
    tmp_path: Path, context: ssl.SSLContext, seed: int
) -> None:
    """Random bytes, also behind the beginning of a real handshake and inside a real connection."""
    draw = random.Random(seed)
    rubbish = draw.randbytes(draw.choice((1, 5, 100, 20_000)))
    client = client_context(tmp_path, pki.signed(CA, "alice"))
    async with api(context) as (_, address):

        def hello() -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            with contextlib.suppress(ssl.SSLWantReadError):
                client.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
            return outgoing.read()

        for begin in (b"", b"\x16\x03\x01\x00\x50", hello()[: draw.randrange(1, 200)], hello()):
            _, writer = await asyncio.open_connection(*address)
            writer.write(begin + rubbish)
            writer.close()

        def inside() -> None:
            peer = Peer(address, client)
            peer.sock.sendall(b"\x17\x03\x03" + len(rubbish).to_bytes(2) + rubbish)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert peer.read_all() == b""
            peer.sock.close()

        await asyncio.to_thread(inside)
        assert (await ask(address, client, "Host: localhost")).startswith(b"HTTP/1.1 200")


async def test_no_session_is_resumed(tmp_path: Path, context: ssl.SSLContext) -> None:
    client = client_context(tmp_path, pki.signed(CA, "alice"))
    async with served(Recorder, context) as address:

        def tickets() -> bool:
            peer = Peer(address, client)
            peer.write(b"x")
            peer.end_input()
            peer.read_all()
            peer.sock.close()
            session = peer.tls.session
            return session is not None and session.has_ticket

        assert not await asyncio.to_thread(tickets)


async def test_output_goes_on_after_the_client_ended_its_input(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    """What ``echo | docker run -i`` does."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        made[-1].answer = bytes(range(256)) * 40_000
        return made[-1]

    client = client_context(tmp_path, pki.signed(CA, "alice"))
    async with served(factory, context) as address:

        def talk() -> bytes:
            peer = Peer(address, client)
            peer.write(b"input" * 50_000)
            peer.end_input()
            found = peer.read_all()
            peer.sock.close()
            return found

        assert await asyncio.to_thread(talk) == bytes(range(256)) * 40_000
        assert made[0].data == b"input" * 50_000
        assert await made[0].lost is None


async def test_a_stream_that_is_cut_is_no_end_of_input(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    client = client_context(tmp_path, pki.signed(CA, "alice"))
    async with served(factory, context) as address:

        def cut() -> None:
            peer = Peer(address, client)
            peer.write(b"half of it")
            peer.sock.close()

        await asyncio.to_thread(cut)
        while not made:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(made[0].lost, 20)
        assert not made[0].ended


async def test_a_paused_reader_holds_the_client_back_and_loses_nothing(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    made: list[Recorder] = []

    class Slow(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, self.transport.resume_reading)

    def factory() -> Recorder:
        made.append(Slow())
        made[-1].answer = b"ok"
        return made[-1]

    client = client_context(tmp_path, pki.signed(CA, "alice"))
    sent = b"".join(number.to_bytes(4) for number in range(500_000))
    async with served(factory, context) as address:

        def talk() -> bytes:
            peer = Peer(address, client)
            for start in range(0, len(sent), 10_000):
                peer.write(sent[start : start + 10_000])
            peer.end_input()
            found = peer.read_all()
            peer.sock.close()
            return found

        assert await asyncio.to_thread(talk) == b"ok"
        assert made[0].data == sent


async def test_a_client_that_does_not_read_holds_the_server_back(
    tmp_path: Path, context: ssl.SSLContext
) -> None:
    """What is written before the server is told to wait stays small."""

    class Endless(Recorder):
        paused = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.sent = 0
            self._go_on()

        def _go_on(self) -> None:
            if not self.paused and self.sent < 100 << 20:
                self.transport.write(bytes(64 << 10))
                self.sent += 64 << 10
                asyncio.get_running_loop().call_soon(self._go_on)

        def pause_writing(self) -> None:
            self.paused = True

    made: list[Endless] = []

    def factory() -> Endless:
        made.append(Endless())
        return made[-1]

    client = client_context(tmp_path, pki.signed(CA, "alice"))
    async with served(factory, context) as address:
        peer = await asyncio.to_thread(Peer, address, client)
        while not (made and made[0].paused):
            await asyncio.sleep(0.01)
        assert made[0].sent < 32 << 20, "no more than the sockets' own buffers"
        assert made[0].transport.get_write_buffer_size() < 1 << 20
        peer.sock.close()
        await asyncio.wait_for(made[0].lost, 20)


async def test_a_handshake_that_takes_too_long_is_given_up(
    context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.1)
    async with served(Recorder, context) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


async def test_the_oldest_handshake_makes_room(
    tmp_path: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 2)
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 600)
    client = client_context(tmp_path, pki.signed(CA, "alice"))
    async with served(Recorder, context) as address:
        waiting = [await asyncio.open_connection(*address) for _ in range(2)]

        def talk() -> bytes:
            peer = Peer(address, client)
            peer.write(b"in time")
            peer.end_input()
            found = peer.read_all()
            peer.sock.close()
            return found

        assert await asyncio.to_thread(talk) == b"in time"
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(waiting[0][0].read(), 60) == b""
        for _, writer in waiting:
            writer.close()


@pytest.mark.parametrize("bound", ["MAX_BY_ADDRESS", "MAX_BY_IDENTITY"])
async def test_nobody_has_more_connections_than_the_bound(
    bound: str, tmp_path: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, bound, 1)
    alice = client_context(tmp_path / "a", pki.signed(CA, "alice"))
    bob = client_context(tmp_path / "b", pki.signed(CA, "bob"))

    def answer(client: ssl.SSLContext) -> bytes:
        """b'' for one that is sent away."""
        try:
            peer = Peer(address, client)
            with peer.sock, contextlib.suppress(ssl.SSLError, ConnectionError):
                peer.write(b"hello")
                peer.end_input()
                return peer.read_all()
        except (ssl.SSLError, ConnectionError):
            pass
        return b""

    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with served(factory, context) as address:
        first = await asyncio.to_thread(Peer, address, alice)
        while not made:
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(answer, alice) == b""
        # The address is everybody's here, the identity is not.
        other = await asyncio.to_thread(answer, bob)
        assert other == (b"" if bound == "MAX_BY_ADDRESS" else b"hello")
        first.sock.close()
        await asyncio.wait_for(made[0].lost, 60)
        while not await asyncio.to_thread(answer, alice):
            await asyncio.sleep(0.01)


def _identity(pair: pki.Pair) -> Identity:
    from cryptography.hazmat.primitives.serialization import Encoding

    uris = pair.certificate.extensions
    names = [
        ("URI", str(name.value))
        for extension in uris
        if extension.oid.dotted_string == "2.5.29.17"
        for name in extension.value
    ]
    common = pair.certificate.subject.rfc4514_string().removeprefix("CN=")
    found = {"subject": ((("commonName", common),),), "subjectAltName": tuple(names)}
    return certificate_identity(found, pair.certificate.public_bytes(Encoding.DER))


def test_a_certificate_says_who_its_holder_is() -> None:
    plain = _identity(pki.signed(CA, "alice"))
    assert (plain.source, plain.name, plain.uri, plain.uid) == ("certificate", "alice", None, None)
    assert plain.fingerprint is not None
    assert len(plain.fingerprint) == 64
    named = _identity(pki.signed(CA, "alice", uris=(SPIFFE,)))
    assert (named.name, named.uri) == ("runner-7", SPIFFE)
    assert _identity(pki.signed(CA, "a\x1bb")).name.startswith("sha256:")
    with pytest.raises(Denied, match="other URIs"):
        _identity(pki.signed(CA, "alice", uris=(SPIFFE, "https://x")))
