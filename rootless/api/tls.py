"""TLS under a connection, with what asyncio's own lacks: halves that close one at a time.

``docker run -i`` ends its input with TLS' close_notify and goes on reading; asyncio
closes the connection then, and the output is lost. RFC 8446, section 6.1, lets each
side close its own half, and OpenSSL goes on writing after it has read the other's
alert. An end of the TCP stream without the alert is a client that is gone, or
somebody in between who cuts it short: the connection is aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from rootless.errors import Denied
from rootless.model.identity import Identity

_log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
MAX_HANDSHAKES = 128
"""At once. The oldest makes room: one that is meant takes milliseconds."""
LINGER_SECONDS, MAX_LINGERING = 2.0, 64
"""What a client that is refused has to read why, and how many of them at once."""
MAX_BY_ADDRESS, MAX_BY_IDENTITY = 1024, 512
"""Connections; each may be a stream. An address is that of many behind NAT."""
_ROLE = re.compile(r"spiffe://[^/]+/role/([^/]+)/[^/]+")
"""As ``rootless pki`` writes an identity."""
_READ = 256 << 10
_QUICK_ACK = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
_MAX_UNASKED = 16 << 20
"""Bytes of answers to the client's TLS messages (KeyUpdate) that it may leave unread."""


def certificate_identity(certificate: dict[str, Any], der: bytes) -> Identity:
    """Who a verified certificate says its holder is; Denied when it says two things.

    ``certificate`` is what ``ssl`` makes of it. A SPIFFE ID stands before the common
    name; a certificate with one has no other URI (SPIFFE X.509-SVID, section 2). The
    role is in its path: ``spiffe://example.org/role/ci/runner-7``.
    """
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    spiffe = [uri for uri in uris if uri.startswith("spiffe://")]
    if spiffe and len(uris) > 1:
        raise Denied("the certificate has a SPIFFE ID and other URIs beside it")
    names = [
        value
        for part in certificate.get("subject", ())
        for kind, value in part
        if kind == "commonName"
    ]
    fingerprint = hashlib.sha256(der).hexdigest()
    name = spiffe[0].rpartition("/")[2] if spiffe else "".join(names[:1])
    role = _ROLE.fullmatch(spiffe[0]) if spiffe else None
    return Identity(
        source="certificate",
        name=name if name and name.isprintable() else f"sha256:{fingerprint[:16]}",
        role=role[1] if role else None,
        uri=spiffe[0] if spiffe else None,
        fingerprint=fingerprint,
    )


class Credentials(Protocol):
    """What a server has and whom it believes; both may change while it runs."""

    def context(self) -> ssl.SSLContext:
        """For a new connection."""

    def is_revoked(self, certificate: bytes) -> bool:
        """Whether a client's certificate (DER) was taken back."""


class TlsServer:
    """Makes the protocols of one listening socket."""

    def __init__(self, factory: Callable[[], asyncio.Protocol], credentials: Credentials) -> None:
        self._factory = factory
        self._credentials = credentials
        self._handshakes: dict[TlsProtocol, None] = {}
        self._clients: set[TlsProtocol] = set()
        self._lingering: dict[TlsProtocol, None] = {}
        self._addresses: Counter[str] = Counter()
        self._identities: Counter[str] = Counter()

    def __call__(self) -> TlsProtocol:
        """The protocol of a new connection."""
        return TlsProtocol(self)

    def begin(self, protocol: TlsProtocol) -> ssl.SSLContext:
        """Count a handshake; its context."""
        if len(self._handshakes) >= MAX_HANDSHAKES:
            next(iter(self._handshakes)).abort()
        self._handshakes[protocol] = None
        return self._credentials.context()

    def end(self, protocol: TlsProtocol) -> None:
        """A handshake is over, however it went."""
        self._handshakes.pop(protocol, None)

    def admit(self, protocol: TlsProtocol, identity: Identity) -> None:
        """Count a client; Denied when it has too many connections."""
        address, key = protocol.address, identity.key
        for counted, name, most in (
            (self._addresses, address, MAX_BY_ADDRESS),
            (self._identities, key, MAX_BY_IDENTITY),
        ):
            if counted[name] >= most:
                raise Denied(f"{name} has {most} connections already")
        self._clients.add(protocol)
        self._addresses[address] += 1
        self._identities[key] += 1

    def leave(self, protocol: TlsProtocol) -> None:
        """A client is gone."""
        self._lingering.pop(protocol, None)
        if protocol not in self._clients:
            return
        self._clients.remove(protocol)
        assert protocol.identity is not None
        names = (self._addresses, protocol.address), (self._identities, protocol.identity.key)
        for counted, name in names:
            counted[name] -= 1
            if not counted[name]:
                del counted[name]

    def linger(self, protocol: TlsProtocol) -> None:
        """Close a refused connection when its client has; it has not long for that."""
        if len(self._lingering) >= MAX_LINGERING:
            next(iter(self._lingering)).abort()
        self._lingering[protocol] = None
        asyncio.get_running_loop().call_later(LINGER_SECONDS, protocol.abort)

    def recheck(self) -> None:
        """End the connections of clients whose certificate was taken back meanwhile."""
        for protocol in tuple(self._clients):
            if self._credentials.is_revoked(protocol.certificate):
                name = protocol.identity.name if protocol.identity else ""
                _log.info("TLS client %s (%s): its certificate is revoked", protocol.address, name)
                protocol.abort()

    def close(self) -> None:
        """Give up the handshakes under way."""
        for protocol in (*self._handshakes, *self._lingering):
            protocol.abort()

    def make_inner(self) -> asyncio.Protocol:
        """What speaks through the connection."""
        return self._factory()


class TlsProtocol(asyncio.Protocol):
    """Between the socket's transport and the protocol that speaks through TLS."""

    def __init__(self, server: TlsServer) -> None:
        self._server = server
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._input_ended = False
        self._closing = False
        self._open = False
        """The handshake is done."""
        self.inner: asyncio.BaseProtocol | None = None
        self.identity: Identity | None = None
        self.certificate = b""
        """The client's, DER."""
        self.address = "unknown"

    # The socket's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's first message, but not for ever."""
        assert isinstance(transport, asyncio.Transport)
        self.raw = transport
        if peer := transport.get_extra_info("peername"):
            self.address = str(peer[0])
        self._loop = asyncio.get_running_loop()
        context = self._server.begin(self)
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self.abort)

    def data_received(self, data: bytes) -> None:
        """Ciphertext."""
        if self._closing:
            return
        self._incoming.write(data)
        self._pump()

    def eof_received(self) -> bool | None:
        """The client's socket is closed: with or without having said so, it is gone."""
        self.abort()
        return None

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        self._closing = True
        self._end_handshake()
        self._server.leave(self)
        if self.inner is not None:
            self.inner.connection_lost(error)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self.inner is not None:
            self.inner.pause_writing()

    def resume_writing(self) -> None:
        """The client caught up."""
        if self.inner is not None:
            self.inner.resume_writing()

    # In between

    def _pump(self) -> None:
        """Take what can be taken of what arrived."""
        try:
            if self._open or self._shake_hands():
                self._read()
        except ssl.SSLError as error:
            self._refuse(str(getattr(error, "verify_message", "") or error.reason or error))
        except Denied as error:
            self._refuse(error.message)

    def _shake_hands(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            # Nothing answers the client's last message; one that waits for its receipt
            # before it asks (RFC 896) would wait for the delayed one, 40 ms (tcp(7)).
            self.raw.get_extra_info("socket").setsockopt(*_QUICK_ACK)
            return False
        self._flush()
        der = self.tls.getpeercert(binary_form=True)
        if der is None:
            raise Denied("it presented no certificate")
        identity = certificate_identity(self.tls.getpeercert() or {}, der)
        self._server.admit(self, identity)
        self.identity, self.certificate = identity, der
        self._end_handshake()
        self._open = True
        self.inner = self._server.make_inner()
        self.inner.connection_made(TlsTransport(self))
        return True

    def _end_handshake(self) -> None:
        self._server.end(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self) -> None:
        while not (self._paused or self._closing or self._input_ended):
            try:
                data = self.tls.read(_READ)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            inner = self.inner
            assert isinstance(inner, asyncio.Protocol)
            if data:
                inner.data_received(data)
                continue
            self._input_ended = True
            if not inner.eof_received():
                self.close()
        if self._outgoing.pending:
            self._flush()
            if self.raw.get_write_buffer_size() > _MAX_UNASKED and not self._closing:
                self.abort()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.raw.write(self._outgoing.read())

    def _refuse(self, reason: str) -> None:
        """End a connection that does not keep to the protocol; the alert tells the client why."""
        _log.info("TLS client %s: %s", self.address, reason)
        self._flush()
        self._closing = True
        self._end_handshake()
        if self.raw.is_closing():
            return
        # Closed now, with bytes of the client's unread, the socket would be reset, and the
        # alert be lost (RFC 1122, section 4.2.2.13).
        self.raw.write_eof()
        self._server.linger(self)

    # The inner protocol's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Plaintext."""
        if self._closing:
            return
        view = memoryview(data).cast("B")
        try:
            while view:
                view = view[self.tls.write(view) :]
        except ssl.SSLError as error:
            self._refuse(str(error.reason or error))
        self._flush()

    def pause(self) -> None:
        """Read no more for now."""
        self._paused = True
        if not self._closing:
            self.raw.pause_reading()

    def resume(self) -> None:
        """Read again, what came meanwhile first."""
        self._paused = False
        if not self._closing:
            self.raw.resume_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not (self._paused or self._closing):
            self._pump()

    @property
    def paused(self) -> bool:
        """Whether reading is paused."""
        return self._paused

    @property
    def closing(self) -> bool:
        """Whether nothing more is read or taken."""
        return self._closing

    def close(self) -> None:
        """Send what is buffered, say that it was all, close."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(ssl.SSLError):  # the client's answer is not waited for
            self.tls.unwrap()
        self._flush()
        self.raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._end_handshake()
        self.raw.abort()


class TlsTransport(asyncio.Transport):
    """The transport that the inner protocol sees."""

    def __init__(self, protocol: TlsProtocol) -> None:
        super().__init__()
        self._tls = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``identity`` is the client's; ``sslcontext`` and ``ssl_object`` as asyncio's."""
        if name == "identity":
            return self._tls.identity
        if name == "ssl_object":
            return self._tls.tls
        if name == "sslcontext":
            return self._tls.tls.context
        return self._tls.raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told from here on."""
        self._tls.inner = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        assert self._tls.inner is not None
        return self._tls.inner

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._tls.closing or self._tls.raw.is_closing()

    def is_reading(self) -> bool:
        """Whether what arrives is passed on."""
        return not self._tls.paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Hold what arrives."""
        if not self._tls.paused:
            self._tls.pause()

    def resume_reading(self) -> None:
        """Pass on what arrives."""
        if self._tls.paused:
            self._tls.resume()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or buffer."""
        self._tls.write(data)

    def can_write_eof(self) -> bool:
        """The server's half is closed with the connection only."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When ``pause_writing`` is called."""
        self._tls.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that are not sent yet."""
        return self._tls.raw.get_write_buffer_size()

    def close(self) -> None:
        """Send what is buffered, then close."""
        self._tls.close()

    def abort(self) -> None:
        """Close at once."""
        self._tls.abort()
