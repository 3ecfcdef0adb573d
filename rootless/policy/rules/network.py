"""Networks and published ports."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from rootless.model import egress
from rootless.model.network import BRIDGE
from rootless.policy.kinds import address_within, matches_pattern
from rootless.policy.rules.base import Case, Violation, rule

_MODES = frozenset("default bridge private none host container slirp4netns".split())
_FIELD = "HostConfig.PortBindings"


@rule(
    "network.mode",
    "high",
    keys=("network.allowModes",),
    references=("NIST 800-190 4.4.2",),
    remediation="use a network mode that network.allowModes names",
)
def mode(case: Case) -> Iterator[Violation]:
    """Only the allowed kinds of network."""
    allow = case.policy.names_of("network.allowModes")
    kinds = [case.spec.network.mode.partition(":")[0]]
    if case.spec.network.attachments and BRIDGE not in kinds:
        kinds.append(BRIDGE)
    for kind in kinds:
        if allow is not None and kind not in allow:
            yield Violation(
                "HostConfig.NetworkMode",
                kind,
                f"allowed are {', '.join(sorted(allow)) or 'none at all'}",
                "network.allowModes",
            )


@rule(
    "network.name",
    "high",
    keys=("network.allowNetworks",),
    references=("NIST 800-190 4.4.2",),
    remediation="use a network that network.allowNetworks names",
)
def name(case: Case) -> Iterator[Violation]:
    """Of the bridge networks, ``bridge`` among them, only the allowed ones, by name."""
    allow = case.policy.names_of("network.allowNetworks")
    for network in network_names(case) if allow is not None else ():
        if not matches_pattern(network, allow or frozenset()):
            reason = "the policy does not allow this network"
            yield Violation("HostConfig.NetworkMode", network, reason, "network.allowNetworks")


def network_names(case: Case) -> tuple[str, ...]:
    """The networks of its own kind that a container is on; a file names one by its mode."""
    found = tuple(attachment.network for attachment in case.spec.network.attachments)
    mode = case.spec.request.host.network_mode
    if case.offline and not found and mode and mode.partition(":")[0] not in _MODES:
        return (mode,)
    return found


@rule(
    "network.egress",
    "high",
    keys=("network.egress", "network.requireEgress"),
    references=("NIST 800-190 4.4.2",),
    remediation="let the container connect to what it needs only: --network-opt "
    "egress=DESTINATION:PORT, egress=none, or --network none",
)
def outward(case: Case) -> Iterator[Violation]:
    """A container has a list of where it may connect to, which goes no further than allowed.

    Every way out counts, with all lists that hold there.
    """
    allow = case.policy.names_of("network.egress")
    if allow is None and not case.policy.requires("network.requireEgress"):
        return
    key = "network.egress" if allow is not None else "network.requireEgress"
    for name, lists in case.spec.network.ways_out:
        if not lists:
            reason = f"no egress list is known to hold on network {name}"
            yield Violation("HostConfig.NetworkMode", name, reason, key)
        elif allow is not None:
            for item in egress.beyond(reduce(egress.intersect, lists), allow):
                reason = f"allowed are {', '.join(sorted(allow)) or 'no destinations'}"
                yield Violation("HostConfig.NetworkMode", item, reason, key)


@rule(
    "network.host-gateway",
    "high",
    keys=("network.allowHostGateway",),
    references=("NIST 800-190 4.4.2",),
    remediation="leave out --add-host NAME:host-gateway, or allow it in network.allowHostGateway",
)
def host_gateway(case: Case) -> Iterator[Violation]:
    """No name leads to the host."""
    if case.policy.permits("network.allowHostGateway"):
        return
    for entry in case.spec.request.host.extra_hosts:
        if entry.partition("=" if "=" in entry else ":")[2] == "host-gateway":
            reason = "the policy allows no access to the host"
            yield Violation("HostConfig.ExtraHosts", entry, reason, "network.allowHostGateway")


@rule(
    "ports.address",
    "high",
    keys=("ports.allowAddresses",),
    references=("CIS 5.14",),
    remediation="publish on 127.0.0.1, or allow the address in ports.allowAddresses",
)
def address(case: Case) -> Iterator[Violation]:
    """Published ports are reachable from where the policy says."""
    allow = case.policy.names_of("ports.allowAddresses")
    if allow is None:
        return
    for port in case.spec.network.ports:
        # No address means every address, as for bind(2).
        host = port.host_ip or "0.0.0.0"
        if not address_within(host, allow):
            yield Violation(
                _FIELD,
                f"{host}:{port.host_port or ''}:{port.container_port}/{port.protocol}",
                "the port would be open to other machines or users of this address",
                "ports.allowAddresses",
            )


@rule(
    "ports.privileged",
    "medium",
    keys=("ports.minimumHostPort",),
    references=("CIS 5.8", "PSS baseline: hostPorts"),
    remediation="publish on a higher port of the host",
)
def privileged(case: Case) -> Iterator[Violation]:
    """Low ports are for the system's own services."""
    lowest = case.policy.number("ports.minimumHostPort")
    if lowest is None:
        return
    for port in case.spec.network.ports:
        if 0 < port.host_port < lowest:
            yield Violation(
                _FIELD,
                f"{port.host_port}:{port.container_port}/{port.protocol}",
                f"ports of the host below {lowest} are not allowed",
                "ports.minimumHostPort",
                f"publish on a port from {lowest}: -p {port.host_port + 8000}"
                f":{port.container_port}",
            )


RULES = (mode, name, outward, host_gateway, address, privileged)
