"""Containers on bridges, as the daemon sees them: attached, named, attached again.

The bridges are in the holder's network namespace, and one slirp4netns leads
from there to the world. When one of the two dies it is started again, and
every container is put back where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rootless.errors import RootlessError, Unavailable
from rootless.ids import SHORT_LENGTH
from rootless.model.network import EgressLists, Endpoint, NetworkRecord
from rootless.network import helper, slirp
from rootless.network.helper import HelperProcess
from rootless.network.holder.main import MAX_FDS
from rootless.network.holder_client import Hello, HolderClient, Namespaces, open_holder
from rootless.network.hostaddresses import host_addresses
from rootless.network.place import Descriptors, Place, PlaceGone, reopened, strays
from rootless.network.ports import PublishedPort, bind_error, given_up, open_port

_log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
"""Seconds before what died is tried a second time, and at most."""

Report = Callable[[str], None]
"""Called with why a container is cut off, and with '' when it is not any more."""


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """Where a container is to be. ``servers`` answer what no name of its networks answers.

    ``ports`` are served at its addresses; of one with a slirp4netns of its own there are none.
    ``own`` are the egress lists of its slirp4netns, if it has one. With lists and no
    networks the holder serves it all the same: names are its matter.
    """

    networks: tuple[NetworkRecord, ...]
    endpoints: tuple[Endpoint, ...]
    servers: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    own: EgressLists | None = None

    @property
    def has_lists(self) -> bool:
        """Whether any egress list holds."""
        return bool(self.own) or any(endpoint.egress for endpoint in self.endpoints)


@dataclass(slots=True, eq=False)
class _Attached:
    plan: BridgePlan
    place: Place
    report: Report | None


class Bridges:
    """All containers on bridges; used from the daemon's event loop only."""

    def __init__(self, directory: str, run_dir: str) -> None:
        """``directory`` has the holder's socket, ``run_dir`` what may be lost with a logout."""
        self._directory = directory
        self._slirp_directory = os.path.join(run_dir, "network", "slirp")
        self._namespaces: Namespaces | None = None
        self._ipv6 = True
        self._client: HolderClient | None = None
        self._slirp: HelperProcess | None = None
        self._opening = asyncio.Lock()
        self._attached: dict[str, _Attached] = {}
        self._repair: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._closed = False
        self.on_denied: Callable[[], None] | None = None
        """Called when there are denials to be taken."""

    def prepare(self, namespaces: Namespaces, *, ipv6: bool) -> None:
        """Say where the holder belongs, and whether the way out has IPv6."""
        self._namespaces = namespaces
        self._ipv6 = ipv6

    def expect(self) -> None:
        """A container will want a bridge soon: what it would wait for is started meanwhile."""
        if self._client is None and self._warming is None and not self._closed:
            self._warming = asyncio.ensure_future(self._warm())

    async def _warm(self) -> None:
        try:
            with contextlib.suppress(RootlessError, OSError):  # whoever needs it hears why
                await self._holder()
        finally:
            self._warming = None

    async def warm(self) -> None:
        """Start what the first container would wait for."""
        await self._holder()

    # -- containers --------------------------------------------------------------------

    async def attach(
        self,
        container_id: str,
        plan: BridgePlan,
        fds: Descriptors,
        place: Place,
        report: Report | None,
    ) -> None:
        """Put a new container on its networks and publish its ports.

        Nothing is left behind on an error; Conflict for a port that was taken meanwhile.
        """
        holder = await self._holder()
        self._attached[container_id] = _Attached(plan, place, report)
        try:
            await self._attach(holder, container_id, plan, fds)
            await self._publish(holder, container_id, plan)
        except BaseException:
            await self.detach(container_id)
            raise

    @staticmethod
    async def _attach(
        holder: HolderClient, container_id: str, plan: BridgePlan, fds: Descriptors
    ) -> None:
        await holder.ask(
            (fds.netns_fd, fds.exit_fd),
            op="attach",
            container=container_id,
            networks=[_told(network) for network in plan.networks],
            endpoints=[asdict(endpoint) for endpoint in plan.endpoints],
            servers=plan.servers,
            own=plan.own,
            host=_host_of(plan),
        )

    @staticmethod
    async def _publish(
        holder: HolderClient,
        container_id: str,
        plan: BridgePlan,
        *,
        again: bool = False,
    ) -> tuple[PublishedPort, ...]:
        """Bind the ports and give them away; ``again``: without those that are taken now."""
        done: list[PublishedPort] = []
        for start in range(0, len(plan.ports), MAX_FDS):
            with contextlib.ExitStack() as stack:
                fds, told = [], []
                for port in plan.ports[start : start + MAX_FDS]:
                    try:
                        made = open_port(port.protocol, port.host_ip, port.host_port)
                    except OSError as error:
                        if again:
                            _log.warning("%s", given_up(port))
                            continue
                        code = error.errno or errno.EADDRINUSE
                        raise bind_error(
                            port.protocol, port.host_ip, port.host_port, code
                        ) from None
                    fds.append(stack.enter_context(made).fileno())
                    told.append((port.protocol, port.container_port))
                    done.append(port)
                await holder.ask(
                    fds, op="publish", container=container_id, targets=targets_of(plan), ports=told
                )
        return tuple(done)

    def ports_of(self, container_id: str) -> tuple[PublishedPort, ...]:
        """What is published of a container's."""
        return self._attached[container_id].plan.ports

    async def detach(self, container_id: str) -> None:
        """Take a container off; fine when it is on none."""
        if self._attached.pop(container_id, None) is not None and self._client is not None:
            with contextlib.suppress(Unavailable):  # then it is off
                await self._client.ask(op="detach", container=container_id)

    def has(self, container_id: str) -> bool:
        """True when a container is attached."""
        return container_id in self._attached

    async def connect(self, container_id: str, network: NetworkRecord, endpoint: Endpoint) -> None:
        """One more network for a running container."""
        found = self._attached[container_id]
        more = replace(
            found.plan,
            networks=(*found.plan.networks, network),
            endpoints=(*found.plan.endpoints, endpoint),
        )
        await (await self._holder()).ask(
            op="connect",
            container=container_id,
            network=_told(network),
            endpoint=asdict(endpoint),
            targets=targets_of(more),
            host=_host_of(more),
        )
        found.plan = more

    async def disconnect(
        self, container_id: str, network_id: str, others: Sequence[Endpoint]
    ) -> None:
        """One network less; ``others`` are the endpoints that stay."""
        found = self._attached[container_id]
        networks = tuple(n for n in found.plan.networks if n.id != network_id)
        left = replace(found.plan, networks=networks, endpoints=tuple(others))
        await (await self._holder()).ask(
            op="disconnect",
            container=container_id,
            network=network_id,
            others=[asdict(endpoint) for endpoint in others],
            targets=targets_of(left),
        )
        found.plan = left

    async def rename(self, container_id: str, endpoints: Sequence[Endpoint]) -> None:
        """Other names for a running container."""
        found = self._attached[container_id]
        found.plan = replace(found.plan, endpoints=tuple(endpoints))
        await (await self._holder()).ask(
            op="rename",
            container=container_id,
            endpoints=[asdict(endpoint) for endpoint in endpoints],
        )

    async def take_denied(self) -> list[dict[str, Any]]:
        """What egress lists denied since this was last asked; see ``holder.denied``."""
        if self._client is None:
            return []
        found: list[dict[str, Any]] = (await self._client.ask(op="denied"))["denied"]
        return found

    async def remove_network(self, network_id: str) -> None:
        """A network that no container is on has no bridge any more."""
        if self._client is not None:
            with contextlib.suppress(Unavailable):
                await self._client.ask(op="remove-network", network=network_id)

    def restore(
        self,
        container_id: str,
        plan: BridgePlan,
        place: Place,
        report: Report | None,
    ) -> None:
        """Take over a running container after a restart; :meth:`reconcile` follows."""
        self._attached[container_id] = _Attached(plan, place, report)

    async def reconcile(self, networks: frozenset[str]) -> None:
        """Bring the holder to what was restored; ``networks`` are those that exist.

        What cannot be done now is tried again later: the engine starts without.
        """
        if not self._attached:
            return  # a holder without containers ended with the daemon before
        try:
            await self._holder(networks)
        except (RootlessError, OSError) as error:
            self._begin_repair(str(error))

    async def let_go(self) -> None:
        """The daemon stops; holder and slirp4netns live on while containers do."""
        self._closed = True
        for task in (self._repair, self._warming):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._slirp is not None:
            helper.close(self._slirp)
            self._slirp = None
        if self._client is not None:
            self._client.close()
            self._client = None

    # -- holder and slirp4netns -------------------------------------------------------------

    async def _holder(self, networks: frozenset[str] | None = None) -> HolderClient:
        """The holder, with everything in it that belongs there, and its way out."""
        if self._client is not None:
            return self._client
        async with self._opening:
            if self._client is not None:
                return self._client
            assert self._namespaces is not None, "the engine has not said where"
            client, hello = await open_holder(self._directory, self._namespaces)
            try:
                await self._fill(client, hello, networks)
                await self._lead_out(hello)
            except BaseException:
                client.close()
                raise
            finally:
                hello.close()
            if client.closed:
                raise Unavailable("the network holder ended while it was prepared")
            self._client = client
            client.on_lost, client.on_denied = self._lost, self.on_denied
        if self.on_denied is not None:
            self.on_denied()  # there may be some of the time without a daemon
        return client

    async def _fill(
        self, client: HolderClient, hello: Hello, networks: frozenset[str] | None
    ) -> None:
        """What a holder lacks is put there, what nobody wants any more goes."""
        for container_id in hello.containers.keys() - self._attached.keys():
            await client.ask(op="detach", container=container_id)
        if networks is not None:
            for network_id in set(hello.networks) - networks:
                await client.ask(op="remove-network", network=network_id)
        for container_id, found in tuple(self._attached.items()):
            wanted = {endpoint.id for endpoint in found.plan.endpoints}
            if hello.containers.get(container_id) == wanted:
                continue
            try:
                with reopened(found.place) as fds:
                    await self._attach(client, container_id, found.plan, fds)
                served = await self._publish(client, container_id, found.plan, again=True)
                found.plan = replace(found.plan, ports=served)
            except PlaceGone:
                continue  # its end is told by others
            except Unavailable:
                raise
            except RootlessError as error:  # the others shall have their networks
                _log.error("container %s: %s", container_id[:SHORT_LENGTH], error)
                continue
            _log.warning("container %s is back on its networks", container_id[:SHORT_LENGTH])

    async def _lead_out(self, hello: Hello) -> None:
        """A slirp4netns for the holder's namespace: the one that runs, or a new one."""
        place = Place(userns=os.fstat(hello.userns_fd).st_ino)
        running = strays(place, self._slirp_directory, ())
        if self._slirp is not None:
            helper.close(self._slirp)
            self._slirp = None
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                self._slirp = helper.adopt(pid)
        if self._slirp is None:
            self._slirp = await slirp.start(
                netns_fd=hello.netns_fd,
                userns_fd=hello.userns_fd,
                exit_fd=hello.exit_fd,
                directory=self._slirp_directory,
                ipv6=self._ipv6,
            )
        helper.supervise(self._slirp, self._slirp_ended)

    def _slirp_ended(self) -> None:
        assert self._slirp is not None
        helper.close(self._slirp)
        self._slirp = None
        said = slirp.last_message(slirp.read_log(self._slirp_directory))
        self._begin_repair(f"slirp4netns ended: {said or 'no message'}")

    def _lost(self) -> None:
        self._client = None
        self._begin_repair("the process that holds the bridges ended")

    def _begin_repair(self, reason: str) -> None:
        if self._closed or self._repair is not None:
            return
        _log.warning("bridge networks: %s; it is started again", reason)
        for found in tuple(self._attached.values()):
            if found.report is not None:
                found.report(reason)
        self._repair = asyncio.ensure_future(self._start_again())

    async def _start_again(self) -> None:
        delay = 0.0
        while True:
            await asyncio.sleep(delay)
            delay = min(max(2 * delay, FIRST_DELAY), LONGEST_DELAY)
            client, self._client = self._client, None
            if client is not None:  # only slirp4netns died: the holder is asked for descriptors
                client.close()
            try:
                await self._holder()
            except (RootlessError, OSError) as error:
                _log.warning("bridge networks: %s", error)
                continue
            break
        self._repair = None
        _log.warning("bridge networks run again")
        for found in tuple(self._attached.values()):
            if found.report is not None:
                found.report("")


def targets_of(plan: BridgePlan) -> tuple[str, ...]:
    """Where its ports lead to: IPv4 first, and where its way out is first."""
    found = sorted(plan.endpoints, key=lambda e: not e.default_ipv4)
    first = [endpoint.ipv4_address for endpoint in found if endpoint.ipv4_address]
    return (*first[:1], *[e.ipv6_address for e in found if e.ipv6_address][:1])


def _host_of(plan: BridgePlan) -> list[str]:
    """What names on the plan's egress lists must not lead to."""
    return host_addresses() if plan.has_lists else []


def _told(network: NetworkRecord) -> dict[str, Any]:
    """What the holder hears of a network: not its labels, which may have megabytes."""
    return asdict(replace(network, labels=(), ipam_options=()))
