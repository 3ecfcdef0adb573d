"""What the engine calls: connect a created container, disconnect it, find it again.

Loopback inside the container is brought up by the sandbox's own init in every
mode; here are only the ways out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rootless.errors import RootlessError
from rootless.ids import SHORT_LENGTH
from rootless.model.spec import NetworkSpec
from rootless.network import addresses, slirp
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
    other modes); see :class:`rootless.network.slirp.SlirpProcess`.
    """

    mode: str
    ports: tuple[PublishedPort, ...] = ()
    mac: str = ""
    ipv6: bool = True
    pid: int = 0
    start_time: int = 0
    directory: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable object; :meth:`from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkState:
        """The state from an object made by :meth:`to_json`."""
        ports = tuple(PublishedPort(**port) for port in value["ports"])
        return cls(**{**value, "ports": ports})


class NetworkDriver:
    """Networks of all containers; one object, used from the daemon's event loop only."""

    def __init__(self, run_dir: str, *, default_ip: str = DEFAULT_HOST_IP) -> None:
        """``run_dir`` is $XDG_RUNTIME_DIR/rootless; ``default_ip`` daemon.json's ``ip``."""
        self._root = os.path.join(run_dir, "slirp")
        self.ports = PortTable(default_ip=default_ip)
        self._running: dict[str, slirp.SlirpProcess] = {}

    @staticmethod
    def warm() -> None:
        """Import what the first connection would otherwise wait for."""
        import sh  # noqa: F401

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
        process: slirp.SlirpProcess | None = None
        try:
            process = await slirp.start(
                netns_fd=netns_fd,
                userns_fd=userns_fd,
                exit_fd=exit_fd,
                directory=self._directory(container_id),
                mac=mac,
                ipv6=spec.ipv6,
            )
            ports = await _publish(process, ports)
        except BaseException:
            self.ports.release(container_id)
            if process is not None:
                await slirp.stop(process)
            raise
        self.ports.update(container_id, ports)
        self._watch(container_id, process, on_exit)
        return NetworkState(
            SLIRP, ports, mac, spec.ipv6, process.pid, process.start_time, process.directory
        )

    async def disconnect(self, container_id: str) -> None:
        """End a container's slirp4netns and free its ports; fine when there is none."""
        process = self._running.pop(container_id, None)
        if process is not None:
            await slirp.stop(process)
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
        process = slirp.reattach(state.pid, state.start_time, state.directory)
        if process is None:
            slirp.remove_directory(state.directory)
            return None
        ports = state.ports
        try:
            live = {forward.id for forward in await SlirpApi(state.directory).list()}
            ports = tuple(port for port in ports if port.forward_id in live)
        except RootlessError as error:
            # The run-time directory may be gone (logout); forwards live on without it.
            _log.warning("container %s: %s", container_id[:SHORT_LENGTH], error)
        self.ports.adopt(container_id, ports)
        self._watch(container_id, process, on_exit)
        return replace(state, ports=ports)

    async def sweep(self, known: frozenset[str]) -> None:
        """Remove directories of containers that are not in ``known`` (full ids); for recovery.

        Their slirp4netns ends with the shim that held their exit pipe.
        """
        keep = {self._directory(container_id) for container_id in known}
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return
        for name in names:
            path = os.path.join(self._root, name)
            if path not in keep:
                slirp.remove_directory(path)

    def detach(self) -> None:
        """Let go of everything without ending it: the daemon stops, containers live on."""
        for process in self._running.values():
            slirp.close(process)
        self._running.clear()

    def _directory(self, container_id: str) -> str:
        return os.path.join(self._root, container_id)

    def _watch(
        self,
        container_id: str,
        process: slirp.SlirpProcess,
        on_exit: Callable[[str], None] | None,
    ) -> None:
        self._running[container_id] = process

        def ended() -> None:
            if self._running.get(container_id) is not process:
                return
            del self._running[container_id]
            os.close(process.pidfd)
            slirp.remove_directory(process.directory)
            self.ports.release(container_id)
            if on_exit is not None:
                on_exit(container_id)

        slirp.supervise(process, ended)


async def _publish(
    process: slirp.SlirpProcess, ports: tuple[PublishedPort, ...]
) -> tuple[PublishedPort, ...]:
    api = SlirpApi(process.directory)
    done = []
    for port in ports:
        try:
            number = await api.add(port.protocol, port.host_ip, port.host_port, port.container_port)
        except ForwardRefused:
            raise explain_refusal(port) from None
        done.append(with_id(port, number))
    return tuple(done)
