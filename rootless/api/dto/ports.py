"""Published ports, in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

from rootless.api.dto.decode import Body
from rootless.errors import InvalidInput
from rootless.model.request import PortBinding
from rootless.units import whole_number

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
Protocol = Literal["tcp", "udp", "sctp"]


class HostPort(Body, frozen=True):
    """One value of ``PortBindings``; ``host_port`` may be '', a number or a range."""

    host_ip: str = ""
    host_port: str = ""


def parse_exposed(text: str) -> list[tuple[int, Protocol]]:
    """The ports of ``80``, ``80/udp`` or ``8000-8010/tcp``."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise InvalidInput(f"invalid port specification: {text!r}", hint="write PORT[/PROTOCOL]")
    first, last = int(match[1]), int(match[2] or match[1])
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise InvalidInput(f"invalid proto: {protocol}", hint="tcp, udp or sctp")
    if not 0 < first <= last <= 65535:
        raise InvalidInput(f"invalid port specification: {text!r}: out of range 1-65535")
    return [(port, cast(Protocol, protocol)) for port in range(first, last + 1)]


def _host_range(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    first, dash, last = text.partition("-")
    start, end = whole_number(first), whole_number(last) if dash else 0
    if start is None or end is None:
        raise InvalidInput(f"invalid port specification: {text!r}")
    if start > 65535 or end > 65535 or (dash and end < start):
        raise InvalidInput(f"invalid port specification: {text!r}: out of range 1-65535")
    return start, end


def to_bindings(wanted: Mapping[str, Sequence[HostPort]]) -> tuple[PortBinding, ...]:
    """``PortBindings`` as a flat list; no host port given asks for a free one."""
    bindings = []
    for text, hosts in wanted.items():
        for port, protocol in parse_exposed(text):
            for host in hosts or (HostPort(),):
                start, end = _host_range(host.host_port)
                bindings.append(PortBinding(port, protocol, host.host_ip, start, end))
    return tuple(bindings)


def port_map(
    bindings: Iterable[PortBinding], exposed: Iterable[str] = ()
) -> dict[str, list[dict[str, str]] | None]:
    """``PortBindings`` and ``NetworkSettings.Ports``; exposed but unpublished ports are null."""
    found: dict[str, list[dict[str, str]] | None] = {
        text if "/" in text else f"{text}/tcp": None for text in exposed
    }
    for binding in bindings:
        key = f"{binding.container_port}/{binding.protocol}"
        port = str(binding.host_port) if binding.host_port else ""
        if binding.host_port_end:
            port = f"{port}-{binding.host_port_end}"
        entry = {"HostIp": binding.host_ip, "HostPort": port}
        found[key] = [*(found.get(key) or ()), entry]
    return dict(sorted(found.items()))  # as Go writes a map


def port_list(
    bindings: Iterable[PortBinding], exposed: Iterable[str] = ()
) -> list[dict[str, object]]:
    """``Ports`` of a list: one entry for each bound address, then what is merely exposed."""
    entries: list[dict[str, object]] = []
    bound = set()
    for binding in bindings:
        bound.add((binding.container_port, binding.protocol))
        entry: dict[str, object] = {
            "PrivatePort": binding.container_port,
            "PublicPort": binding.host_port,
            "Type": binding.protocol,
        }
        entries.append({"IP": binding.host_ip, **entry} if binding.host_ip else entry)
    for text in exposed:
        for port, protocol in parse_exposed(text):
            if (port, protocol) not in bound:
                entries.append({"PrivatePort": port, "Type": protocol})
    return entries
