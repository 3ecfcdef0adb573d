"""``rootless port``."""

from __future__ import annotations

import sys

from rootless.cli.command import Command, Invocation
from rootless.cli.createspec import split_protocol
from rootless.client.api import quote
from rootless.errors import NotFound
from rootless.units import whole_number


def run(call: Invocation) -> int:
    """List the published ports, or those of one container port."""
    info = call.client.get(f"/containers/{quote(call.args[0])}/json")
    ports = (info.get("NetworkSettings") or {}).get("Ports") or {}
    lines = []
    if len(call.args) == 2:
        port, protocol = split_protocol(call.args[1])
        key = f"{port}/{protocol}"
        bindings = ports.get(key)
        if not bindings:
            raise NotFound(f"no public port '{key}' published for {call.args[0]}")
        lines = [_address(binding) for binding in bindings]
    else:
        for key in sorted(ports, key=_order):
            lines += [f"{key} -> {_address(binding)}" for binding in ports[key] or ()]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _order(key: str) -> tuple[int, str]:
    port, _, protocol = key.partition("/")
    return whole_number(port) or 0, protocol


def _address(binding: dict[str, str]) -> str:
    address, port = binding.get("HostIp", ""), binding["HostPort"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


COMMAND = Command(
    run,
    usage="port CONTAINER [PRIVATE_PORT[/PROTO]]",
    summary="List port mappings or a specific mapping for the container",
    aliases="container port, port",
    min_args=1,
    max_args=2,
    examples="rootless port web\nrootless port web 80/tcp",
)
