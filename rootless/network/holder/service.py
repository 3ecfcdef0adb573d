"""What the holder does for the daemon: containers on bridges, and off again.

A bridge is made with the first container on its network and stays until the
network is removed. All of it belongs to this process' network namespace and
goes with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rootless.errors import (
    Exhausted,
    HostUnsupported,
    NotFound,
    RootlessError,
    SyscallError,
    Unavailable,
)
from rootless.linux import nftables, process
from rootless.model.network import ICC, MTU, EgressLists, Endpoint, NetworkRecord
from rootless.network import publish_main
from rootless.network.dns import main as dns_main
from rootless.network.holder import inside, rules, translation
from rootless.network.holder.ahead import Prepared
from rootless.network.holder.child import Child
from rootless.network.holder.egress import Egress
from rootless.network.holder.egress_rules import OUT, PRIVATE_CHAIN
from rootless.network.holder.linked import Linked
from rootless.network.holder.links import Netlink, netlink, set_sysctl
from rootless.network.predefined import BRIDGE_ID

DEFAULT_MTU = 65520
"""Bytes: nothing here touches a wire, and slirp4netns takes as much."""


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: a bound socket in the host's network namespace."""

    protocol: str
    container_port: int
    socket: socket.socket


@dataclass(slots=True)
class Container:
    """A container on bridges. The descriptors are this process' own."""

    netns_fd: int
    exit_fd: int
    servers: tuple[str, ...]
    own: EgressLists | None = None
    """Lists of the slirp4netns of its own, None when it has none."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """By network id."""
    sockets: tuple[socket.socket, ...] = ()
    """The resolver's, in the container's namespace: datagrams, connections."""
    translation: socket.socket | None = None
    """Of the rules that lead to them."""
    targets: tuple[str, ...] = ()
    """Where its published ports lead to; the first address is tried first."""
    ports: list[Port] = field(default_factory=list)


class Service:
    """The namespace's content; one object, in the namespace."""

    def __init__(
        self,
        home_fd: int,
        userns_fd: int,
        selector: selectors.BaseSelector,
        prepared: Prepared,
        tell_denied: Callable[[], None],
    ) -> None:
        """``home_fd`` is the engine's network namespace, which the caller is in.

        With ``selector`` the ends of containers and children are heard of; its data is called.
        ``tell_denied`` is called when there are denials to ask for.
        """
        self._home_fd = home_fd
        self._selector = selector
        self._templates = prepared.messages
        self._route = Netlink(self._templates)
        self._route.set_up("lo")
        for path, value in (("ipv4/ip_forward", "1"), ("ipv4/conf/all/arp_ignore", "1")):
            set_sysctl(path, value)
        with contextlib.suppress(FileNotFoundError):  # no IPv6, or no br_netfilter
            set_sysctl("ipv6/conf/all/forwarding", "1")
            # Nobody else can have a bridge's address, and until that is found out, which takes
            # the kernel a second or two, it asks for no neighbour: answers would be lost.
            set_sysctl("ipv6/conf/default/accept_dad", "0")
            # That of slirp4netns, where its address and route come from; also when it forwards.
            set_sysctl("ipv6/conf/default/accept_ra", "2")
        for name in ("iptables", "ip6tables", "arptables"):
            with contextlib.suppress(FileNotFoundError):
                set_sysctl(f"bridge/bridge-nf-call-{name}", "0")
        self._rules = nftables.Rules()
        try:
            self._rules.run(rules.BASE)
        except RootlessError as error:
            raise HostUnsupported(
                f"this kernel does not take the rules of bridge networks: {error.message}",
                hint="it needs nf_tables with the families inet and bridge, and NAT; without: "
                "--network slirp4netns, or default-network in daemon.json",
            ) from None
        self._linked = Linked(rules.bridge_name(BRIDGE_ID), self._rules, self._route)
        self.egress = Egress(selector, self._rules, tell_denied, self._opened)
        self.networks: dict[str, NetworkRecord] = {}
        self.containers: dict[str, Container] = {}
        self.lingering: set[str] = set()
        """Ports of containers that are off; see :meth:`tidy`."""
        calls = prepared.small_calls
        self.resolver = Child(
            dns_main.main, userns_fd, self._everything, selector, calls, obey=self.egress.obey
        )
        self.resolver.start()
        self.publisher = Child(publish_main.main, userns_fd, self._all_ports, selector, calls)

    # -- containers --------------------------------------------------------------------

    def attach(
        self,
        container_id: str,
        networks: Sequence[NetworkRecord],
        endpoints: Sequence[Endpoint],
        servers: Sequence[str],
        fds: Sequence[int],
        *,
        own: EgressLists | None = None,
        host_addresses: Iterable[str] = (),
    ) -> None:
        """Put a container on networks. ``fds``: its network namespace, and its exit pipe.

        ``own`` are the egress lists of its own slirp4netns, if it has one; they hold from
        here on. To ``host_addresses`` no name leads.
        """
        self.detach(container_id)
        netns_fd, exit_fd = fds[:2]
        found = Container(os.dup(netns_fd), os.dup(exit_fd), tuple(servers), own)
        self.containers[container_id] = found
        # There may be no daemon to tell of its end.
        ended = partial(self.detach, container_id)
        self._selector.register(found.exit_fd, selectors.EVENT_READ, ended)
        self.egress.bar(host_addresses)
        try:
            for network in networks:
                self._ensure(network)
            with self._inside(found), netlink(self._templates) as route:
                # Before its own init does: without a route, 127.0.0.11 counts as a broadcast
                # address, and a socket bound to that answers from 127.0.0.1.
                route.set_up("lo")
                if own:
                    self.egress.add_own(container_id, own)
                found.sockets = inside.listen()
                ports = [one.getsockname()[1] for one in found.sockets]
                found.translation = translation.lead(*ports)
            for endpoint in endpoints:
                self._plug(container_id, found, endpoint)
            self._tell_client(container_id, found)
        except BaseException:
            self.detach(container_id)
            raise

    def detach(self, container_id: str) -> None:
        """Take a container off everything; fine when it is on nothing."""
        found = self.containers.pop(container_id, None)
        if found is None:
            return
        self._selector.unregister(found.exit_fd)
        try:
            self.resolver.tell({"drop": container_id})
            self._unpublish(container_id, found)
            for one in (*found.sockets, found.translation):
                if one is not None:
                    one.close()  # before rules are deleted: see linux.nftables
            self.egress.drop_own(container_id)
            for endpoint in found.endpoints.values():
                self._silence(container_id, endpoint)
                # The kernel removes both ends with the container's namespace, and takes tens of
                # milliseconds for it that nobody waits for. Who shares that namespace keeps them.
                self.lingering.add(rules.port_name(endpoint.id))
        finally:
            os.close(found.netns_fd)
            os.close(found.exit_fd)

    def tidy(self) -> None:
        """Remove ports that are still there although their container is off."""
        for name in self.lingering:
            self._route.remove(name)
        self.lingering.clear()

    def connect(
        self,
        container_id: str,
        network: NetworkRecord,
        endpoint: Endpoint,
        targets: Sequence[str],
        *,
        host_addresses: Iterable[str] = (),
    ) -> None:
        """One more network for a container; ``host_addresses`` as in :meth:`attach`."""
        found = self._container(container_id)
        self.egress.bar(host_addresses)
        self._ensure(network)
        self._plug(container_id, found, endpoint)
        self._tell_client(container_id, found)
        self._retarget(container_id, found, targets)

    def disconnect(
        self,
        container_id: str,
        network_id: str,
        others: Sequence[Endpoint],
        targets: Sequence[str],
    ) -> None:
        """One network less; ``others`` are what it keeps, with their default routes."""
        found = self._container(container_id)
        endpoint = found.endpoints.get(network_id)
        if endpoint is not None:
            self._unplug(container_id, found, endpoint)
        with self._inside(found), netlink(self._templates) as route:
            for other in others:
                found.endpoints[other.network_id] = other
                inside.add_routes(route, other)
        self._tell_client(container_id, found)
        self._retarget(container_id, found, targets)

    def rename(self, container_id: str, endpoints: Sequence[Endpoint]) -> None:
        """Other names for what there is."""
        found = self._container(container_id)
        for endpoint in endpoints:
            if endpoint.network_id in found.endpoints:
                found.endpoints[endpoint.network_id] = endpoint
                self.resolver.tell(self._names(endpoint))

    def _container(self, container_id: str) -> Container:
        try:
            return self.containers[container_id]
        except KeyError:
            raise NotFound(f"container {container_id} is on no bridge") from None

    def _plug(self, container_id: str, found: Container, endpoint: Endpoint) -> None:
        network = self.networks[endpoint.network_id]
        port, mac = rules.port_name(endpoint.id), endpoint.mac_address
        if endpoint.egress:
            self.egress.prepare()
        self._rules.run(rules.of_endpoint(endpoint, add=True))
        found.endpoints[endpoint.network_id] = endpoint
        if endpoint.egress:
            chain = rules.chain_name(endpoint.id)
            self.egress.add(container_id, endpoint.network, chain, endpoint.egress)
        try:
            self._pair(found, endpoint, network)
            with contextlib.suppress(FileNotFoundError):
                set_sysctl(f"ipv6/conf/{port}/disable_ipv6", "1")
            self._route.bind_port(port, mac, isolated=not network.flag(ICC, default=True))
            with self._inside(found), netlink(self._templates) as route:
                inside.configure(route, endpoint)
            if network.id == BRIDGE_ID and not network.flag(ICC, default=True):
                self._linked.put(endpoint)
        except BaseException:
            self._unplug(container_id, found, endpoint)
            raise
        self.resolver.tell(self._names(endpoint))

    def _pair(self, found: Container, endpoint: Endpoint, network: NetworkRecord) -> None:
        def make() -> None:
            self._route.add_pair(
                rules.port_name(endpoint.id),
                bridge=rules.bridge_name(network.id),
                mtu=mtu_of(network),
                peer=endpoint.interface,
                peer_mac=endpoint.mac_address,
                netns_fd=found.netns_fd,
            )

        try:
            make()
        except SyscallError as error:
            if error.errno != errno.EEXIST:
                raise
            # Of a holder that died: its namespace is taken down behind its back.
            with self._inside(found), netlink(self._templates) as route:
                route.remove(endpoint.interface)
            make()

    def _unplug(self, container_id: str, found: Container, endpoint: Endpoint) -> None:
        del found.endpoints[endpoint.network_id]
        self._silence(container_id, endpoint)
        self._route.remove(rules.port_name(endpoint.id))

    def _silence(self, container_id: str, endpoint: Endpoint) -> None:
        """Nothing comes from its port any more, and nobody finds it by name."""
        self.resolver.tell({"gone": endpoint.id})
        self.egress.drop(container_id, rules.chain_name(endpoint.id))
        self._linked.drop(endpoint.id)
        self._rules.run(rules.of_endpoint(endpoint, add=False))

    @contextlib.contextmanager
    def _inside(self, found: Container) -> Iterator[None]:
        """Be in the container's network namespace; sockets made there stay there."""
        process.setns(found.netns_fd, process.CLONE_NEWNET, "a container's network namespace")
        try:
            yield
        finally:
            process.setns(self._home_fd, process.CLONE_NEWNET, "the engine's network namespace")

    # -- published ports ------------------------------------------------------------------

    def publish(
        self,
        container_id: str,
        targets: Sequence[str],
        ports: Sequence[tuple[str, int]],
        fds: Sequence[int],
    ) -> None:
        """Lead what comes in on bound sockets to ports (protocol, number) at ``targets``.

        Exhausted when this process or the publisher may have no more descriptors.
        """
        found = self._container(container_id)
        if not self.publisher.running:
            self.publisher.start()
        if len(fds) == len(ports):
            made = [
                Port(protocol, number, socket.socket(fileno=os.dup(fd)))
                for (protocol, number), fd in zip(ports, fds, strict=True)
            ]
            found.targets = tuple(targets)
            found.ports += made
            message = _published(container_id, found.targets, made)
            if self.publisher.ask(message, fds)["ports"] == len(ports):
                return
        raise Exhausted(
            "the processes that publish ports may have no more descriptors",
            hint="publish fewer ports, or raise the hard limit: ulimit -Hn",
        )

    def _unpublish(self, container_id: str, found: Container) -> None:
        """Afterwards the ports are free."""
        if not found.ports:
            return
        for port in found.ports:
            port.socket.close()
        found.ports.clear()
        with contextlib.suppress(Unavailable):  # then it has closed them, too
            self.publisher.ask({"container": container_id, "drop": True})

    def _retarget(self, container_id: str, found: Container, targets: Sequence[str]) -> None:
        found.targets = tuple(targets)
        if found.ports:
            with contextlib.suppress(Unavailable):  # then it was told when it was started again
                self.publisher.ask(_published(container_id, found.targets, ()))

    def _all_ports(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        for container_id, found in self.containers.items():
            for start in range(0, len(found.ports), publish_main.MAX_FDS):
                some = found.ports[start : start + publish_main.MAX_FDS]
                fds = [port.socket.fileno() for port in some]
                yield _published(container_id, found.targets, some), fds

    # -- networks -----------------------------------------------------------------------

    def _ensure(self, network: NetworkRecord) -> None:
        """The network's bridge, with its addresses and rules.

        The default one may have become another since: then nobody is on it.
        """
        known = self.networks.get(network.id)
        if known == network or (known is not None and self._has_users(network.id)):
            return
        self.remove_network(network.id)
        name = rules.bridge_name(network.id)
        self.networks[network.id] = network
        try:
            self._route.add_bridge(name, mac=rules.mac_of(network.id), mtu=mtu_of(network))
            with contextlib.suppress(FileNotFoundError):
                set_sysctl(f"ipv6/conf/{name}/accept_ra", "0")
                if not network.ipv6:
                    set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
            for subnet in network.subnets:
                if subnet.gateway:
                    prefix = int(subnet.subnet.partition("/")[2])
                    self._route.add_address(name, subnet.gateway, prefix)
            self._rules.run(rules.of_network(network, add=True))
        except BaseException:
            self.networks.pop(network.id)
            self._route.remove(name)
            raise

    def _has_users(self, network_id: str) -> bool:
        return any(network_id in found.endpoints for found in self.containers.values())

    def remove_network(self, network_id: str) -> None:
        """Remove a bridge that no container is on; fine when there is none."""
        network = self.networks.pop(network_id, None)
        if network is None:
            return
        self._route.remove(rules.bridge_name(network_id))
        self._rules.run(rules.of_network(network, add=False))

    def leftovers(self) -> list[str]:
        """Links and elements of rules, as text: none where nothing is attached, for tests.

        The default bridge, which nobody makes or removes, goes for it if nobody is on it.
        """
        if not self._has_users(BRIDGE_ID):
            self.remove_network(BRIDGE_ID)
        names = (name for _, name in socket.if_nameindex())
        found = [f"link {name}" for name in names if name not in ("lo", OUT)]
        found += [f"container {container_id}" for container_id in self.containers]
        for family, kind, name in rules.ELEMENTS:
            listed = self._rules.run(f"list {kind} {family} rootless {name}")
            if "elements" in listed:
                found.append(f"elements of {family} {name}")
        return found + self.egress.leftovers()

    # -- the resolver --------------------------------------------------------------------

    def _opened(self, answer: dict[str, Any]) -> None:
        self.resolver.tell(answer)

    def _names(self, endpoint: Endpoint) -> dict[str, Any]:
        addresses = [a for a in (endpoint.ipv4_address, endpoint.ipv6_address) if a]
        return {
            "endpoint": endpoint.id,
            "network": endpoint.network_id,
            "domain": endpoint.network,
            "names": list(endpoint.names),
            "addresses": addresses,
        }

    def _client(self, container_id: str, found: Container) -> dict[str, Any]:
        outward = [e for e in found.endpoints.values() if not self.networks[e.network_id].internal]
        chains = {rules.chain_name(e.id): e.egress for e in outward}
        if found.own is not None:
            chains[PRIVATE_CHAIN] = found.own
        ways = None
        if any(chains.values()):
            patterns = self.egress.patterns
            ways = [patterns(container_id, c) if lists else [] for c, lists in chains.items()]
        return {
            "client": container_id,
            # Names on the default bridge are there for links only.
            "networks": [key for key in found.endpoints if key != BRIDGE_ID],
            "linked": list(found.endpoints),
            "servers": list(found.servers) if chains else [],
            "ways": ways,
            "links": dict(pair for e in found.endpoints.values() for pair in e.links),
        }

    def _tell_client(self, container_id: str, found: Container) -> None:
        fds = [one.fileno() for one in found.sockets]
        self.resolver.tell(self._client(container_id, found), fds)

    def _everything(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        for container_id, found in self.containers.items():
            for endpoint in found.endpoints.values():
                yield self._names(endpoint), []
            fds = [one.fileno() for one in found.sockets]
            yield self._client(container_id, found), fds


def _published(container_id: str, targets: Sequence[str], ports: Iterable[Port]) -> dict[str, Any]:
    return {
        "container": container_id,
        "targets": list(targets),
        "ports": [[port.protocol, port.container_port] for port in ports],
    }


def mtu_of(network: NetworkRecord) -> int:
    """Bytes of a packet on the network; checked when it was made."""
    return int(dict(network.options).get(MTU, DEFAULT_MTU))
