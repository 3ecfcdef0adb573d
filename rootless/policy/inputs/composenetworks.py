"""The networks of a compose service: their names in the engine, and their egress lists."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

from rootless.model.network import EGRESS
from rootless.policy.inputs.read import NotUnderstood, Path
from rootless.policy.inputs.unit import FieldPath
from rootless.policy.inputs.values import flag, pairs, text

_FIELD = "HostConfig.NetworkMode"
_NOT_IN_NAMES = re.compile(r"[^-_a-z0-9]")


@dataclass(frozen=True, slots=True)
class ProjectNetworks:
    """What a file declares. ``project`` is '' where only the command line could name it."""

    project: str = ""
    declared: dict[str, Any] = field(default_factory=dict)

    def endpoints(
        self, service: dict[str, Any], home: Path, places: dict[FieldPath, Path]
    ) -> dict[str, Any]:
        """``EndpointsConfig`` of a service, with what is known of each network; notes places.

        A service that names none is on the project's default one.
        """
        if service.get("network_mode") or service.get("net"):
            return {}
        written = service.get("networks") or ["default"]
        if not isinstance(written, list | dict):
            raise NotUnderstood("networks must be a list or a mapping", path=(*home, "networks"))
        found: dict[str, Any] = {}
        for index, key in enumerate(written):
            at = (*home, "networks", index if isinstance(written, list) else key)
            own = written[key] if isinstance(written, dict) else None
            try:
                name, about = self._network(text(key, "a network"))
                options = own.get("driver_opts") if isinstance(own, dict) else None
                found[name] = {"DriverOpts": pairs(options, "driver_opts"), "Rootless": about}
            except NotUnderstood as problem:
                raise NotUnderstood(problem.message, path=at) from problem
            places[_FIELD, name] = at if "networks" in service else home
        return found

    def _network(self, key: str) -> tuple[str, dict[str, Any]]:
        """The name of a declared network in the engine, its own list, and whether it leads out."""
        declared = self.declared.get(key)
        network = declared if isinstance(declared, dict) else {}
        external = network.get("external")
        if isinstance(external, dict):  # of older files
            return text(external.get("name"), "name") or key, {}
        name = text(network.get("name"), "name")
        if flag(external, "external"):
            return name or key, {}
        options = pairs(network.get("driver_opts"), "driver_opts")
        about = {"Internal": flag(network.get("internal"), "internal")}
        made = f"{self.project}_{key}" if self.project else key
        return name or made, {**about, "Egress": options.get(EGRESS, "")}


def project_networks(value: dict[str, Any], directory: str | None) -> ProjectNetworks:
    """Of a whole file; its project is called as the directory unless it says how."""
    named = value.get("name")
    base = os.path.basename(os.path.abspath(directory)) if directory is not None else ""
    project = named if isinstance(named, str) else base.lower()
    declared = value.get("networks")
    return ProjectNetworks(
        _NOT_IN_NAMES.sub("", project).lstrip("-_"), declared if isinstance(declared, dict) else {}
    )
