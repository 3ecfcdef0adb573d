"""The helpers of one running container: slirp4netns, and the relay where ports need it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from rootless.errors import RootlessError
from rootless.ids import SHORT_LENGTH
from rootless.network import addresses, helper, relay, slirp
from rootless.network.helper import HelperProcess
from rootless.network.place import SLIRP, Descriptors, Place, strays
from rootless.network.ports import (
    PublishedPort,
    explain_refusal,
    given_up,
    probe_bind,
    with_id,
)
from rootless.network.slirp_api import ForwardRefused, SlirpApi

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkState:
    """A container's connection, as state.db keeps it.

    ``pid``, ``start_time`` and ``directory`` are slirp4netns' (0 and '' in
    other modes); ``relay_pid`` and ``relay_start`` those of the relay, if
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
    place: Place = Place()
    mtu: int = slirp.MTU

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable object; :meth:`from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkState:
        """The state from an object made by :meth:`to_json`."""
        known = {each.name for each in fields(cls)}  # an older version had more
        return cls(
            **{
                **{key: each for key, each in value.items() if key in known},
                "ports": tuple(PublishedPort(**port) for port in value["ports"]),
                "place": Place(**value.get("place", {})),
            }
        )


@dataclass(slots=True, eq=False)
class Connection:
    """What serves a container now. A helper that is None died, or is not needed."""

    state: NetworkState
    slirp: HelperProcess | None = None
    relay: HelperProcess | None = None
    repair: asyncio.Task[None] | None = None
    """Starts again what died."""
    delay: float = field(default=0.0)
    """Seconds before that was last tried."""
    since: float = field(default=0.0)
    """The event loop's time when all helpers ran."""

    @property
    def needs_slirp(self) -> bool:
        """Whether it has a slirp4netns of its own."""
        return self.state.mode == SLIRP

    @property
    def needs_relay(self) -> bool:
        """Whether one of the ports is the relay's; those of bridges are served elsewhere."""
        return self.needs_slirp and any(map(relay.relay_address, self.state.ports))

    @property
    def lacks_slirp(self) -> bool:
        """Its slirp4netns has ended."""
        return self.slirp is None and self.needs_slirp

    @property
    def lacks_something(self) -> bool:
        """One of its helpers has ended."""
        return self.lacks_slirp or (self.relay is None and self.needs_relay)

    async def start_missing(self, fds: Descriptors, *, again: bool = False) -> None:
        """Start the helpers that do not run, and publish the ports; all or none.

        When it is done ``again``, a port that a stranger took meanwhile is given up.
        """
        state = self.state
        if again:
            await self._end_strays()
        if again and self.relay is None:
            ports = _still_free(state.ports)
            state = replace(state, ports=ports)
        started: list[HelperProcess] = []
        try:
            process = self.slirp
            if process is None and self.needs_slirp:
                process = await slirp.start(
                    netns_fd=fds.netns_fd,
                    userns_fd=fds.userns_fd,
                    exit_fd=fds.exit_fd,
                    directory=state.directory,
                    mac=state.mac,
                    ipv6=state.ipv6,
                    mtu=state.mtu,
                )
                started.append(process)
                ports = await _publish(state.directory, state.ports, again=again)
                state = replace(state, ports=ports)
            other = self.relay
            if other is None and self.needs_relay:
                own = [addresses.ipv6_for(state.mac)] if state.ipv6 else []
                targets = (addresses.CONTAINER_IPV4, *own)
                other = await relay.start(
                    state.ports, fds, targets=targets, directory=state.directory
                )
        except BaseException:
            for one in started:
                await helper.stop(one)
            raise
        self.slirp, self.relay = process, other
        self.state = replace(
            state,
            pid=process.pid if process else 0,
            start_time=process.start_time if process else 0,
            relay_pid=other.pid if other else 0,
            relay_start=other.start_time if other else 0,
        )
        self.since = asyncio.get_running_loop().time()

    async def _end_strays(self) -> None:
        known = {process.pid for process in (self.slirp, self.relay) if process is not None}
        for pid in strays(self.state.place, self.state.directory, known):
            with contextlib.suppress(ProcessLookupError):
                await helper.stop(helper.adopt(pid))

    def look_away(self) -> None:
        """Do not hear of the end of those that run, while others are started."""
        for process in (self.relay, self.slirp):
            if process is not None:
                helper.ignore(process)

    async def end(self, *, wait: bool) -> None:
        """End both and remove their directory; ``wait`` until their sockets are closed.

        Closing a tap device takes the kernel some 15 ms, which nobody has to
        wait for unless a host port is to be free afterwards.
        """
        await self._stop_repair()
        for process in (self.relay, self.slirp):
            if process is None:
                continue
            if wait:
                await helper.stop(process)
            else:
                helper.kill(process, signal.SIGKILL)
                helper.close(process)
        self.relay = self.slirp = None
        slirp.remove_directory(self.state.directory)

    async def let_go(self) -> None:
        """Close what is open of the helpers, which live on."""
        await self._stop_repair()
        for process in (self.relay, self.slirp):
            if process is not None:
                helper.close(process)

    async def _stop_repair(self) -> None:
        if self.repair is not None:
            self.repair.cancel()
            await asyncio.wait([self.repair])
        self.look_away()


def found_again(state: NetworkState) -> Connection:
    """The connection of an earlier daemon, with those of its helpers that still run."""
    relay_process = None
    if state.relay_pid:
        relay_process = helper.reattach(state.relay_pid, state.relay_start)
    own = helper.reattach(state.pid, state.start_time) if state.pid else None
    return Connection(state, own, relay_process)


async def forwarded(container_id: str, connection: Connection) -> tuple[PublishedPort, ...]:
    """The ports that a slirp4netns which was found again, and the relay, really serve."""
    state = connection.state
    try:
        live = {forward.id for forward in await SlirpApi(state.directory).list()}
    except RootlessError as error:
        # The run-time directory may be gone (logout); forwards live on without it.
        _log.warning("container %s: %s", container_id[:SHORT_LENGTH], error)
        return state.ports
    return tuple(
        port for port in state.ports if relay.by_relay_alone(port) or port.forward_id in live
    )


def why_ended(state: NetworkState, *, relay_only: bool) -> str:
    """What a helper that is gone said last."""
    if relay_only:
        said = relay.last_message(f"{state.directory}/{relay.LOG}")
        return f"the relay of its ports ended: {said}"
    said = slirp.last_message(slirp.read_log(state.directory))
    return f"slirp4netns ended: {said or 'no message'}"


def _still_free(ports: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
    """Without those of the relay's alone that somebody else has bound."""
    left = []
    for port in ports:
        if relay.by_relay_alone(port) and probe_bind(port.protocol, port.host_ip, port.host_port):
            _log.warning("%s", given_up(port))
        else:
            left.append(port)
    return tuple(left)


async def _publish(
    directory: str, ports: tuple[PublishedPort, ...], *, again: bool
) -> tuple[PublishedPort, ...]:
    api = SlirpApi(directory)
    done = []
    for port in ports:
        if relay.by_relay_alone(port):
            done.append(port)
            continue
        try:
            number = await api.add(port.protocol, port.host_ip, port.host_port, port.container_port)
        except ForwardRefused:
            if again:
                _log.warning("%s", given_up(port))
                continue
            raise explain_refusal(port) from None
        done.append(with_id(port, number))
    return tuple(done)
