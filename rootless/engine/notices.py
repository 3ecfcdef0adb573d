"""What a container's start and end mean for its network and volumes, as Docker's events tell it."""

from __future__ import annotations

from rootless.engine.core import Core
from rootless.engine.unit import Unit
from rootless.model.network import BRIDGE, Endpoint
from rootless.network.predefined import PREDEFINED, network_id


def started(core: Core, unit: Unit) -> None:
    """Network ``connect``, volume ``mount``, container ``start``."""
    owner = unit.record.identity.key
    _network(core, unit, "connect")
    for mount in unit.record.spec.mounts:
        if mount.volume_name:
            attributes = {
                "driver": "local",
                "container": unit.id,
                "destination": mount.target,
                "read/write": str(not mount.read_only).lower(),
                "propagation": mount.propagation if mount.type == "bind" else "",
            }
            core.events.publish("volume", "mount", mount.volume_name, attributes, owners=[owner])
    core.registry.publish(unit, "start")


def ended(core: Core, unit: Unit, *, exit_code: int, ran_for: float) -> None:
    """Network ``disconnect``, volume ``unmount``, container ``die``; ``ran_for`` in seconds."""
    owner = unit.record.identity.key
    _network(core, unit, "disconnect")
    for mount in unit.record.spec.mounts:
        if mount.volume_name:
            attributes = {"driver": "local", "container": unit.id}
            core.events.publish("volume", "unmount", mount.volume_name, attributes, owners=[owner])
    core.registry.publish(
        unit, "die", exitCode=str(exit_code), execDuration=str(max(int(ran_for), 0))
    )


def _network(core: Core, unit: Unit, action: str) -> None:
    for endpoint in unit.endpoints:
        network(core, unit, endpoint, action)
    name = unit.record.spec.network.mode
    if name in PREDEFINED:
        owner = unit.record.identity.key
        attributes = {"container": unit.id, "name": name, "type": PREDEFINED[name]}
        core.events.publish("network", action, network_id(name), attributes, owners=[owner])


def network(core: Core, unit: Unit, endpoint: Endpoint, action: str) -> None:
    """A container comes to a bridge network or goes."""
    owner = unit.record.identity.key
    attributes = {"container": unit.id, "name": endpoint.network, "type": BRIDGE}
    core.events.publish("network", action, endpoint.network_id, attributes, owners=[owner])
