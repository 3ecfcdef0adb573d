"""What ``--host`` says: a Unix socket's path, sockets that were passed, or an address."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rootless.errors import InvalidInput
from rootless.units import whole_number

TLS_PORT = 2376
"""IANA's number for Docker with TLS."""


@dataclass(frozen=True, slots=True)
class UnixHost:
    """``unix://PATH``; '' is the default path."""

    path: str


@dataclass(frozen=True, slots=True)
class FdHost:
    """``fd://`` for every socket that was passed, or one by number or name (sd_listen_fds(3))."""

    wanted: str


@dataclass(frozen=True, slots=True)
class TcpHost:
    """``tcp://ADDRESS:PORT``; the address may be a name."""

    address: str
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"tcp://{address}:{self.port}"


Host = UnixHost | FdHost | TcpHost


def parse(text: str) -> Host:
    """One ``--host``. As in Docker it is tcp without a scheme, localhost without an address."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = ("tcp", scheme) if scheme else ("unix", "")
    if scheme == "unix":
        if rest and not os.path.isabs(rest):
            raise _bad(text, f"{rest!r} is not an absolute path", f"unix:///{rest.lstrip('./')}")
        return UnixHost(rest)
    if scheme == "fd":
        return FdHost("" if rest == "*" else rest)
    if scheme == "tcp":
        return _tcp(text, rest)
    raise _bad(
        text, f"unsupported proto {scheme!r}", "unix:///absolute/path, fd:// or tcp://ADDRESS:PORT"
    )


def _tcp(text: str, rest: str) -> TcpHost:
    if "/" in rest or "?" in rest or "#" in rest or "@" in rest:
        raise _bad(text, "should not contain a path element", "tcp://ADDRESS:PORT")
    if rest.startswith("["):
        address, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise _bad(text, "the brackets of an IPv6 address do not match", "tcp://[::1]:2376")
        port = tail[1:]
    elif rest.count(":") > 1:
        raise _bad(text, "an IPv6 address stands in brackets", "tcp://[::1]:2376")
    else:
        address, _, port = rest.partition(":")
    number = whole_number(port) if port else TLS_PORT
    if number is None or not 1 <= number <= 65535:
        raise _bad(text, f"invalid port: {port}", "a number from 1 to 65535")
    return TcpHost(address or "localhost", number)


def _bad(text: str, reason: str, hint: str) -> InvalidInput:
    return InvalidInput(f"invalid bind address ({text}): {reason}", hint=hint)
