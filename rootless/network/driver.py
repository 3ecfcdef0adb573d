"""What the engine calls: connect a created container, disconnect it, find it again.

Loopback inside the container is brought up by the sandbox's own init in every
mode; here are only the ways out.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rootless.errors import RootlessError
from rootless.ids import SHORT_LENGTH
from rootless.model.spec import NetworkSpec
from rootless.network import addresses, helper, slirp, udp
from rootless.network.helper import HelperProcess
from rootless.network.ports import (
    DEFAULT_HOST_IP,
    PortTable,
    PublishedPort,
    explain_refusal,
    with_id,
)
from rootless.network.slirp_api import ForwardRefused, SlirpApi

_log = logging.getLogger(__name__)

SLIRP = "slirp4netns"


@dataclass(frozen=True, slots=True)
class NetworkState:
    """A container's connection, as state.db keeps it.

    ``pid``, ``start_time`` and ``directory`` are slirp4netns' (0 and '' in
    other modes); ``relay_pid`` and ``relay_start`` those of the UDP relay, if
    there is one. See :class:`rootless.network.helper.HelperProcess`.
    """

    mode: str
    ports: tuple[PublishedPort, ...] = ()
    mac: str = ""
    ipv6: bool = True
    pid: int = 0
    start_time: int = 0
    directory: str = ""
    relay_pid: int = 0
    relay_start: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable object; :meth:`from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkState:
        """The state from an object made by :meth:`to_json`."""
        ports = tuple(PublishedPort(**port) for port in value["ports"])
        return cls(**{**value, "ports": ports})


@dataclass(frozen=True, slots=True)
class _Connection:
    """The helpers of one running container."""

    slirp: HelperProcess
    relay: HelperProcess | None
    directory: str

    async def end(self, *, wait: bool) -> None:
        """End both and remove their directory; ``wait`` until their sockets are closed.

        Closing a tap device takes the kernel some 15 ms, which nobody has to
        wait for unless a host port is to be free afterwards.
        """
        for process in (self.relay, self.slirp):
            if process is None:
                continue
            if wait:
                await helper.stop(process)
            else:
                helper.kill(process, signal.SIGKILL)
                helper.close(process)
        self.forget()

    def forget(self) -> None:
        udp.remove_log(self.directory)
        slirp.remove_directory(self.directory)


class NetworkDriver:
    """Networks of all containers; one object, used from the daemon's event loop only."""

    def __init__(self, run_dir: str, *, default_ip: str = DEFAULT_HOST_IP) -> None:
        """``run_dir`` is $XDG_RUNTIME_DIR/rootless; ``default_ip`` daemon.json's ``ip``."""
        self._root = os.path.join(run_dir, "slirp")
        self.ports = PortTable(default_ip=default_ip)
        self._running: dict[str, _Connection] = {}

    @staticmethod
    def warm() -> None:
        """Start what the first connection would otherwise wait for."""
        helper.open_starter()

    async def connect(
        self,
        spec: NetworkSpec,
        container_id: str,
        *,
        netns_fd: int = -1,
        userns_fd: int = -1,
        exit_fd: int = -1,
        on_exit: Callable[[str], None] | None = None,
    ) -> NetworkState:
        """Connect a container whose init waits for ``go``; nothing is left behind on an error.

        In mode slirp4netns the three descriptors are needed: the container's
        network and user namespace and the read end of a pipe whose write end its
        shim holds; they stay the caller's. ``on_exit(container_id)`` is called
        when slirp4netns ends although nobody called :meth:`disconnect`: with the
        container's end, or before it, which leaves the container without network.
        """
        if spec.mode != SLIRP:
            return NetworkState(spec.mode, ipv6=spec.ipv6)
        mac = spec.mac_address or addresses.mac_for(container_id)
        ports = self.ports.reserve(container_id, spec.ports)
        directory = self._directory(container_id)
        connection: _Connection | None = None
        try:
            fds = {"netns_fd": netns_fd, "userns_fd": userns_fd, "exit_fd": exit_fd}
            process = await slirp.start(**fds, directory=directory, mac=mac, ipv6=spec.ipv6)
            connection = _Connection(process, None, directory)
            ports = await _publish(directory, ports)
            relay = await udp.start(ports, **fds, directory=directory)
            connection = _Connection(process, relay, directory)
        except BaseException:
            self.ports.release(container_id)
            if connection is not None:
                await connection.end(wait=True)
            raise
        self.ports.update(container_id, ports)
        self._watch(container_id, connection, on_exit)
        return NetworkState(
            SLIRP,
            ports,
            mac,
            spec.ipv6,
            process.pid,
            process.start_time,
            directory,
            relay.pid if relay else 0,
            relay.start_time if relay else 0,
        )

    async def disconnect(self, container_id: str) -> None:
        """End a container's helpers and free its ports; fine when there are none."""
        connection = self._running.pop(container_id, None)
        if connection is not None:
            await connection.end(wait=bool(self.ports.of(container_id)))
        self.ports.release(container_id)

    async def restore(
        self,
        container_id: str,
        state: NetworkState,
        on_exit: Callable[[str], None] | None = None,
    ) -> NetworkState | None:
        """Take over a running container after a daemon restart.

        None when its slirp4netns has ended: the container runs without network
        and its ports are free again. The ports returned are those slirp4netns
        really forwards.
        """
        if state.mode != SLIRP:
            return state
        process = helper.reattach(state.pid, state.start_time)
        relay = helper.reattach(state.relay_pid, state.relay_start) if state.relay_pid else None
        if process is None:
            if relay is not None:
                await helper.stop(relay)
            udp.remove_log(state.directory)
            slirp.remove_directory(state.directory)
            return None
        ports = state.ports
        try:
            live = {forward.id for forward in await SlirpApi(state.directory).list()}
            ports = tuple(
                port
                for port in ports
                if (relay is not None if udp.by_relay_alone(port) else port.forward_id in live)
            )
        except RootlessError as error:
            # The run-time directory may be gone (logout); forwards live on without it.
            _log.warning("container %s: %s", container_id[:SHORT_LENGTH], error)
        self.ports.adopt(container_id, ports)
        self._watch(container_id, _Connection(process, relay, state.directory), on_exit)
        return replace(state, ports=ports)

    async def sweep(self, running: frozenset[str]) -> None:
        """Remove directories of containers that are not in ``running`` (full ids); for recovery.

        Their slirp4netns ends with the shim that held their exit pipe.
        """
        keep = {self._directory(container_id) for container_id in running}
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return
        for name in names:
            path = os.path.join(self._root, name)
            if path not in keep:
                udp.remove_log(path)
                slirp.remove_directory(path)

    def detach(self) -> None:
        """Let go of everything without ending it: the daemon stops, containers live on."""
        for connection in self._running.values():
            helper.close(connection.slirp)
            if connection.relay is not None:
                helper.close(connection.relay)
        self._running.clear()
        helper.close_starter()

    def _directory(self, container_id: str) -> str:
        return os.path.join(self._root, container_id)

    def _watch(
        self,
        container_id: str,
        connection: _Connection,
        on_exit: Callable[[str], None] | None,
    ) -> None:
        self._running[container_id] = connection

        def ended() -> None:
            if self._running.get(container_id) is not connection:
                return
            del self._running[container_id]
            helper.close(connection.slirp)
            if connection.relay is not None:
                helper.kill(connection.relay, signal.SIGTERM)
                helper.close(connection.relay)
            connection.forget()
            self.ports.release(container_id)
            if on_exit is not None:
                on_exit(container_id)

        def relay_ended() -> None:
            _log.warning(
                "container %s: the relay of its UDP ports on loopback has ended",
                container_id[:SHORT_LENGTH],
            )

        helper.supervise(connection.slirp, ended)
        if connection.relay is not None:
            helper.supervise(connection.relay, relay_ended)


async def _publish(directory: str, ports: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
    api = SlirpApi(directory)
    done = []
    for port in ports:
        if udp.by_relay_alone(port):
            done.append(port)
            continue
        try:
            number = await api.add(port.protocol, port.host_ip, port.host_port, port.container_port)
        except ForwardRefused:
            raise explain_refusal(port) from None
        done.append(with_id(port, number))
    return tuple(done)
