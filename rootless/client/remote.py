"""Daemons on other machines: mutual TLS over TCP, and ssh.

A command speaks to a socket, whatever is behind it: here one end of a pair, whose other
end a thread (TLS) or the ssh client carries. So streams, half-closing and signals are the
same as with the daemon's own socket.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socketpair
from _socket import socket as RawSocket

from rootless.client import clientconfig
from rootless.client.endpoint import Endpoint, Tls, Where
from rootless.errors import InvalidInput, Unavailable

_TLS_PORT = 2376
_SECONDS = 30.0
"""Until a machine that does not answer is given up, as Docker's client does."""


def tls_of(where: Where) -> Tls | None:
    """The TLS that flags, ``$DOCKER_TLS_VERIFY`` and ``$DOCKER_CERT_PATH`` ask for."""
    verify = where.tlsverify or bool(os.environ.get("DOCKER_TLS_VERIFY"))
    asked = where.tls or where.tlscacert or where.tlscert or where.tlskey
    if not (verify or asked or os.environ.get("DOCKER_TLS")):
        return None
    directory = os.environ.get("DOCKER_CERT_PATH") or clientconfig.directory()
    ca, cert, key = (
        given or _present(f"{directory}/{name}.pem")
        for given, name in (
            (where.tlscacert, "ca"),
            (where.tlscert, "cert"),
            (where.tlskey, "key"),
        )
    )
    if verify and not ca:
        raise InvalidInput(
            f"--tlsverify needs the authority's certificate: there is no {directory}/ca.pem",
            hint="name it with --tlscacert, or its directory with DOCKER_CERT_PATH",
        )
    return Tls(ca, cert, key, verify=verify)


def _present(path: str) -> str:
    return path if os.path.exists(path) else ""


def check(endpoint: Endpoint) -> None:
    """Refuse an address that cannot be one, and TCP in the clear."""
    address(endpoint)
    if endpoint.host.startswith("tcp://") and endpoint.tls is None:
        raise InvalidInput(
            f"{endpoint.host} would be spoken to without TLS: everybody on the way could give "
            "orders to the daemon",
            hint="use --tlsverify with --tlscacert, --tlscert and --tlskey (DOCKER_TLS_VERIFY=1 "
            "and DOCKER_CERT_PATH), or ssh://HOST",
        )


def address(endpoint: Endpoint) -> tuple[str, str, int]:
    """(user, host, port) of ``tcp://HOST[:PORT]`` or ``ssh://[USER@]HOST[:PORT]``; port 0: none."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(endpoint.host)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidInput(f"invalid host {endpoint.host!r}: {error}") from None
    if not host or host.startswith("-") or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidInput(
            f"invalid host {endpoint.host!r}", hint="write tcp://HOST:PORT or ssh://[USER@]HOST"
        )
    if parts.password is not None or (parts.username or "").startswith("-"):
        raise InvalidInput(f"invalid host {endpoint.host!r}: it may name a user, nothing else")
    usual = _TLS_PORT if parts.scheme == "tcp" else 0
    return parts.username or "", host, port or usual


def dial(endpoint: Endpoint) -> tuple[RawSocket, list[str]]:
    """A connected socket, and where it is written why the connection ended, if not by its end."""
    near, far = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    trouble: list[str] = []
    try:
        if endpoint.host.startswith("ssh://"):
            _ssh(endpoint, far)
        else:
            _tls(endpoint, far, trouble)
    except BaseException:
        near.close()
        far.close()
        raise
    return near, trouble


def _ssh(endpoint: Endpoint, far: RawSocket) -> None:
    """``ssh HOST rootless system dial-stdio``, as Docker's client does it."""
    import subprocess

    user, host, port = address(endpoint)
    words = ["ssh", "-o", f"ConnectTimeout={int(_SECONDS)}", "-T"]
    words += ["-l", user] if user else []
    words += ["-p", str(port)] if port else []
    words += ["--", host, "rootless", "system", "dial-stdio"]
    try:
        subprocess.Popen(words, stdin=far.fileno(), stdout=far.fileno(), start_new_session=True)
    except FileNotFoundError:
        raise Unavailable(
            "the ssh client is not installed", hint="sudo apt install openssh-client"
        ) from None
    far.close()


def _tls(endpoint: Endpoint, far: RawSocket, trouble: list[str]) -> None:
    from rootless.client.tlsrelay import connect

    assert endpoint.tls is not None
    _, host, port = address(endpoint)
    if not endpoint.tls.verify:
        sys.stderr.write(f"WARNING: nothing proves that {host} is who answers: use --tlsverify\n")
    connect(endpoint.tls, (host, port), far, trouble, seconds=_SECONDS)
