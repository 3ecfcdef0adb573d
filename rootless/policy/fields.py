"""Every field a policy can have: one row each, from which schema and merge follow."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.linux.process import CAPABILITIES
from rootless.policy.kinds import (
    ALLOW,
    ALLOW_NETWORKS,
    ALLOW_PATHS,
    ALLOW_PATTERNS,
    DENY,
    DENY_PATHS,
    MAXIMUM,
    MAXIMUM_SIZE,
    MINIMUM,
    PERMIT,
    REQUIRE,
    Kind,
)

NAMESPACES = ("network", "ipc", "pid", "uts", "cgroup")


@dataclass(frozen=True, slots=True)
class Field:
    """``values`` are the only ones allowed in a list; ``format`` names a check of each."""

    kind: Kind
    values: tuple[str, ...] = ()
    format: str = ""
    top: int = 1 << 62


FIELDS: dict[str, Field] = {
    "privileges.allowPrivileged": Field(PERMIT),
    "privileges.requireNoNewPrivileges": Field(REQUIRE),
    "privileges.allowLabelDisable": Field(PERMIT),
    "capabilities.allow": Field(ALLOW, CAPABILITIES),
    "capabilities.deny": Field(DENY, CAPABILITIES),
    "seccomp.allowUnconfined": Field(PERMIT),
    "seccomp.allowCustom": Field(PERMIT),
    "namespaces.allowHost": Field(ALLOW, NAMESPACES),
    "namespaces.allowShared": Field(ALLOW, NAMESPACES),
    "userns.allowModes": Field(ALLOW, ("shared", "auto")),
    "user.requireNonRoot": Field(REQUIRE),
    "mounts.allowTypes": Field(ALLOW, ("bind", "volume", "tmpfs", "image")),
    "mounts.allowSources": Field(ALLOW_PATHS, format="path"),
    "mounts.denySources": Field(DENY_PATHS, format="path"),
    "mounts.readOnlySources": Field(DENY_PATHS, format="path"),
    "mounts.allowPropagation": Field(
        ALLOW, ("private", "rprivate", "slave", "rslave", "shared", "rshared")
    ),
    "filesystem.requireReadOnlyRoot": Field(REQUIRE),
    "filesystem.maskedPaths": Field(DENY, format="path"),
    "filesystem.readOnlyPaths": Field(DENY, format="path"),
    "devices.allow": Field(ALLOW_PATHS, format="path"),
    "network.allowModes": Field(ALLOW, ("slirp4netns", "bridge", "none", "container", "host")),
    "ports.allowAddresses": Field(ALLOW_NETWORKS, format="network"),
    "ports.minimumHostPort": Field(MINIMUM, top=65536),
    "sysctls.allow": Field(ALLOW_PATTERNS, format="sysctl"),
    "resources.require": Field(DENY, ("memory", "cpus", "pids")),
    "resources.maximumMemory": Field(MAXIMUM_SIZE),
    "resources.maximumCpus": Field(MAXIMUM, top=4096),
    "resources.maximumPids": Field(MAXIMUM, top=1 << 22),
    "images.allow": Field(ALLOW_PATTERNS, format="image"),
    "images.requireDigest": Field(REQUIRE),
    "api.denyActions": Field(DENY, format="action"),
    "api.readOnlyRoles": Field(DENY, format="role"),
}
