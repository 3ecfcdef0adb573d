"""Network, namespaces and published ports (pure)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from rootless.engine.settings import EngineSettings
from rootless.errors import Conflict, HostUnsupported, InvalidInput
from rootless.model.facts import HostFacts
from rootless.model.mounts import IdMap
from rootless.model.network import BRIDGE, Attachment
from rootless.model.records import ContainerRecord
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    EndpointRequest,
    HostConfig,
    PortBinding,
)
from rootless.model.spec import NamespacesSpec, NetworkSpec
from rootless.model.sysctls import network_sysctls
from rootless.network import files
from rootless.network.predefined import PREDEFINED
from rootless.units import whole_number

Lookup = Callable[[str], ContainerRecord]
"""A container by id, prefix or name; NotFound."""

UNNAMED = ("", "default")
"""Names of no network in particular."""

_MAC = re.compile(r"([0-9A-Fa-f]{2})(?::[0-9A-Fa-f]{2}){5}", re.ASCII)
_PROTOCOLS = ("tcp", "udp", "sctp")
_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax "
    "kernel.shmmni kernel.shm_rmid_forced kernel.domainname".split()
)
"""Those of the IPC namespace (ipc_namespaces(7)) and the NIS domain name."""
_HOST_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def resolve_namespaces(host: HostConfig, network: str, lookup: Lookup) -> NamespacesSpec:
    """Which namespaces are new, the host's, or another container's (with its full id)."""
    return NamespacesSpec(
        network={"host": "host"}.get(network, "private")
        if not network.startswith("container:")
        else network,
        ipc=_mode("ipc", host.ipc_mode, ("private", "shareable", "none", "host"), lookup),
        pid=_mode("pid", host.pid_mode, ("private", "host"), lookup),
        uts=_mode("uts", host.uts_mode, ("private", "host"), None),
        cgroup=_mode("cgroup", host.cgroupns_mode, ("private", "host"), None),
        time="private" if host.time_namespace else "host",
    )


def _mode(kind: str, mode: str, known: tuple[str, ...], lookup: Lookup | None) -> str:
    if mode in ("", "private"):
        return "private"
    if mode.startswith("container:") and lookup is not None:
        return f"container:{_joined(mode, lookup)}"
    if mode not in known:
        name = "cgroup namespace" if kind == "cgroup" else kind.upper()
        raise InvalidInput(f"invalid {name} mode: {mode}")
    return "host" if mode == "host" else "private"


def _joined(mode: str, lookup: Lookup) -> str:
    name = mode.partition(":")[2]
    if not name:
        raise InvalidInput(f"invalid namespace mode: {mode}")
    return lookup(name).id


def network_mode(host: HostConfig, config: ContainerConfig, settings: EngineSettings,
                 lookup: Lookup) -> str:  # fmt: skip
    """slirp4netns, bridge, none, host or ``container:ID`` from what clients write."""
    mode = plain(host.network_mode, settings)
    if config.network_disabled:
        return "none"
    if mode == "bridge" and not settings.bridge:
        raise InvalidInput(
            "network bridge not found: the daemon's configuration says bridge: none",
            hint="--network slirp4netns asks for a network by name",
        )
    if mode in ("slirp4netns", "none", "host"):
        return mode
    if mode.startswith("container:"):
        return f"container:{_joined(mode, lookup)}"
    return BRIDGE  # that of the name, or a network of the user's


def check_endpoints(
    endpoints: Sequence[EndpointRequest], host: HostConfig, settings: EngineSettings
) -> None:
    """Refuse networks (``EndpointsConfig``) other than the one of the network mode.

    Whoever asks for none and gets it must be able to rely on it. Networks of the
    user's are looked at elsewhere (``resolve_attachments``).
    """
    mode = plain(host.network_mode, settings)
    for endpoint in endpoints:
        wanted = plain(endpoint.network, settings)
        if not _is_alone(wanted):
            continue
        if not _is_alone(mode) and wanted == "slirp4netns":
            continue  # besides bridges
        if wanted != mode:
            raise InvalidInput(
                f"conflicting options: network mode {host.network_mode or 'default'} and network "
                f"{endpoint.network or 'default'}",
                hint="only slirp4netns can be had together with other networks",
            )
        check_endpoint(endpoint)


def check_endpoint(endpoint: EndpointRequest) -> None:
    """Refuse what only networks of one's own could keep; an address that is not given is a lie."""
    if endpoint.ipv4_address or endpoint.ipv6_address or endpoint.link_local_ips:
        raise InvalidInput(
            "user specified IP address is supported on user defined networks only",
            hint="rootless network create --subnet …",
        )
    if endpoint.aliases:
        raise InvalidInput(
            "network-scoped aliases are only supported for user-defined networks",
            hint="rootless network create NAME",
        )
    check_mac(endpoint.mac_address)
    check_options(endpoint)


def check_options(endpoint: EndpointRequest) -> None:
    """Only options that mean something to drivers of Docker's are missed when they do nothing."""
    for key, _ in endpoint.driver_opts:
        if key.startswith("com.docker.network."):
            raise InvalidInput(
                f"network option {key[:80]} of a container is not supported",
                hint="leave it out; sysctls of the container's network can be set with --sysctl",
            )


def _is_alone(name: str) -> bool:
    """True for a network that is no bridge."""
    return name.startswith("container:") or name in PREDEFINED


def check_mac(text: str) -> None:
    """Refuse an address that no interface can have; '' is fine."""
    if text and not _is_unicast(text):
        raise InvalidInput(
            f"invalid MAC address: {text[:80]}",
            hint="six pairs of hexadecimal digits, the first of them even: 92:d0:c6:0a:29:33",
        )


def _is_unicast(text: str) -> bool:
    """A MAC address that an interface can have: bit 0 of its first byte marks groups (IEEE 802)."""
    found = _MAC.fullmatch(text)
    return found is not None and not int(found[1], 16) & 1 and set(text) - {":", "-"} != {"0"}


def plain(name: str, settings: EngineSettings) -> str:
    """The network that several names mean."""
    if name in UNNAMED:
        name = settings.default_network
    return "slirp4netns" if name == "private" else name


def resolve_network(
    host: HostConfig,
    config: ContainerConfig,
    mode: str,
    settings: EngineSettings,
    *,
    mac_address: str = "",
    attachments: tuple[Attachment, ...] = (),
) -> NetworkSpec:
    """The network's final form; refuses what contradicts the mode, in Docker's words."""
    ports = _ports(host, config, settings) if mode in ("slirp4netns", BRIDGE) else ()
    for server in host.dns:
        files.check_dns(server)
    for word in (*host.dns_search, *host.dns_options):
        files.check_word(word, "DNS search domain or option")
    return NetworkSpec(
        mode=mode,
        ports=ports,
        dns=host.dns or settings.dns,
        dns_options=host.dns_options or settings.dns_options,
        dns_search=host.dns_search or settings.dns_search,
        extra_hosts=tuple(
            entry for text in host.extra_hosts for entry in _extra_hosts(text, settings)
        ),
        mac_address=mac_address,
        attachments=attachments,
        asked_mode=_shown_mode(host, mode, settings, attachments),
        ipv6=settings.ipv6,
    )


def _shown_mode(
    host: HostConfig, mode: str, settings: EngineSettings, attachments: Sequence[Attachment]
) -> str:
    """What inspect shows as the mode of a container on bridges; '' for the mode itself."""
    if not attachments or mode != BRIDGE:
        return ""
    name = plain(host.network_mode, settings)
    return attachments[0].network if name in PREDEFINED else name


def check_joining(request: ContainerRequest) -> None:
    """Refuse what belongs to whoever has the network, in Docker's words.

    Of the request only: what an image exposes is no wish of the client's.
    """
    host, config = request.host, request.config
    conflicts = (
        (bool(config.hostname), "hostname and the network mode"),
        (bool(host.links), "container type network can't be used with links. "
         "This would result in undefined behavior"),
        (bool(host.dns), "dns and the network mode"),
        (bool(host.extra_hosts), "custom host-to-IP mapping and the network mode"),
        (any(e.mac_address for e in request.endpoints), "mac-address and the network mode"),
        (bool(host.port_bindings) or host.publish_all_ports,
         "port publishing and the container type network mode"),
        (bool(config.exposed_ports), "port exposing and the container type network mode"),
    )  # fmt: skip
    for wrong, text in conflicts:
        if wrong:
            raise InvalidInput(f"conflicting options: {text}")


def _address(text: str, *, what: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(f"invalid {what}: {text} is not an IP address") from None


def _extra_hosts(entry: str, settings: EngineSettings) -> Sequence[str]:
    """The entry with an address: those of ``host-gateway`` are in the daemon's configuration."""
    name, separator, address = entry.partition("=" if "=" in entry else ":")
    if not separator or not _HOST_NAME.fullmatch(name):
        raise InvalidInput(f'bad format for add-host: "{entry}"')
    gateways = settings.host_gateways
    files.parse_extra_host(entry, gateways[0] if gateways else None)
    if address != "host-gateway":
        return (entry,)
    return tuple(f"{name}={gateway}" for gateway in gateways)


def _ports(
    host: HostConfig, config: ContainerConfig, settings: EngineSettings
) -> tuple[PortBinding, ...]:
    bindings = list(host.port_bindings)
    if host.publish_all_ports:
        published = {(b.container_port, b.protocol) for b in bindings}
        for text in config.exposed_ports:
            for port, protocol in parse_exposed(text):
                if (port, protocol) not in published:
                    bindings.append(PortBinding(port, protocol))  # type: ignore[arg-type]  # parse_exposed knows three
    return tuple(_port(binding, settings) for binding in bindings)


def _port(binding: PortBinding, settings: EngineSettings) -> PortBinding:
    if binding.protocol not in _PROTOCOLS:
        raise InvalidInput(f"invalid proto: {binding.protocol}")
    if binding.protocol == "sctp":
        raise HostUnsupported(
            f"cannot publish {binding.container_port}/sctp: slirp4netns forwards tcp and udp only"
        )
    if not 1 <= binding.container_port <= 65535:
        raise InvalidInput(f"invalid containerPort: {binding.container_port}")
    if not 0 <= binding.host_port <= 65535 or not 0 <= binding.host_port_end <= 65535:
        raise InvalidInput(f"invalid hostPort: {binding.host_port}")
    if binding.host_ip:
        _address(binding.host_ip, what="IP address")
    return replace(binding, host_ip=binding.host_ip or settings.publish_address)


def parse_exposed(text: str) -> Sequence[tuple[int, str]]:
    """``80``, ``80/udp``, ``8000-8010/tcp`` as (port, protocol) pairs."""
    numbers, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    first, dash, last = numbers.partition("-")
    start, end = whole_number(first) or 0, whole_number(last if dash else first) or 0
    if protocol not in _PROTOCOLS or not 1 <= start <= end <= 65535:
        raise InvalidInput(f"invalid port specification: {text}")
    return [(port, protocol) for port in range(start, end + 1)]


def resolve_sysctls(
    host: HostConfig, namespaces: NamespacesSpec, maps: Sequence[IdMap]
) -> tuple[tuple[str, str], ...]:
    """Only sysctls of a namespace the container owns: others would be the host's.

    What was asked for comes over the defaults of a network of its own.
    """
    for key, value in host.sysctls:
        dotted = key.replace("/", ".")
        if ".." in dotted or "\0" in value or "\n" in value:
            raise InvalidInput(f"invalid sysctl: {key!r}")
        if dotted.startswith("net."):
            if namespaces.network != "private":
                raise InvalidInput(f"sysctl '{key}' not allowed in host network namespace")
        elif dotted.startswith("fs.mqueue.") or dotted in _SYSCTLS:
            if namespaces.ipc != "private":
                raise InvalidInput(f"sysctl '{key}' not allowed in host ipc namespace")
        else:
            raise InvalidInput(
                f"sysctl '{key}' is not whitelisted",
                hint="only sysctls of the container's own network and IPC namespaces can be set",
            )
    found = dict(network_sysctls(maps)) if namespaces.network == "private" else {}
    found.update((key.replace("/", "."), value) for key, value in host.sysctls)
    return tuple(found.items())


def check_donor(record: ContainerRecord, kind: str) -> None:
    """Refuse to join a namespace that is not there or not meant to be shared."""
    state = record.state
    if state.status == "restarting":
        raise Conflict(
            f"Container {record.name} is restarting, wait until the container is running"
        )
    if not state.running:
        text = f"failed to join {kind.upper()} namespace: container {record.id} is not running"
        if kind == "network":
            text = (
                f"cannot join network namespace of a non running container: "
                f"container {record.name} is {state.status}"
            )
        raise Conflict(text, hint=f"rootless start {record.name}")
    shared = record.spec.request.host.ipc_mode.partition(":")[0]
    if kind == "ipc" and shared not in ("shareable", "host", "container"):
        raise InvalidInput(
            f"container {record.id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)"
        )


def check_network_host(mode: str, facts: HostFacts) -> None:
    """Refuse a network where its program is missing."""
    if mode in ("slirp4netns", BRIDGE) and not facts.slirp4netns:
        raise HostUnsupported(
            f"network {mode} needs slirp4netns, which is not installed",
            hint="sudo apt-get install slirp4netns, or run with --network none",
        )
