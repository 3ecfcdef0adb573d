"""Published ports that slirp4netns does not serve: which they are, and the relay's start."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
from collections.abc import Sequence

from rootless.errors import Unavailable
from rootless.network import helper
from rootless.network.helper import HelperProcess
from rootless.network.place import Descriptors
from rootless.network.ports import PublishedPort, bind_error
from rootless.network.relay_main import READY, RelayPort, arguments, write_ports

START_TIMEOUT = 20.0
LOG = "relay.log"


def relay_address(port: PublishedPort) -> str:
    """The address the relay has to serve for ``port``, '' for none."""
    address = ipaddress.ip_address(port.host_ip)
    if address.version == 6:
        return port.host_ip
    if port.protocol != "udp":
        return ""
    if address.is_unspecified:
        return "127.0.0.1"
    return port.host_ip if address.is_loopback else ""


def by_relay_alone(port: PublishedPort) -> bool:
    """True when slirp4netns has no part in ``port``."""
    return relay_address(port) == port.host_ip


async def start(
    ports: Sequence[PublishedPort],
    fds: Descriptors,
    *,
    targets: Sequence[str],
    directory: str,
) -> HelperProcess | None:
    """Start the relay for those of ``ports`` that need it; None when none does.

    ``targets`` are the container's addresses. The log goes to ``directory``.
    Raises Conflict for a port that was taken meanwhile and Unavailable when the
    relay does not get ready.
    """
    wanted = [
        RelayPort(p.protocol, address, p.host_port, p.container_port, p.host_ip)
        for p in ports
        if (address := relay_address(p))
    ]
    if not wanted:
        return None
    os.makedirs(directory, mode=0o700, exist_ok=True)
    log = f"{directory}/{LOG}"
    with contextlib.ExitStack() as stack:
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, ready_read)
        writer = stack.enter_context(open(ready_write, "wb", buffering=0))
        # A list of thousands is longer than an argument or a message may be.
        listed = os.memfd_create("rootless-ports", os.MFD_CLOEXEC)
        stack.callback(os.close, listed)
        write_ports(listed, wanted)
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        stack.callback(os.close, log_fd)
        argv = arguments(
            ports_fd=listed,
            targets=targets,
            netns_fd=fds.netns_fd,
            userns_fd=fds.userns_fd,
            exit_fd=fds.exit_fd,
            ready_fd=ready_write,
            directory=directory,
        )
        try:
            process = await helper.launch(argv, {*fds.numbers(), ready_write, listed}, log_fd)
        except ProcessLookupError:
            raise _failed(log) from None
        writer.close()
        try:
            await _await_ready(ready_read, log)
        except BaseException:
            helper.kill(process, signal.SIGKILL)
            helper.close(process)
            raise
        return process


async def _await_ready(ready_fd: int, log: str) -> None:
    if not await helper.readable(ready_fd, START_TIMEOUT):
        raise Unavailable(f"the relay was not ready after {START_TIMEOUT:g} seconds")
    answer = os.read(ready_fd, 4096)
    if not answer:
        raise _failed(log)
    if answer != READY:
        refused = json.loads(answer)
        raise bind_error(refused["protocol"], refused["address"], refused["port"], refused["errno"])


def _failed(log: str) -> Unavailable:
    return Unavailable(f"the relay did not start: {last_message(log)}")


def last_message(log: str) -> str:
    """The last line of the relay's log, or that there is none."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "no message"
