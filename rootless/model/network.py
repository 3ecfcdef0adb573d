"""Networks that users make, and how containers hang on them.

Addresses are text as :mod:`ipaddress` writes it; '' stands for none.
"""

from __future__ import annotations

from dataclasses import dataclass

BRIDGE = "bridge"
"""The driver of networks that users make, and the mode of containers on them."""

ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
MTU = "com.docker.network.driver.mtu"
EGRESS = "egress"
"""Options of a bridge network; the last one also of a container on it (:mod:`model.egress`)."""

PortRanges = tuple[tuple[str, int, int], ...]
"""Ports by protocol, first and last; no two have one in common."""

EgressLists = tuple[tuple[str, ...], ...]
"""Egress lists that all count: what one of them does not allow is denied."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """One address range of a network; ``asked`` when the user named it.

    Only then may containers ask for addresses in it (as in Docker: another
    engine could choose another range). ``reserved`` are name and address of
    what else has a place in it.
    """

    subnet: str
    gateway: str = ""
    ip_range: str = ""
    reserved: tuple[tuple[str, str], ...] = ()
    asked: bool = True


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """One bridge network, as state.db keeps it. ``options`` are the driver's."""

    id: str
    name: str
    created_ns: int
    subnets: tuple[Subnet, ...]
    driver: str = BRIDGE
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    ipam_options: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    """Who made it (``Identity.key``, '*' for everybody's); '' where nobody wrote that down."""

    def flag(self, option: str, *, default: bool) -> bool:
        """A boolean option; its text was checked when the network was made."""
        text = dict(self.options).get(option, "")
        return text.lower() in ("1", "t", "true") if text else default


@dataclass(frozen=True, slots=True)
class Attachment:
    """A network a container is to be on, and what it asks for there."""

    network_id: str
    network: str
    """The network's name."""
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    mac_address: str = ""
    gateway_priority: int = 0
    links: tuple[tuple[str, str], ...] = ()
    """(alias, name): what only this container calls another one on its networks."""
    driver_opts: tuple[tuple[str, str], ...] = ()
    """What is only kept and shown."""
    outward: bool = True
    """Whether the network is a way out: not internal."""
    network_egress: tuple[str, ...] | None = None
    egress: tuple[str, ...] | None = None
    """Egress lists of the network, and of this container on it (:mod:`model.egress`)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running container's place on a network."""

    network_id: str
    network: str
    id: str
    """64 hex digits, new at each start."""
    interface: str
    """Inside the container: eth0, eth1 …"""
    mac_address: str
    ipv4_address: str = ""
    ipv4_prefix: int = 0
    ipv4_gateway: str = ""
    ipv6_address: str = ""
    ipv6_prefix: int = 0
    ipv6_gateway: str = ""
    names: tuple[str, ...] = ()
    """What others on the network find it by; the first one answers a reverse look-up."""
    links: tuple[tuple[str, str], ...] = ()
    exposed: PortRanges = ()
    """Ports that who is linked to it reaches where containers are kept apart."""
    egress: EgressLists = ()
    """Where it may connect to beyond the network; everywhere when there is no list."""
    default_ipv4: bool = False
    default_ipv6: bool = False
    """Whether what is for nobody on its networks leaves through this one."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Where a container was not let, and how often. Times are nanoseconds since 1970."""

    container: str
    """Its full id; ``name`` is '' when it was gone before this was known."""
    name: str
    network: str
    reason: str
    """destination, name, or private (a name that leads to no public address)."""
    protocol: str
    """tcp, udp, icmp, a number, or dns for what was only asked for."""
    destination: str
    """'' for those that there were too many of to tell apart."""
    port: int
    count: int
    first_ns: int
    last_ns: int
    owner: str = ""
    """The key of whose container it is; '' when that was not known."""

    @property
    def target(self) -> str:
        """``198.51.100.7:443/tcp``, ``[2001:db8::7]:443/tcp``, ``evil.test``; '' for many."""
        host = f"[{self.destination}]" if ":" in self.destination else self.destination
        if self.port:
            return f"{host}:{self.port}/{self.protocol}"
        if self.destination and self.protocol not in ("", "dns"):
            return f"{self.destination}/{self.protocol}"
        return self.destination
