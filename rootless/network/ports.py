"""Published ports: which host port each gets, who has it, and Docker's words when it is taken.

The table knows this engine's containers; a real bind(2) knows everybody else.
Between that bind and slirp4netns' own a stranger can still take the port; then
slirp4netns refuses the forward and the caller asks again (:func:`explain_refusal`).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rootless.errors import Conflict, Exhausted, HostUnsupported, InvalidInput
from rootless.model.request import PortBinding

DEFAULT_HOST_IP = "127.0.0.1"
"""Where a port is published when no address is given; Docker's default is every address."""

EPHEMERAL_FALLBACK = (32768, 60999)

BACKLOG = 128
"""Clients that may wait to be accepted."""


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One forwarded port with its final host port; ``forward_id`` is slirp4netns', 0 before."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int
    forward_id: int = 0


Probe = Callable[[str, str, int], int]
"""(protocol, address, port) → errno of trying to bind there, 0 when free."""


def open_port(protocol: str, host_ip: str, port: int, *, share: bool = False) -> socket.socket:
    """A socket bound to a host port, which listens in the case of TCP; raises OSError.

    TCP uses SO_REUSEADDR as slirp4netns does: a port in TIME_WAIT is free, one
    that somebody listens on is not (socket(7)). For UDP the option would hide
    another owner, so it is on only when the port is to be shared. An IPv6
    address never takes the IPv4 port of the same number along.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if protocol == "tcp" or share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Link-local addresses carry the interface behind a %, which only getaddrinfo(3) reads.
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        made.bind(socket.getaddrinfo(host_ip, port, family, kind, 0, flags)[0][4])
        if protocol == "tcp":
            # Only listening settles it: two sockets with SO_REUSEADDR may bind.
            made.listen(BACKLOG)
    except socket.gaierror:
        made.close()
        raise OSError(errno.EADDRNOTAVAIL, host_ip) from None  # no such interface
    except BaseException:
        made.close()
        raise
    return made


def probe_bind(protocol: str, host_ip: str, port: int) -> int:
    """Bind and let go again; 0 when that worked, else errno."""
    try:
        open_port(protocol, host_ip, port).close()
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def ephemeral_range() -> tuple[int, int]:
    """The host's range for automatic ports, both ends included (ip(7), ip_local_port_range)."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first, last = file.read().split()
    except OSError:
        return EPHEMERAL_FALLBACK
    return int(first), int(last)


def unprivileged_start() -> int:
    """The first port an unprivileged process may bind (ip(7), ip_unprivileged_port_start)."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 1024


def check_binding(binding: PortBinding, default_ip: str) -> str:
    """The host address the binding is for, after refusing what cannot be published."""
    what = f"{binding.container_port}/{binding.protocol}"
    if binding.protocol not in ("tcp", "udp"):
        raise HostUnsupported(
            f"cannot publish port {what}: slirp4netns forwards tcp and udp only",
            hint="publish a tcp or udp port, or use --network host if the policy allows it",
        )
    text = binding.host_ip or default_ip
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(
            f"cannot publish port {what}: {text!r} is not an IP address",
            hint="write for example 127.0.0.1:8080:80",
        ) from None
    if address.version == 6 and address.ipv4_mapped:
        raise InvalidInput(
            f"cannot publish port {what} on [{address}], which is an IPv4 address",
            hint=f"write {address.ipv4_mapped}",
        )
    return str(address)


def overlaps(one: str, other: str) -> bool:
    """True when a port cannot be bound on both addresses: they are equal, or one is any."""
    if (":" in one) != (":" in other):
        return False
    return one == other or not {one, other}.isdisjoint(("0.0.0.0", "::"))


def endpoint(host_ip: str, port: int) -> str:
    """``127.0.0.1:80``, ``[::1]:80``."""
    return f"[{host_ip}]:{port}" if ":" in host_ip else f"{host_ip}:{port}"


def bind_error(protocol: str, host_ip: str, port: int, code: int) -> Exception:
    """The error for a host port that cannot be bound."""
    where = endpoint(host_ip, port)
    if code == errno.EAFNOSUPPORT:
        return HostUnsupported(
            f"cannot publish host port {where}/{protocol}: this host has no IPv6",
            hint="publish on 127.0.0.1, or start the host without ipv6.disable=1",
        )
    if code == errno.EACCES:
        first = unprivileged_start()
        return HostUnsupported(
            f"cannot publish host port {where}/{protocol}: ports below {first} need a privilege",
            hint=f"publish a port from {first} up, or: "
            f"sudo sysctl net.ipv4.ip_unprivileged_port_start={port}",
        )
    if code == errno.EADDRNOTAVAIL:
        return InvalidInput(
            f"cannot publish host port {where}/{protocol}: cannot assign requested address",
            hint="the address is none of this host's: see ip addr",
        )
    letter = "u" if protocol == "udp" else "t"
    return Conflict(
        f"failed to bind host port for {where}/{protocol}: {os.strerror(code).lower()}",
        hint=f"another program on this host has the port: ss -Hlpn{letter} sport = :{port}",
    )


class PortTable:
    """Host ports of all containers of this engine."""

    def __init__(
        self,
        *,
        default_ip: str = DEFAULT_HOST_IP,
        ephemeral: tuple[int, int] | None = None,
        probe: Probe = probe_bind,
    ) -> None:
        self._default_ip = default_ip
        self._first, self._last = ephemeral or ephemeral_range()
        self._next = self._first
        if ephemeral is None:
            # Engines of other users that began at the same port would race for each.
            self._next += secrets.randbelow(self._last - self._first + 1)
        self._probe = probe
        self._owners: dict[tuple[str, int], list[tuple[str, str]]] = {}
        """(protocol, host port) → (host address, container id)."""
        self._ports: dict[str, tuple[PublishedPort, ...]] = {}

    def reserve(
        self, container_id: str, bindings: Sequence[PortBinding]
    ) -> tuple[PublishedPort, ...]:
        """Give every binding a host port, all or none.

        Raises Conflict for a port that is taken, Exhausted when a range has no
        free one, HostUnsupported for sctp, privileged ports and IPv6 where the
        host has none, InvalidInput for an address that is not this host's.
        """
        if container_id in self._ports:
            raise Conflict(f"container {container_id} has published its ports already")
        self._ports[container_id] = ()
        try:
            # Fixed ports first: an automatic one must not take what the same request names.
            for binding in sorted(
                dict.fromkeys(bindings), key=lambda b: (b.host_port == 0, b.host_port_end > 0)
            ):
                self._add(container_id, self._choose(binding))
        except BaseException:
            self.release(container_id)
            raise
        return self._ports[container_id]

    def adopt(self, container_id: str, ports: Iterable[PublishedPort]) -> None:
        """Take over what a running container has, after a restart of the daemon."""
        self.release(container_id)
        self._ports[container_id] = ()
        for port in ports:
            self._add(container_id, port)

    def update(self, container_id: str, ports: tuple[PublishedPort, ...]) -> None:
        """Store the same ports with their forward ids."""
        self._ports[container_id] = ports

    def release(self, container_id: str) -> None:
        """Free a container's ports; one without any is fine."""
        for port in self._ports.pop(container_id, ()):
            key = (port.protocol, port.host_port)
            left = [o for o in self._owners[key] if o != (port.host_ip, container_id)]
            if left:
                self._owners[key] = left
            else:
                del self._owners[key]

    def of(self, container_id: str) -> tuple[PublishedPort, ...]:
        """The ports of a container, in the order they were given."""
        return self._ports.get(container_id, ())

    def _add(self, container_id: str, port: PublishedPort) -> None:
        owners = self._owners.setdefault((port.protocol, port.host_port), [])
        owners.append((port.host_ip, container_id))
        self._ports[container_id] = (*self._ports[container_id], port)

    def _allocated(self, protocol: str, host_ip: str, port: int) -> bool:
        return any(overlaps(host_ip, ip) for ip, _ in self._owners.get((protocol, port), ()))

    def _choose(self, binding: PortBinding) -> PublishedPort:
        host_ip = check_binding(binding, self._default_ip)
        protocol = binding.protocol
        if binding.host_port and not binding.host_port_end:
            port = binding.host_port
            if self._allocated(protocol, host_ip, port):
                raise Conflict(
                    f"Bind for {endpoint(host_ip, port)} failed: port is already allocated",
                    hint="another container has it: rootless ps shows which",
                )
            if code := self._probe(protocol, host_ip, port):
                raise bind_error(protocol, host_ip, port, code)
            return PublishedPort(binding.container_port, protocol, host_ip, port)
        candidates: Iterable[int] = (
            range(binding.host_port, binding.host_port_end + 1)
            if binding.host_port
            else self._automatic()
        )
        last = 0
        for port in candidates:
            if self._allocated(protocol, host_ip, port):
                continue
            last = self._probe(protocol, host_ip, port)
            if not last:
                if not binding.host_port:
                    self._next = port + 1
                return PublishedPort(binding.container_port, protocol, host_ip, port)
            if last not in (errno.EADDRINUSE, errno.EACCES):
                raise bind_error(protocol, host_ip, port, last)
        if last == errno.EACCES:
            raise bind_error(protocol, host_ip, binding.host_port, last)
        first, end = (
            (binding.host_port, binding.host_port_end)
            if binding.host_port
            else (self._first, self._last)
        )
        raise Exhausted(
            f"no free {protocol} port on {host_ip} in the range {first}-{end} "
            f"for container port {binding.container_port}",
            hint="remove a container that has one, or give a wider range",
        )

    def _automatic(self) -> Iterator[int]:
        """The ephemeral range, beginning after the last port handed out, so reuse comes late."""
        start = self._next if self._first <= self._next <= self._last else self._first
        yield from range(start, self._last + 1)
        yield from range(self._first, start)


def explain_refusal(port: PublishedPort, *, probe: Probe = probe_bind) -> Exception:
    """The error for a forward that slirp4netns refused after the port had been found free."""
    code = probe(port.protocol, port.host_ip, port.host_port)
    return bind_error(port.protocol, port.host_ip, port.host_port, code or errno.EADDRINUSE)


def given_up(port: PublishedPort) -> str:
    """What is said of a port that a stranger took while what served it was away."""
    where = endpoint(port.host_ip, port.host_port)
    return f"port {where}/{port.protocol} was taken meanwhile and is not published any more"


def with_id(port: PublishedPort, forward_id: int) -> PublishedPort:
    """The port with slirp4netns' id of its forward."""
    return replace(port, forward_id=forward_id)
