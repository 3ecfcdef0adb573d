"""Kernel parameters that every container with a network of its own gets."""

from __future__ import annotations

from collections.abc import Sequence

from rootless.model.mounts import IdMap

PING_GROUPS_TOP = 65535
"""The highest group that is given ping sockets. The kernel keeps the range in host ids
(net/ipv4/sysctl_net_ipv4.c), so it must not span two subordinate ranges of the host;
the first one holds these by convention (subgid(5))."""


def network_sysctls(maps: Sequence[IdMap]) -> tuple[tuple[str, str], ...]:
    """Docker's defaults (moby, since 20.10) for a network namespace of the container's own.

    Low ports need no capability there, as nobody else has these ports; ``ping``
    works without CAP_NET_RAW for the groups that are mapped (icmp(7)).
    """
    low_ports = ("net.ipv4.ip_unprivileged_port_start", "0")
    top = -1
    for line in sorted(maps, key=lambda m: m.inside):
        if line.inside == top + 1:
            top = line.inside + line.size - 1
    if top < 0:
        return (low_ports,)
    return low_ports, ("net.ipv4.ping_group_range", f"0 {min(top, PING_GROUPS_TOP)}")
