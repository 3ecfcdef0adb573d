"""In a container's namespace: the resolver's address leads to where it really listens.

So a server in the container can have port 53 of every address. The rules are
netlink messages made by hand (``linux/netfilter/nf_tables.h``): each start
needs them, libnftables takes ten times as long to read them as the kernel to
have them, and who closes its socket may have to wait (see ``linux.nftables``).
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from rootless.errors import SyscallError
from rootless.network.addresses import RESOLVER

_SUBSYSTEM = 10
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE = 0, 2, 3, 6
_BEGIN, _END = 0x10, 0x11
_REQUEST, _ACK, _EXCL, _CREATE, _APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
_ERROR = 2
_NESTED = 0x8000
_IPV4 = 2
_LOCAL_OUT, _BEFORE = 3, -100
"""NF_INET_LOCAL_OUT, and the priority of destination translation."""
_REGISTER, _NEXT_REGISTER = 1, 2
"""NFT_REG_1 and _2, 16 bytes each."""
_NETWORK, _TRANSPORT = 1, 2
_L4PROTO = 16
_TABLE, _CHAIN = "rootless", "output"
_RECEIVE = 1 << 15
_SECONDS = 10


def lead(udp_port: int, tcp_port: int) -> socket.socket:
    """Lead port 53 of the resolver's address to those ports, in the caller's network namespace.

    The socket is to be closed when the container is off; the rules go with its namespace.
    SyscallError when the kernel does not take them.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12)
    try:
        sock.settimeout(_SECONDS)
        made = [
            _message(_NEWTABLE, _EXCL, _text(1, _TABLE)),
            _message(_NEWCHAIN, _EXCL, _chain()),
            _message(_NEWRULE, _APPEND, _rule(socket.IPPROTO_UDP, udp_port)),
            _message(_NEWRULE, _APPEND, _rule(socket.IPPROTO_TCP, tcp_port)),
        ]
        try:
            _commit(sock, made, 1)
        except FileExistsError:
            # Of a holder that died. Not tried before: to delete what is not there takes 10 ms.
            _commit(sock, [_message(_DELTABLE, 0, _text(1, _TABLE)), *made], 2)
    except OSError as error:
        sock.close()
        code = error.errno or errno.EIO
        raise SyscallError("netlink", "the rules to the resolver", code) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _commit(sock: socket.socket, messages: list[bytes], number: int) -> None:
    """All or nothing (nfnetlink batches), under a ``number`` of its own.

    Errors come for each message, the acknowledgement for the last one.
    """
    edge = _head(0, _SUBSYSTEM)
    batch = [_frame(_BEGIN, 0, edge), *messages, _frame(_END, 0, edge)]
    flags = [0] * len(batch)
    flags[-2] = _ACK
    sock.send(b"".join(_numbered(m, number, more) for m, more in zip(batch, flags, strict=True)))
    while True:
        answer = sock.recv(_RECEIVE)
        while len(answer) >= 20:
            length, kind, _, about = struct.unpack_from("=IHHI", answer)
            if kind == _ERROR and about == number:
                code = -struct.unpack_from("=i", answer, 16)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
            answer = answer[(length + 3) & ~3 :]


def _numbered(message: bytes, number: int, more: int) -> bytes:
    length, kind, flags = struct.unpack_from("=IHH", message)
    return struct.pack("=IHHII", length, kind, flags | more, number, 0) + message[16:]


def _frame(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, 0, 0) + body


def _head(family: int, resource: int = 0) -> bytes:
    return struct.pack("=BB", family, 0) + struct.pack("!H", resource)


def _message(kind: int, flags: int, attributes: bytes) -> bytes:
    created = _CREATE if kind != _DELTABLE else 0
    return _frame(_SUBSYSTEM << 8 | kind, created | flags, _head(_IPV4) + attributes)


def _attribute(kind: int, data: bytes) -> bytes:
    whole = struct.pack("=HH", 4 + len(data), kind) + data
    return whole + bytes(-len(whole) % 4)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, number: int) -> bytes:
    return _attribute(kind, struct.pack("!i", number))


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(attributes))


def _chain() -> bytes:
    hook = _nested(4, _number(1, _LOCAL_OUT), _number(2, _BEFORE))
    return _text(1, _TABLE) + _text(3, _CHAIN) + hook + _text(7, "nat")


def _expression(name: str, *attributes: bytes) -> bytes:
    return _nested(1, _text(1, name), _nested(2, *attributes))


def _is(value: bytes) -> bytes:
    return _expression(
        "cmp", _number(1, _REGISTER), _number(2, 0), _nested(3, _attribute(1, value))
    )


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression(
        "payload", _number(1, _REGISTER), _number(2, base), _number(3, offset), _number(4, length)
    )


def _load(register: int, value: bytes) -> bytes:
    return _expression("immediate", _number(1, register), _nested(2, _attribute(1, value)))


def _rule(protocol: int, port: int) -> bytes:
    """``ip daddr RESOLVER PROTOCOL dport 53 dnat to RESOLVER:PORT``."""
    resolver = socket.inet_aton(RESOLVER)
    expressions = (
        _expression("meta", _number(2, _L4PROTO), _number(1, _REGISTER)),
        _is(bytes([protocol])),
        _payload(_NETWORK, 16, 4),
        _is(resolver),
        _payload(_TRANSPORT, 2, 2),
        _is(struct.pack("!H", 53)),
        _load(_REGISTER, resolver),
        _load(_NEXT_REGISTER, struct.pack("!H", port)),
        _expression(
            "nat",
            *(_number(1, 1), _number(2, _IPV4)),  # destination
            *(_number(3, _REGISTER), _number(5, _NEXT_REGISTER)),
        ),
    )
    return _text(1, _TABLE) + _text(2, _CHAIN) + _nested(4, *expressions)
