"""The files that tell a container its name and its resolvers: resolv.conf, hosts, hostname.

Rendering is pure. The files are written to the container's directory and
mounted read-only or read-write over /etc/resolv.conf, /etc/hosts, /etc/hostname.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rootless.errors import InvalidInput
from rootless.model.spec import NetworkSpec
from rootless.network.addresses import (
    CONTAINER_IPV4,
    FORWARDER_IPV4,
    FORWARDER_IPV6,
    RESOLVER,
)

MAX_HOSTNAME = 64
"""HOST_NAME_MAX on Linux (sethostname(2))."""

_ZONE = re.compile(r"[A-Za-z0-9_.:-]{1,15}", re.ASCII)
"""An interface's name (IFNAMSIZ) or number: what follows the % of fe80::1%eth0."""
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says; the last ``search`` or ``domain`` line counts (resolv.conf(5))."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostsEntry:
    """One line of a hosts file."""

    address: str
    names: tuple[str, ...]


def parse_resolv_conf(text: str) -> Resolver:
    """Read a resolv.conf; lines that are not understood are passed over, as the C library does."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        if line.startswith(("#", ";")):
            continue
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and _address(words[1]) is not None:
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:]) if words[0] == "search" else (words[1],)
        elif words[0] == "options":
            options += words[1:]
    return Resolver(tuple(nameservers), search, tuple(options))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    # A zone such as fe80::1%eth0 is part of the address for the resolver.
    address, percent, zone = text.partition("%")
    if percent and not _ZONE.fullmatch(zone):
        return None
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def forwarders(host: Resolver, *, ipv6: bool) -> tuple[str, ...]:
    """slirp4netns' own resolver addresses that have one of the host's behind them.

    It forwards each family to the host's first resolver of that family, also
    when that is on the host's loopback (systemd-resolved's 127.0.0.53), which
    the container could not reach by itself.
    """
    versions = {a.version for a in map(_address, host.nameservers) if a is not None}
    found = [FORWARDER_IPV4] if 4 in versions or not versions else []
    if ipv6 and 6 in versions:
        found.append(FORWARDER_IPV6)
    return tuple(found or [FORWARDER_IPV4])


def render_resolv_conf(spec: NetworkSpec, host_text: str) -> str:
    """The container's resolv.conf.

    ``--dns``, ``--dns-search`` and ``--dns-option`` each replace what the host
    says, as in Docker. ``--dns-search=.`` means no search list. In mode host
    the host's resolvers are kept as they are; in mode none there are none
    unless asked for. On bridge networks, and with an egress list, it is the engine's own,
    which asks those that are asked for.
    """
    host = parse_resolv_conf(host_text)
    if spec.attachments or spec.egress is not None:
        nameservers: tuple[str, ...] = (RESOLVER,)
    elif spec.dns:
        nameservers = tuple(check_dns(text) for text in spec.dns)
    elif spec.mode == "host":
        nameservers = host.nameservers
    elif spec.mode == "none":
        nameservers = ()
    else:
        nameservers = forwarders(host, ipv6=spec.ipv6)
    search = tuple(spec.dns_search or host.search)
    options = tuple(spec.dns_options or host.options)
    if spec.attachments and not any(option.startswith("ndots:") for option in options):
        options = (*options, "ndots:0")  # names of containers have no dots
    for value in (*search, *options):
        check_word(value, "DNS search domain or option")
    lines = [f"nameserver {address}" for address in nameservers]
    if search and search != (".",):
        lines.append("search " + " ".join(d for d in search if d != "."))
    if options:
        lines.append("options " + " ".join(options))
    return "".join(f"{line}\n" for line in lines)


def check_dns(text: str) -> str:
    """Return ``text`` or refuse what is no address: it becomes a line of resolv.conf."""
    if _address(text) is None:
        raise InvalidInput(
            f"invalid DNS server: {text!r} is not an IP address",
            hint="write for example --dns 9.9.9.9",
        )
    return text


def check_word(text: str, what: str) -> None:
    """Refuse what would start another word or line in the file."""
    if not text or any(c.isspace() or not c.isprintable() for c in text):
        raise InvalidInput(f"invalid {what}: {text!r}")


def parse_extra_host(text: str, host_gateway: str | None) -> HostsEntry:
    """One ``--add-host``: ``name:address`` or ``name=address``, IPv6 with or without brackets.

    ``host_gateway`` stands for the address of that name; ``None`` refuses it.
    """
    name, separator, address = text.partition("=" if "=" in text else ":")
    address = address.removeprefix("[").removesuffix("]")
    if not separator or not name or not address:
        raise InvalidInput(
            f"bad format for add-host: {text!r}", hint="write --add-host name:address"
        )
    check_word(name, "host name in add-host")
    if address == "host-gateway":
        if host_gateway is None:
            raise InvalidInput(
                f"add-host {text!r}: host-gateway has no address here, "
                "the host's loopback is out of a container's reach",
                hint="give an address of the host's that its service listens on, "
                'or set "host-gateway-ip" in daemon.json',
            )
        address = host_gateway
    if _address(address) is None:
        raise InvalidInput(f"invalid IP address in add-host: {address!r}")
    return HostsEntry(address, (name,))


def render_hosts(
    spec: NetworkSpec,
    *,
    hostname: str,
    domainname: str = "",
    aliases: Sequence[str] = (),
    host_gateway: str | None = None,
    addresses: Sequence[str] = (),
    linked: Sequence[tuple[str, tuple[str, ...]]] = (),
) -> str:
    """The container's hosts file: loopback, ``--add-host`` entries, its own names.

    ``addresses`` are the container's on bridge networks, ``linked`` others' with their names.
    """
    entries = [HostsEntry("127.0.0.1", ("localhost",))]
    if spec.ipv6:
        entries += [
            HostsEntry("::1", ("localhost", "ip6-localhost", "ip6-loopback")),
            HostsEntry("fe00::0", ("ip6-localnet",)),
            HostsEntry("ff00::0", ("ip6-mcastprefix",)),
            HostsEntry("ff02::1", ("ip6-allnodes",)),
            HostsEntry("ff02::2", ("ip6-allrouters",)),
        ]
    entries += [parse_extra_host(text, host_gateway) for text in spec.extra_hosts]
    full = (f"{hostname}.{domainname}",) if domainname else ()
    names = tuple(dict.fromkeys((*full, hostname, *aliases)))
    own = [CONTAINER_IPV4, *addresses] if spec.mode == "slirp4netns" else addresses or ["127.0.1.1"]
    if hostname:
        entries += [HostsEntry(address, names) for address in own]
    entries += [HostsEntry(address, others) for address, others in linked]
    return "".join(f"{entry.address}\t{' '.join(entry.names)}\n" for entry in entries)


def check_hostname(text: str) -> str:
    """Return ``text`` or refuse what cannot be a host name (hostname(7), RFC 1123)."""
    if len(text) > MAX_HOSTNAME:
        raise InvalidInput(f"invalid hostname: {text!r} is longer than {MAX_HOSTNAME} characters")
    if not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise InvalidInput(
            f"invalid hostname format: {text!r}", hint="use letters, digits, hyphens and dots"
        )
    return text


def render_hostname(hostname: str) -> str:
    """The container's /etc/hostname."""
    return f"{hostname}\n"


def read_host_resolv_conf() -> str:
    """The host's resolv.conf, '' when it has none."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
