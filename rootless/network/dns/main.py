"""The resolver's process: 127.0.0.11 of every container on a bridge.

The holder starts it and gives it, for each container, two sockets that are in
the container's network namespace; where it asks the world it is in the
engine's. It has no privilege and a subordinate id for a uid, in a user
namespace of its own, and ends with the holder.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import selectors
import signal
import socket
from collections.abc import Sequence
from typing import Any

from rootless.linux import isolated, landlock, process
from rootless.network.dns.forward import PORT
from rootless.network.dns.server import Server
from rootless.network.dns.zone import Entry

RESOLVER = "rootless-dns"
"""What the process is called (``/proc/PID/comm``)."""

MAX_MESSAGE = 128 << 10
MAX_FDS = 2
_DESCRIPTORS = 16384
"""Descriptors it may have: two for each container, and the questions under way."""


def main(arguments: Sequence[str]) -> int:
    """Serve the socket whose descriptor is the first argument; the second is a user namespace."""
    holder_fd, userns_fd = map(int, arguments)
    holder = socket.socket(fileno=holder_fd)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    _give_up_privileges(userns_fd)
    _give_up_files()
    isolated.forbid_imports()
    gc.collect()
    gc.freeze()
    selector = selectors.DefaultSelector()
    server = Server(selector)
    selector.register(holder, selectors.EVENT_READ, None)
    while True:
        for key, mask in selector.select(server.timeout()):
            if key.data is None:
                data, fds, _, _ = socket.recv_fds(holder, MAX_MESSAGE, MAX_FDS)
                if not data:
                    return 0
                obey(server, json.loads(data), fds)
            elif selector.get_map().get(key.fd) == key:  # none of this round closed it
                key.data(mask)
        server.expire()


def _give_up_privileges(userns_fd: int) -> None:
    """Root of the network's user namespace, without a single capability there."""
    process.setns(userns_fd, process.CLONE_NEWUSER, "the network's user namespace")
    os.close(userns_fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    process.drop_bounding(0, process.last_capability())
    process.set_capabilities(0, 0, 0)
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")
    process.prctl(process.PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")
    process.set_name(RESOLVER)


def _give_up_files() -> None:
    """Where the kernel has Landlock: no file, no TCP but to a resolver's port, nobody's signals."""
    version = landlock.abi()
    if not version:
        return
    net = landlock.BIND_TCP | landlock.CONNECT_TCP if version >= 4 else 0
    scopes = landlock.SCOPE_SIGNAL | landlock.SCOPE_ABSTRACT_UNIX if version >= 6 else 0
    ruleset = landlock.create_ruleset(
        handled_fs=landlock.file_rights(version), handled_net=net, scoped=scopes, version=version
    )
    if net:
        landlock.allow_ports(ruleset, [PORT], landlock.CONNECT_TCP)
    landlock.restrict_self(ruleset)


def obey(server: Server, message: dict[str, Any], fds: list[int]) -> None:
    """One message of the holder's (see ``holder.service``)."""
    if "client" in message:
        networks, servers = tuple(message["networks"]), tuple(message["servers"])
        server.put(message["client"], networks, servers, message["links"], fds)
    elif "drop" in message:
        server.drop(message["drop"])
    elif "endpoint" in message:
        entry = Entry(
            message["network"],
            message["domain"],
            tuple(message["names"]),
            tuple(message["addresses"]),
        )
        server.zone.put(message["endpoint"], entry)
    else:
        server.zone.drop(message["gone"])
