"""The holder: the process whose network namespace has the engine's bridges.

The daemon has it started in the engine's user namespace with a listening
socket and a pipe to say that it is ready. It outlives the daemon as containers
do, and ends when no daemon talks to it and no container is left.

Its network namespace belongs to a user namespace of its own, in which root is
a subordinate id: slirp4netns and the resolver run as that and hold no
capability over anything else. The holder itself stays in the engine's user
namespace, as only from there it can enter those of containers, and keeps just
the capabilities for that.

A request is one SOCK_SEQPACKET message of JSON with its descriptors, the answer
another; one after the other, as there is one daemon.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from rootless.errors import RootlessError, in_words
from rootless.linux import isolated, process
from rootless.model.network import EgressLists, Endpoint, NetworkRecord, Subnet

HOLDER = "rootless-net"
"""What the process is called (``/proc/PID/comm``)."""

MAX_MESSAGE = 128 << 10
"""Bytes."""
MAX_INLINE = 64 << 10
"""Bytes of a request or answer; a longer one is in a file that is the last descriptor."""
IN_MEMORY_FILE = b"@"
MAX_FDS = 128
"""Of one message: the sockets of published ports."""
PROTOCOL = 4
"""Counts the versions of requests and answers; a daemon replaces a holder of another one."""
FILE_LIMIT = 16 << 20
"""Bytes of what it writes: its log, and long answers."""
DESCRIPTORS = 65536
"""Five for each container, one for each published port, if the host lets it."""
PATIENCE = 20.0
"""Seconds for the daemon that started it to appear."""
LINGER = 0.3
"""Seconds without a request after which ports are removed that the kernel has not removed."""
READY = b"1"
DENIED = b"!"
"""Said without being asked: something was denied since the last ``denied``."""
_KEPT = ("CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""NET_ADMIN over links and rules, SYS_ADMIN to enter network namespaces, the rest for the
resolver, which gives all of them up."""


def command(listen_fd: int, ready_fd: int, owner: int) -> list[str]:
    """The holder's command line; ``owner`` is the id of root in its own user namespace."""
    arguments = [str(number) for number in (listen_fd, ready_fd, owner)]
    return isolated.command(__name__, arguments, site_packages=True)


def main(arguments: Sequence[str]) -> int:
    """Leave the parent's life behind, make the namespaces, serve."""
    listen_fd, ready_fd, owner = map(int, arguments)
    if os.fork():
        # Whoever started us kills us with itself (runtime.launcher); a child is spared.
        return 0
    os.setsid()
    process.set_name(HOLDER)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        listener = socket.socket(fileno=listen_fd)
        listener.set_inheritable(False)
        os.set_inheritable(ready_fd, False)
        served = Holder(listener, owner)
    except OSError as error:
        # A setting of the namespace's that cannot be written, mostly.
        told = {"error": f"cannot set up the network namespace: {error}", "hint": "", "code": ""}
        os.write(ready_fd, json.dumps(told).encode())
        return 1
    except RootlessError as error:
        told = {"error": error.message, "hint": error.hint or "", "code": error.code}
        os.write(ready_fd, json.dumps(told).encode())
        return 1
    os.write(ready_fd, READY)
    os.close(ready_fd)
    served.serve()
    return 0


def _own_namespaces(owner: int) -> tuple[int, int]:
    """A user namespace with ``owner`` as root and a network namespace of its: descriptors."""
    made_read, made_write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            process.unshare(process.CLONE_NEWUSER | process.CLONE_NEWNET, "the engine's network")
            os.write(made_write, b"1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(made_write)
        if not os.read(made_read, 1):
            raise RootlessError(
                "cannot make the engine's network namespace", hint="rootless doctor"
            )
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:
                file.write(f"0 {owner} 1")
        flags = os.O_RDONLY | os.O_CLOEXEC
        return os.open(f"/proc/{child}/ns/user", flags), os.open(f"/proc/{child}/ns/net", flags)
    finally:
        os.close(made_read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _limit_privileges() -> None:
    last, kept = process.last_capability(), process.mask_of(_KEPT)
    process.drop_bounding(kept, last)
    process.set_capabilities(kept, kept, 0)
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")
    process.prctl(process.PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")


class Holder:
    """The event loop: daemons, requests, containers that end, a resolver that dies."""

    def __init__(self, listener: socket.socket, owner: int) -> None:
        from rootless.linux import seccomp
        from rootless.network.holder import ahead
        from rootless.network.holder.service import Service

        # What collections do not touch any more stays shared with the children.
        gc.collect()
        gc.freeze()
        prepared = ahead.begin()
        self._userns_fd, netns_fd = _own_namespaces(owner)
        process.setns(netns_fd, process.CLONE_NEWNET, "the engine's network namespace")
        self._netns_fd = netns_fd
        _limit_privileges()
        # What serves the namespace from outside ends when this end closes.
        self._exit_read, self._exit_write = os.pipe2(os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        made = prepared()
        self._service = Service(netns_fd, self._userns_fd, self._selector, made, self._tell_denied)
        seccomp.load_filter(made.own_calls)
        self._listener = listener
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._daemons: set[socket.socket] = set()
        self._was_asked = False

    def serve(self) -> None:
        """Until there is nobody to serve."""
        while self._daemons or self._service.containers or not self._was_asked:
            lingering = bool(self._service.lingering)
            events = self._selector.select(
                LINGER if lingering else None if self._was_asked else PATIENCE
            )
            if lingering and not events:
                self._service.tidy()
            elif not events:
                return
            for key, _ in events:
                # Another one of the same round may have ended this one.
                if self._selector.get_map().get(key.fd) == key:
                    key.data()

    def _accept(self) -> None:
        try:
            daemon, _ = self._listener.accept()
        except BlockingIOError:
            return
        self._was_asked = True
        self._daemons.add(daemon)
        self._selector.register(daemon, selectors.EVENT_READ, partial(self._answer, daemon))

    def _answer(self, daemon: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(daemon, MAX_MESSAGE, MAX_FDS)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self._selector.unregister(daemon)
            self._daemons.discard(daemon)
            daemon.close()
            return
        back: list[int] = []
        try:
            if data == IN_MEMORY_FILE:
                data = os.pread(fds[-1], os.fstat(fds[-1]).st_size, 0)
            answer, back = self._do(json.loads(data), fds)
        except (RootlessError, OSError) as error:
            if isinstance(error, OSError):
                error = in_words(error, "the network")
            answer = {"error": error.message, "code": error.code, "hint": error.hint or ""}
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            answer = {"error": f"{type(error).__name__}: {error}", "code": "internal", "hint": ""}
        finally:
            for fd in fds:
                os.close(fd)
        said, memory = json.dumps(answer).encode(), -1
        if len(said) > MAX_INLINE:
            said, memory = IN_MEMORY_FILE, memory_file(said)
            back = [*back, memory]
        try:
            socket.send_fds(daemon, [said], back)
        except OSError:
            return  # the daemon is gone, and the next read says so
        finally:
            if memory >= 0:
                os.close(memory)

    def _do(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        service, container = self._service, str(message.get("container", ""))
        operation = message["op"]
        if operation == "hello":
            told = {
                "pid": os.getpid(),
                "protocol": PROTOCOL,
                "userns": os.stat("/proc/self/ns/user").st_ino,
                "containers": {
                    key: [endpoint.id for endpoint in value.endpoints.values()]
                    for key, value in service.containers.items()
                },
                "networks": list(service.networks),
            }
            return told, [self._netns_fd, self._userns_fd, self._exit_read]
        if operation == "quit":
            os._exit(0)
        if operation == "left":
            return {"left": service.leftovers()}, []
        if operation == "denied":
            return {"denied": service.egress.take()}, []
        if operation == "attach":
            networks = [network_of(value) for value in message["networks"]]
            endpoints = [endpoint_of(value) for value in message["endpoints"]]
            own, host = message["own"], message["host"]
            service.attach(
                container, networks, endpoints, message["servers"], fds,
                own=None if own is None else _lists(own), host_addresses=host,
            )  # fmt: skip
        elif operation == "detach":
            service.detach(container)
        elif operation == "connect":
            endpoint = endpoint_of(message["endpoint"])
            network = network_of(message["network"])
            targets, host = message["targets"], message["host"]
            service.connect(container, network, endpoint, targets, host_addresses=host)
        elif operation == "disconnect":
            others = [endpoint_of(value) for value in message["others"]]
            service.disconnect(container, message["network"], others, message["targets"])
        elif operation == "publish":
            ports = [(str(protocol), int(number)) for protocol, number in message["ports"]]
            service.publish(container, message["targets"], ports, fds)
        elif operation == "rename":
            service.rename(container, [endpoint_of(value) for value in message["endpoints"]])
        elif operation == "remove-network":
            service.remove_network(message["network"])
        else:
            raise RootlessError(f"the holder knows no {operation}")
        return {}, []

    def _tell_denied(self) -> None:
        """A daemon asks then; one that has no room for the word has much to read already."""
        for daemon in self._daemons:
            with contextlib.suppress(OSError):
                daemon.send(DENIED, socket.MSG_DONTWAIT)


def memory_file(data: bytes) -> int:
    """An unnamed file with the data: a message is bounded by the socket's buffer."""
    memory = os.memfd_create("rootless-network", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(memory, view) :]
    return memory


def network_of(value: dict[str, Any]) -> NetworkRecord:
    """The record from JSON."""
    subnets = tuple(Subnet(**{**s, "reserved": _pairs(s["reserved"])}) for s in value["subnets"])
    pairs = {key: _pairs(value[key]) for key in ("options", "labels", "ipam_options")}
    return NetworkRecord(**{**value, **pairs, "subnets": subnets})


def _pairs(value: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, text) for key, text in value)


def endpoint_of(value: dict[str, Any]) -> Endpoint:
    """The endpoint from JSON."""
    changed = {
        "names": tuple(value["names"]),
        "links": _pairs(value["links"]),
        "exposed": tuple(map(tuple, value["exposed"])),
    }
    return Endpoint(**{**value, **changed, "egress": _lists(value["egress"])})


def _lists(value: list[list[str]]) -> EgressLists:
    return tuple(map(tuple, value))
