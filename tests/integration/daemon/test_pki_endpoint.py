"""``rootless pki`` and the TLS endpoint together: who gets in, who does not, and who no longer."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from rootless.pki import build, keys
from rootless.pki.authority import Authority
from rootless.pki.build import Pair
from rootless.pki.profiles import profile
from rootless.pki.store import Store
from tests.support.engine import Engine, new_engine, program
from tests.support.registry import free_port

pytestmark = pytest.mark.integration
DOMAIN = "ci.example.org"


@dataclass(frozen=True)
class Site:
    """An engine on a port, with an authority of its own."""

    engine: Engine
    port: int

    @property
    def pki(self) -> Path:
        """The authority's directory."""
        return self.engine.root / "c/rootless/pki"

    def rootless(self, *words: str) -> str:
        """``rootless pki``, which must succeed."""
        done = subprocess.run(
            [*program("rootless"), "pki", *words],
            env=self.engine.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, name: str, place: Path) -> Path:
        """A new client's files."""
        self.rootless("issue", "client", "--role", "ci", "--out", str(place / name), name)
        return place / name

    def context(self, files: Path) -> ssl.SSLContext:
        """As a client with ``files`` has it."""
        made = ssl.create_default_context(cafile=str(self.pki / "root.pem"))
        made.load_cert_chain(files / "cert.pem", files / "key.pem")
        return made

    def connect(self, context: ssl.SSLContext) -> http.client.HTTPSConnection:
        """A connection that is not made yet."""
        return http.client.HTTPSConnection("localhost", self.port, context=context, timeout=60)

    def ping(self, context: ssl.SSLContext) -> bytes:
        """The answer on a new connection."""
        connection = self.connect(context)
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The module's site."""
    with new_engine(start=False) as engine:
        site = Site(engine, free_port())
        words = ("--trust-domain", DOMAIN, "--permit-dns", "localhost", "--no-passphrase")
        site.rootless("init", *words)
        site.rootless("issue", "server", "--install", "localhost")
        engine.start(
            "--tlsverify", "-H", f"tcp://127.0.0.1:{site.port}", "-H", f"unix://{engine.socket}"
        )
        yield site


def _write(place: Path, key: keys.type_of_key, *chain: x509.Certificate) -> Path:
    place.mkdir(mode=0o700)
    (place / "cert.pem").write_bytes(build.pem(*chain))
    (place / "key.pem").touch(mode=0o600)
    (place / "key.pem").write_bytes(keys.to_pem(key))
    return place


def _forged(site: Site, place: Path, uri: str) -> Path:
    """A client of any name: the authority's key without the authority's care."""
    signer, key = Authority(Store(site.pki)).signer(), keys.generate("p256")
    name = x509.UniformResourceIdentifier(uri)
    made = build.certificate(signer, None, key.public_key(), profile("client"), "eve", names=[name])
    return _write(place, key, made, signer.certificate)


def _refused(site: Site, files: Path) -> str:
    with pytest.raises((ssl.SSLError, ConnectionError)) as caught:
        site.ping(site.context(files))
    return str(caught.value)


def test_a_client_gets_in(site: Site, tmp_path: Path) -> None:
    assert site.ping(site.context(site.client("alice", tmp_path))) == b"OK"


def test_without_its_intermediate_a_certificate_leads_nowhere(site: Site, tmp_path: Path) -> None:
    files = site.client("lonely", tmp_path)
    leaf = x509.load_pem_x509_certificates((files / "cert.pem").read_bytes())[0]
    (files / "cert.pem").write_bytes(build.pem(leaf))
    assert "unknown ca" in _refused(site, files).lower()


def test_who_vouches_for_himself_is_nobody(site: Site, tmp_path: Path) -> None:
    key = keys.generate("p256")
    name = x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/role/admin/eve")
    made = build.certificate(None, key, key.public_key(), profile("client"), "eve", names=[name])
    assert "unknown ca" in _refused(site, _write(tmp_path / "self", key, made)).lower()


def test_another_trust_domain_is_outside_the_authoritys_bounds(site: Site, tmp_path: Path) -> None:
    inside = _forged(site, tmp_path / "inside", f"spiffe://{DOMAIN}/role/ci/eve")
    assert site.ping(site.context(inside)) == b"OK", "the forgery is refused for its domain only"
    _refused(site, _forged(site, tmp_path / "outside", "spiffe://elsewhere.example/role/ci/eve"))


def test_an_authority_below_the_intermediate_is_none(site: Site, tmp_path: Path) -> None:
    """Its key usage and path length forbid that it signs authorities."""
    above = Authority(Store(site.pki)).signer()
    sub, key = keys.generate("p256"), keys.generate("p256")
    lower = build.certificate(
        above, None, sub.public_key(), profile("intermediate"), "sub", path_length=0
    )
    name = x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/role/ci/eve")
    made = build.certificate(
        Pair(lower, sub), None, key.public_key(), profile("client"), "eve", names=[name]
    )
    _refused(site, _write(tmp_path / "deep", key, made, lower, above.certificate))


def test_a_revocation_ends_a_stream_and_is_known_at_the_next_handshake(
    site: Site, tmp_path: Path
) -> None:
    files = site.client("laptop", tmp_path)
    context = site.context(files)
    stream = site.connect(context)
    try:
        stream.request("GET", "/events")
        answer = stream.getresponse()
        assert answer.status == 200
        assert isinstance(stream.sock, ssl.SSLSocket)
        session = stream.sock.session
        site.rootless("revoke", "laptop")
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()  # it never ends by itself
    finally:
        stream.close()
    assert "certificate revoked" in _refused(site, files).lower()
    # No session of before lets it in without the list being asked.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _resume(site, context, session)


def _resume(site: Site, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
    """Ask with the session of a former connection; an error when nothing is answered."""
    raw = socket.create_connection(("localhost", site.port), 60)
    with context.wrap_socket(raw, server_hostname="localhost", session=session) as tls:
        assert not tls.session_reused
        tls.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not tls.recv(100):
            raise ConnectionResetError


def test_there_is_no_renegotiation(site: Site, tmp_path: Path) -> None:
    """A second ClientHello on a connection ends it; TLS 1.3 has no other way to ask for one."""
    context = site.context(site.client("again", tmp_path))
    with socket.create_connection(("localhost", site.port), 60) as raw:
        first = _Client(context, raw)
        first.ask(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.answer().startswith(b"HTTP/1.1 200")
        hello = _Client(context, None)
        raw.sendall(hello.outgoing.read())
        with contextlib.suppress(ConnectionError):
            first.ask(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.answer() == b""


class _Client:
    """A client whose bytes pass through our hands."""

    def __init__(self, context: ssl.SSLContext, raw: socket.socket | None) -> None:
        self.incoming, self.outgoing, self.raw = ssl.MemoryBIO(), ssl.MemoryBIO(), raw
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        if raw is None:
            return  # the ClientHello is made
        while True:
            raw.sendall(self.outgoing.read())
            self.incoming.write(raw.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                raw.sendall(self.outgoing.read())
                return

    def ask(self, data: bytes) -> None:
        assert self.raw is not None
        self.tls.write(data)
        self.raw.sendall(self.outgoing.read())

    def answer(self) -> bytes:
        """What comes next; b'' when the server has ended the connection."""
        assert self.raw is not None
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return b""  # its alert
            try:
                more = self.raw.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return b""
            self.incoming.write(more)


def test_many_half_open_handshakes_do_not_keep_a_client_out(site: Site, tmp_path: Path) -> None:
    context = site.context(site.client("patient", tmp_path))
    with ExitStack() as held:
        for _ in range(1000):
            raw = held.enter_context(socket.create_connection(("127.0.0.1", site.port), 60))
            raw.sendall(b"\x16\x03\x01")  # the beginning of a ClientHello
        for _ in range(5):
            assert site.ping(context) == b"OK"


def test_certificates_change_under_load_without_a_failed_request(
    site: Site, tmp_path: Path
) -> None:
    context = site.context(site.client("busy", tmp_path))
    failed: list[Exception] = []
    done = threading.Event()
    counts = [0, 0]

    def ask(at: int) -> None:
        while not done.is_set():
            try:
                assert site.ping(context) == b"OK"
            except Exception as error:
                failed.append(error)
            counts[at] += 1

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        serials = set()
        for _ in range(4):
            site.rootless("renew", "localhost")
            site.rootless("crl")
            raw = socket.create_connection(("localhost", site.port), 60)
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                serials.add((tls.getpeercert() or {})["serialNumber"])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert min(counts) > 4
    assert len(serials) == 4, "each new certificate was taken"
