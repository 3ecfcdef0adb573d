"""A daemon's socket over TCP with mutual TLS, and the certificates for it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates for 127.0.0.1; ``cert`` is its own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.cert = directory / f"{name}.pem"
        self.cert.write_bytes(
            signed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def issue(self, name: str, *, server: bool = False) -> Issued:
        """A certificate of a client, or of a server on loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(subject, key.public_key()).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if server:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        issued = Issued(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        pem = serialization.Encoding.PEM
        issued.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(pem))
        issued.key.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return issued


@contextlib.contextmanager
def serving(target: Path, authority: Authority) -> Iterator[str]:
    """``127.0.0.1:PORT`` where TLS with a certificate of ``authority`` leads to ``target``."""
    issued = authority.issue("server", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    context.load_verify_locations(authority.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=_serve, args=(peer, context, target))
            thread.start()
            threads.append(thread)

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join(30)


def _serve(peer: socket.socket, context: ssl.SSLContext, target: Path) -> None:
    """One connection; the end of either direction is passed on alone (close_notify)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    lock = threading.Lock()  # OpenSSL's connections are not for two threads at once
    with peer, socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(str(target))

        def flush() -> None:
            peer.sendall(outgoing.read())

        def downwards() -> None:
            with contextlib.suppress(OSError):
                while data := daemon.recv(_CHUNK):
                    view = memoryview(data)
                    with lock:
                        while view:
                            view = view[tls.write(view) :]
                        flush()
                with lock:
                    with contextlib.suppress(ssl.SSLError):
                        tls.unwrap()
                    flush()
                peer.shutdown(socket.SHUT_WR)

        with contextlib.suppress(OSError):
            if not _handshake(tls, incoming, flush, peer):
                return
            thread = threading.Thread(target=downwards)
            thread.start()
            _upwards(tls, incoming, lock, peer, daemon)
            thread.join(30)


def _handshake(
    tls: ssl.SSLObject, incoming: ssl.MemoryBIO, flush: object, peer: socket.socket
) -> bool:
    assert callable(flush)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            flush()
            data = peer.recv(_CHUNK)
            if not data:
                return False
            incoming.write(data)
        except ssl.SSLError:
            flush()  # the alert that says why
            return False
        else:
            flush()
            return True


def _upwards(
    tls: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    lock: threading.Lock,
    peer: socket.socket,
    daemon: socket.socket,
) -> None:
    while True:
        try:
            with lock:
                data = tls.read(_CHUNK)
        except ssl.SSLWantReadError:
            raw = peer.recv(_CHUNK)
            with lock:
                if raw:
                    incoming.write(raw)
                else:
                    incoming.write_eof()
            continue
        except ssl.SSLError:
            data = b""
        if not data:
            daemon.shutdown(socket.SHUT_WR)
            return
        daemon.sendall(data)
