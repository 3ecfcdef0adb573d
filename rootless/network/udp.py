"""Published UDP ports on the host's loopback: bind them here, start the relay that serves them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Sequence

from rootless.errors import Unavailable
from rootless.network import helper
from rootless.network.helper import HelperProcess
from rootless.network.ports import PublishedPort, bind_error
from rootless.network.udp_relay import RelayPort, arguments

START_TIMEOUT = 20.0
LOG = "udp-relay.log"


def relay_address(port: PublishedPort) -> str:
    """The loopback address the relay has to serve for ``port``, '' for none."""
    if port.protocol != "udp":
        return ""
    address = ipaddress.ip_address(port.host_ip)
    if address.is_unspecified:
        return "127.0.0.1"
    return port.host_ip if address.is_loopback else ""


def by_relay_alone(port: PublishedPort) -> bool:
    """True when slirp4netns has no part in ``port``: it is bound to loopback only."""
    return relay_address(port) == port.host_ip


def _bind(port: PublishedPort, address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        if address != port.host_ip:
            # Beside slirp4netns' socket for every address, which has the option
            # too: the kernel gives a datagram to the more exactly bound socket.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port.host_port))
    except OSError as error:
        made.close()
        raise bind_error("udp", address, port.host_port, error.errno or 0) from None
    return made


async def start(
    ports: Sequence[PublishedPort], *, netns_fd: int, userns_fd: int, exit_fd: int, directory: str
) -> HelperProcess | None:
    """Start the relay for those of ``ports`` that need it; None when none does.

    Its log goes to ``directory``. Raises Conflict for a port that was taken
    meanwhile and Unavailable when the relay does not get ready.
    """
    wanted = [(port, relay_address(port)) for port in ports if relay_address(port)]
    if not wanted:
        return None
    log = f"{directory}/{LOG}"
    with contextlib.ExitStack() as stack:
        sockets = [(p, stack.enter_context(_bind(p, address))) for p, address in wanted]
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, ready_read)
        writer = stack.enter_context(open(ready_write, "wb", buffering=0))
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        stack.callback(os.close, log_fd)
        argv = arguments(
            [RelayPort(made.fileno(), port.container_port) for port, made in sockets],
            netns_fd=netns_fd,
            userns_fd=userns_fd,
            exit_fd=exit_fd,
            ready_fd=ready_write,
        )
        fds = {netns_fd, userns_fd, exit_fd, ready_write, *(s.fileno() for _, s in sockets)}
        try:
            process = await helper.launch(argv, fds, log_fd)
        except ProcessLookupError:
            raise _failed(log) from None
        writer.close()
        try:
            if not await helper.readable(ready_read, START_TIMEOUT):
                raise Unavailable(f"the UDP relay was not ready after {START_TIMEOUT:g} seconds")
            if not os.read(ready_read, 1):
                raise _failed(log)
        except BaseException:
            helper.kill(process, signal.SIGKILL)
            helper.close(process)
            raise
        return process


def _failed(log: str) -> Unavailable:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = file.read().split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return Unavailable(f"the UDP relay did not start: {said[-1] if said else 'no message'}")


def remove_log(directory: str) -> None:
    """Remove the relay's log; a missing one is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{LOG}")
