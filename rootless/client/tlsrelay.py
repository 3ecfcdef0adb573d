"""TLS between a socket pair's end and a TCP connection, by one thread.

OpenSSL's connections are not for two threads at once, while a command reads and
writes in one each; and a half-closed one needs care.
"""

from __future__ import annotations

import _thread
import select
import socket
import ssl
from _socket import SHUT_WR
from _socket import socket as RawSocket

from rootless.client.endpoint import Tls
from rootless.client.rawsignal import raw
from rootless.errors import InvalidInput, Unavailable

_CHUNK = 256 * 1024


def connect(
    tls: Tls, address: tuple[str, int], far: RawSocket, trouble: list[str], *, seconds: float
) -> None:
    """Connect, shake hands within ``seconds``, and carry ``far`` from now on."""
    context = client_context(tls)
    host, port = address
    try:
        connection = socket.create_connection(address, timeout=seconds)
    except OSError as error:
        raise Unavailable(
            f"cannot connect to the daemon at tcp://{host}:{port}: {error.strerror or error}",
            hint="does it run there, with --host tcp://…?",
        ) from None
    try:
        relay = _Relay(context, connection, host, far, trouble)
        relay.shake_hands()
        connection.setblocking(False)
        far.setblocking(False)
    except BaseException:
        connection.close()
        raise
    _thread.start_new_thread(relay.run, ())


def client_context(tls: Tls) -> ssl.SSLContext:
    """TLS as Docker's client speaks it: 1.2 or later, the given authority alone if there is one."""
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert or tls.key:
            context.load_cert_chain(tls.cert, tls.key or None)
    except FileNotFoundError as error:
        name = error.filename or " or ".join(filter(None, (tls.ca, tls.cert, tls.key)))
        raise InvalidInput(f"no TLS file: {name}") from None
    except (ssl.SSLError, OSError) as error:
        files = ", ".join(filter(None, (tls.ca, tls.cert, tls.key)))
        raise InvalidInput(f"cannot use the TLS files {files}: {_reason(error)}") from None
    return context


_REFUSALS = {
    "CERTIFICATE_REVOKED": "your certificate was revoked",
    "CERTIFICATE_EXPIRED": "your certificate is not valid now: it has expired or is of tomorrow",
    "UNKNOWN_CA": "your certificate is of an authority that it does not know",
    "UNSUPPORTED_CERTIFICATE": "your certificate is not for clients",
    "BAD_CERTIFICATE": "your certificate is not as RFC 5280 wants it, or not yet valid",
    "CERTIFICATE_UNKNOWN": "your certificate cannot be judged: is its revocation list up to date?",
    "CERTIFICATE_REQUIRED": "it wants a certificate: give --tlscert and --tlskey",
}
"""What the other side's alerts mean (RFC 8446, section 6.2); OpenSSL has its own name for each."""


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        # SSLV3_ALERT_CERTIFICATE_REVOKED, TLSV1_ALERT_UNKNOWN_CA, TLSV13_ALERT_…
        refusal = _REFUSALS.get((error.reason or "").partition("_ALERT_")[2])
        if refusal is not None:
            return f"the daemon refuses you: {refusal}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)


class _Relay:
    """Carries both directions until both have ended."""

    def __init__(
        self,
        context: ssl.SSLContext,
        net: socket.socket,
        host: str,
        local: RawSocket,
        trouble: list[str],
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._net = net
        self._local = local
        self._host = host
        self._trouble = trouble
        self._to_net = b""
        self._to_local = b""
        self._local_ended = self._net_ended = False

    def shake_hands(self) -> None:
        """The handshake, with the blocking socket."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    self._net.sendall(self._outgoing.read())
                    data = self._net.recv(_CHUNK)
                    if data:
                        self._incoming.write(data)
                    else:
                        self._incoming.write_eof()
        except OSError as error:
            raise Unavailable(
                f"no TLS with {self._host}: {_reason(error)}",
                hint="are --tlscacert, --tlscert and --tlskey those of this daemon?",
            ) from None
        finally:
            self._to_net = self._outgoing.read()

    def run(self) -> None:
        """Called in a thread of its own."""
        raw.pthread_sigmask(raw.SIG_BLOCK, raw.valid_signals())
        try:
            while not (self._net_ended and not self._to_local):
                self._step()
        except OSError as error:
            self._trouble.append(f"{self._host}: {_reason(error)}")
        finally:
            self._net.close()
            self._local.close()

    def _step(self) -> None:
        poller = select.poll()
        local = 0 if self._local_ended or self._to_net else select.POLLIN
        local |= select.POLLOUT if self._to_local else 0
        net = 0 if self._net_ended or self._to_local else select.POLLIN
        net |= select.POLLOUT if self._to_net else 0
        if local:
            poller.register(self._local.fileno(), local)
        if net:
            poller.register(self._net.fileno(), net)
        for fd, events in poller.poll():
            serve = self._serve_net if fd == self._net.fileno() else self._serve_local
            try:
                serve(events)
            except BlockingIOError:
                continue
        self._to_net += self._outgoing.read()

    def _serve_local(self, events: int) -> None:
        if self._to_local and events & select.POLLOUT:
            self._to_local = self._to_local[self._local.send(self._to_local) :]
        if self._local_ended or self._to_net:
            return
        if events & (select.POLLIN | select.POLLHUP):
            view = memoryview(self._local.recv(_CHUNK))
            if not view:
                self._local_ended = True
                self._say_end()
            while view:  # a record holds 16 KiB
                view = view[self._tls.write(view) :]

    def _say_end(self) -> None:
        """Our half is over (close_notify); the other goes on."""
        self._decrypt()  # what is here already would be lost
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            return  # it wants the other side's end as well, which comes by reading

    def _serve_net(self, events: int) -> None:
        if self._to_net and events & select.POLLOUT:
            self._to_net = self._to_net[self._net.send(self._to_net) :]
        if self._to_local or not events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        data = self._net.recv(_CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        self._decrypt()
        if self._net_ended and not self._to_local:
            self._local.shutdown(SHUT_WR)

    def _decrypt(self) -> None:
        parts = [self._to_local]
        try:
            while piece := self._tls.read(_CHUNK):
                parts.append(piece)
            self._net_ended = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._net_ended = True
        self._to_local = b"".join(parts)
