"""Where a container may connect to: lists of its networks, its own, and the policy's (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches

from rootless.errors import HostUnsupported, InvalidInput
from rootless.model import egress
from rootless.model.network import EGRESS
from rootless.model.request import EndpointRequest
from rootless.model.spec import ContainerSpec, NetworkSpec
from rootless.network.place import SLIRP

_BYPASS = ("CAP_NET_ADMIN", "CAP_NET_RAW")
"""The one changes the rules of the container's own namespace, the other goes around them."""


def list_of(options: Iterable[tuple[str, str]]) -> tuple[str, ...] | None:
    """The egress list among a driver's options, None when there is none."""
    found = dict(options)
    for key in found:
        if key != EGRESS and get_close_matches(key.lower(), [EGRESS], 1, 0.8):
            raise InvalidInput(
                f"unknown network option: {key[:80]}", hint=f"did you mean {EGRESS}?"
            )
    return egress.parse(found[EGRESS]) if EGRESS in found else None


def resolve_egress(
    network: NetworkSpec,
    own: Sequence[EndpointRequest],
    default: tuple[str, ...] | None,
) -> NetworkSpec:
    """The network with the list that holds for all ways out of the container.

    ``own`` are the requests for the predefined network it is on; ``default`` is
    what the policy gives a container that has a way out without a list.
    """
    for endpoint in own:
        found = list_of(endpoint.driver_opts)
        if found is None:
            continue
        if network.mode != SLIRP:
            raise InvalidInput(
                f"network mode {network.mode} takes no egress list",
                hint="none has no way out, host and container: share that of others",
            )
        return replace(network, egress=found)
    shared = network.mode == "host" or network.mode.startswith("container:")
    if default is not None and not shared and not all(lists for _, lists in network.ways_out):
        return replace(network, egress=default)
    return network


def check_holds(spec: ContainerSpec) -> None:
    """Refuse a container that could go around its own list, or undo it.

    It undoes one by its capabilities, in the namespace of a slirp4netns that only it has.
    """
    listed = [one.network for one in spec.network.attachments if one.egress is not None]
    anywhere = [name for name, lists in spec.network.ways_out if not lists]
    if listed and anywhere:
        raise InvalidInput(
            f"the egress list on network {listed[0]} would not keep container {spec.name} from "
            f"leaving by network {anywhere[0]}",
            hint=f"give it one there too: --network name={anywhere[0]},egress=LIST, or network "
            "connect --driver-opt egress=LIST",
        )
    if spec.network.mode != SLIRP or spec.network.egress is None:
        return
    found = [name for name in _BYPASS if name in spec.privileges.capabilities]
    if found:
        raise HostUnsupported(
            f"an egress list on network {SLIRP} cannot be kept from a container with "
            f"{' and '.join(found)}",
            hint="rootless network create NAME, and --network NAME: there the rules are out of "
            "its reach",
        )
