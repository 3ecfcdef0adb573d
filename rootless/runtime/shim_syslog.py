"""The ``syslog`` log driver: RFC 3164 and 5424 over unix sockets, UDP, TCP and TLS.

Every message ends in a newline, which separates messages of a stream (RFC
6587, section 3.4.2); RFC 5424 over TLS has its length in front instead (RFC
5425). Formats, the empty one too, are those of Docker's driver.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from rootless.runtime.shim_lines import Piece

if TYPE_CHECKING:
    import ssl

_ERROR, _INFO = 3, 6
_SEVERITY = {1: _INFO, 2: _ERROR}
_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_CONNECT_SECONDS = 10.0


class SyslogSink:
    """Sends each line as a message; it reconnects when the other side was away.

    ``network`` is ``unix``, ``unixgram``, ``udp``, ``tcp`` or ``tcp+tls``, '' for
    the host's own socket; ``facility`` is its number; ``tls`` has ``ca``, ``cert``,
    ``key`` (paths) and ``verify``.
    """

    def __init__(
        self,
        *,
        network: str,
        address: str,
        facility: int,
        format: str,
        tag: str,
        hostname: str,
        tls: dict[str, object],
    ) -> None:
        self.network, self.address, self.tls = network, address, tls
        self.facility, self.format, self.tag, self.hostname = facility, format, tag, hostname
        self._sock: socket.socket | None = None
        self._messages: deque[bytes] = deque()
        """What of the piece under way has not gone: a second attempt goes on with it."""
        self._framed = self.network == "tcp+tls" and self.format.startswith("rfc5424")

    def put(self, stream: int, piece: Piece) -> None:
        """Send a message for each line that is not empty, or for the part of a line."""
        if not self._messages:
            head = self._head(stream, piece[0])
            lines = filter(None, piece[1].split(b"\n"))
            self._messages.extend([self._frame(head + line + b"\n") for line in lines])
        while self._messages:
            try:
                self._send()
            except OSError:
                # Once more at once: it may only have been restarted.
                self._drop()
                try:
                    self._send()
                except OSError:
                    self._drop()
                    raise

    def _head(self, stream: int, time_ns: int) -> bytes:
        priority = self.facility << 3 | _SEVERITY[stream]
        seconds = time_ns // 10**9
        local = time.localtime(seconds)
        tag, pid = self.tag, os.getpid()
        if self.format.startswith("rfc5424"):
            when = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            if self.format == "rfc5424micro":
                when += f".{time_ns // 1000 % 10**6:06d}"
            when += _zone(local.tm_gmtoff)
            return f"<{priority}>1 {when} {self.hostname} {tag} {pid} {tag} - ".encode()
        when = f"{time.strftime('%b', local)} {local.tm_mday:2d} {time.strftime('%T', local)}"
        host = f" {self.hostname}" if self.format == "rfc3164" else ""
        return f"<{priority}>{when}{host} {tag}[{pid}]: ".encode()

    def _frame(self, message: bytes) -> bytes:
        return b"%d %s" % (len(message), message) if self._framed else message

    def _send(self) -> None:
        if self._sock is None or self._is_over(self._sock):
            self._drop()
            self._sock = self._connect()
        if self._sock.type == socket.SOCK_DGRAM:
            while self._messages:
                self._sock.send(self._messages[0])
                self._messages.popleft()
            return
        data = memoryview(b"".join(self._messages))
        sent = 0
        try:
            while sent < len(data):
                sent += self._sock.send(data[sent:])
        finally:
            # What has gone whole is not sent again on another connection.
            while self._messages and len(self._messages[0]) <= sent:
                sent -= len(self._messages.popleft())

    def _is_over(self, sock: socket.socket) -> bool:
        """Whether the other side closed the stream: the first write would still succeed."""
        if sock.type == socket.SOCK_DGRAM:
            return False
        sock.setblocking(False)
        try:
            return sock.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError as error:
            return type(error).__name__ != "SSLWantReadError"  # the same, of TLS
        finally:
            sock.setblocking(True)

    def _connect(self) -> socket.socket:
        if self.network in ("", "unix", "unixgram"):
            return self._connect_unix()
        host, _, port = self.address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if self.network == "udp":
            family, kind, number, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM
            )[0]
            sock = socket.socket(family, kind, number)
            sock.connect(address)
            return sock
        sock = socket.create_connection((host, int(port)), _CONNECT_SECONDS)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self.network == "tcp+tls":
                sock = self._context().wrap_socket(sock, server_hostname=host)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect_unix(self) -> socket.socket:
        kinds = {"unix": (socket.SOCK_STREAM,), "unixgram": (socket.SOCK_DGRAM,)}.get(
            self.network, (socket.SOCK_DGRAM, socket.SOCK_STREAM)
        )
        paths = (self.address,) if self.network else _LOCAL
        last = OSError(0, "Unix syslog delivery error")
        for kind in kinds:
            for path in paths:
                sock = socket.socket(socket.AF_UNIX, kind)
                try:
                    sock.connect(path)
                    return sock
                except OSError as error:
                    sock.close()
                    last = error
        raise last

    def _context(self) -> ssl.SSLContext:
        import ssl

        context = ssl.create_default_context(cafile=str(self.tls["ca"]) if self.tls["ca"] else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.tls["cert"]:
            context.load_cert_chain(str(self.tls["cert"]), str(self.tls["key"]))
        if not self.tls["verify"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def probe(self) -> None:
        """Connect, and close again; OSError when that fails."""
        self._connect().close()

    def close(self) -> None:
        """Close the connection."""
        self._drop()


def _zone(offset: int) -> str:
    if not offset:
        return "Z"
    sign = "-" if offset < 0 else "+"
    hours, rest = divmod(abs(offset), 3600)
    return f"{sign}{hours:02d}:{rest // 60:02d}"
