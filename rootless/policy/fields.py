"""Every field a policy can have: one row each, from which schema and merge follow."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.linux.process import CAPABILITIES
from rootless.policy import grants
from rootless.policy.kinds import (
    ALLOW,
    ALLOW_EGRESS,
    ALLOW_GLOBS,
    ALLOW_NETWORKS,
    ALLOW_PATHS,
    ALLOW_PATTERNS,
    DENY,
    DENY_PATHS,
    DENY_PATTERNS,
    DENY_STANDARDS,
    MAXIMUM,
    MAXIMUM_SIZE,
    MAXIMUM_TIME,
    MINIMUM,
    MINIMUM_SIZE,
    PERMIT,
    REQUIRE,
    Kind,
)
from rootless.policy.trust import TRUST

NAMESPACES = ("network", "ipc", "pid", "uts", "cgroup")
CIS_CHECKS = (
    "4.1", "5.2", "5.3", "5.4", "5.5", "5.6", "5.8", "5.9", "5.10", "5.11", "5.12", "5.13", "5.14",
    "5.15", "5.16", "5.17", "5.18", "5.19", "5.20", "5.21", "5.22", "5.25", "5.26", "5.27", "5.29",
    "5.31", "5.32", "C.5.3.1", "C.5.3.2", "C.5.3.3", "C.5.3.4",
)  # fmt: skip
"""The container checks of the CIS Docker Benchmark; each is a rule in ``rules/cis.py``."""
CIS_DAEMON_CHECKS = (
    "2.1", "2.2", "2.3", "2.5", "2.7", "2.8", "2.9", "2.10", "2.13", "2.14", "2.15", "2.18",
)  # fmt: skip
"""The daemon checks that mean something for this engine (``rules/cis_daemon.py``)."""


GRANTS = Kind(
    "grants",
    "grants",
    "what is granted to others than the engine's own user; each file must grant it",
    grants.meet,
    grants.join,
    grants.canonical,
)


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
    "privileges.denySetuidFiles": Field(REQUIRE),
    "capabilities.allow": Field(ALLOW, CAPABILITIES),
    "capabilities.deny": Field(DENY, CAPABILITIES),
    "seccomp.allowUnconfined": Field(PERMIT),
    "seccomp.allowCustom": Field(PERMIT),
    "seccomp.denyCalls": Field(DENY, format="call"),
    "namespaces.allowHost": Field(ALLOW, NAMESPACES),
    "namespaces.allowShared": Field(ALLOW, NAMESPACES),
    "userns.allowModes": Field(ALLOW, ("shared", "auto")),
    "userns.maximumRange": Field(MAXIMUM, top=1 << 32),
    "user.requireNonRoot": Field(REQUIRE),
    "user.minimumUid": Field(MINIMUM, top=(1 << 32) - 1),
    "mounts.allowTypes": Field(ALLOW, ("bind", "volume", "tmpfs", "image")),
    "mounts.allowSources": Field(ALLOW_PATHS, format="path"),
    "mounts.allowGlobs": Field(ALLOW_GLOBS, format="glob"),
    "mounts.denySources": Field(DENY_PATHS, format="path"),
    "mounts.readOnlySources": Field(DENY_PATHS, format="path"),
    "mounts.allowPropagation": Field(
        ALLOW, ("private", "rprivate", "slave", "rslave", "shared", "rshared")
    ),
    "mounts.maximum": Field(MAXIMUM, top=4096),
    "mounts.requireOptions": Field(DENY, ("ro", "nosuid", "nodev", "noexec")),
    "mounts.allowSharedVolumes": Field(PERMIT),
    "landlock.read": Field(ALLOW_PATHS, format="path"),
    "landlock.write": Field(ALLOW_PATHS, format="path"),
    "landlock.connectTcp": Field(ALLOW, format="port"),
    "landlock.bindTcp": Field(ALLOW, format="port"),
    "landlock.allowWithout": Field(PERMIT),
    "filesystem.requireReadOnlyRoot": Field(REQUIRE),
    "filesystem.maskedPaths": Field(DENY, format="path"),
    "filesystem.readOnlyPaths": Field(DENY, format="path"),
    "devices.allow": Field(ALLOW_PATHS, format="path"),
    "network.allowModes": Field(ALLOW, ("slirp4netns", "bridge", "none", "container", "host")),
    "network.allowNetworks": Field(ALLOW_PATTERNS, format="name"),
    "network.egress": Field(ALLOW_EGRESS, format="egress"),
    "network.requireEgress": Field(REQUIRE),
    "network.allowHostGateway": Field(PERMIT),
    "ports.allowAddresses": Field(ALLOW_NETWORKS, format="network"),
    "ports.minimumHostPort": Field(MINIMUM, top=65536),
    "ports.maximumHostPort": Field(MAXIMUM, top=65535),
    "ports.maximum": Field(MAXIMUM, top=65536),
    "ports.allowPublishAll": Field(PERMIT),
    "sysctls.allow": Field(ALLOW_PATTERNS, format="sysctl"),
    "resources.require": Field(DENY, ("memory", "cpus", "pids")),
    "resources.allowCgroupParent": Field(PERMIT),
    "resources.minimumMemory": Field(MINIMUM_SIZE),
    "resources.maximumMemory": Field(MAXIMUM_SIZE),
    "resources.maximumCpus": Field(MAXIMUM, top=4096),
    "resources.maximumPids": Field(MAXIMUM, top=1 << 22),
    "quotas.maximumContainers": Field(MAXIMUM, top=1 << 20),
    "quotas.maximumRunning": Field(MAXIMUM, top=1 << 20),
    "quotas.maximumMemory": Field(MAXIMUM_SIZE),
    "quotas.maximumCpus": Field(MAXIMUM, top=4096),
    "quotas.maximumDisk": Field(MAXIMUM_SIZE),
    "cisDocker.require": Field(DENY, (*CIS_CHECKS, *CIS_DAEMON_CHECKS)),
    "podSecurity.require": Field(DENY_STANDARDS, format="standard"),
    "images.allow": Field(ALLOW_PATTERNS, format="image"),
    "images.deny": Field(DENY_PATTERNS, format="image"),
    "images.denyTags": Field(DENY_PATTERNS, format="tag"),
    "images.requireDigest": Field(REQUIRE),
    "images.allowRegistries": Field(ALLOW, format="registry"),
    "images.maximumAge": Field(MAXIMUM_TIME),
    "images.maximumSize": Field(MAXIMUM_SIZE),
    "images.trust": Field(TRUST),
    "env.deny": Field(DENY_PATTERNS, format="variable"),
    "env.denySecrets": Field(REQUIRE),
    "labels.require": Field(DENY, format="label"),
    "labels.deny": Field(DENY_PATTERNS, format="labels"),
    "logs.allowDrivers": Field(ALLOW, ("json-file", "local", "journald", "syslog", "none")),
    "logs.denyOptions": Field(DENY_PATTERNS, format="option"),
    "logs.allowRemote": Field(PERMIT),
    "restart.allow": Field(ALLOW, ("no", "on-failure", "always", "unless-stopped")),
    "restart.maximumRetries": Field(MAXIMUM, top=1 << 31),
    "health.require": Field(REQUIRE),
    "lifetime.maximum": Field(MAXIMUM_TIME),
    "lifetime.requireTimeout": Field(REQUIRE),
    "lifetime.requireAutoRemove": Field(REQUIRE),
    "build.allowBases": Field(ALLOW_PATTERNS, format="image"),
    "build.allowNetworks": Field(ALLOW_PATTERNS, format="name"),
    "build.allowSecrets": Field(ALLOW_PATTERNS, format="secret"),
    "build.allowSsh": Field(PERMIT),
    "build.allowInsecure": Field(PERMIT),
    "build.denyArgs": Field(DENY_PATTERNS, format="variable"),
    "build.denySecretArgs": Field(REQUIRE),
    "selinux.allowTypes": Field(ALLOW, format="selinux"),
    "selinux.allowLevels": Field(ALLOW, format="level"),
    "api.grants": Field(GRANTS),
    "api.allowOthers": Field(ALLOW_PATTERNS, format="caller"),
    "api.allowActions": Field(ALLOW_PATTERNS, format="action"),
    "api.denyActions": Field(DENY, format="action"),
    "api.readOnlyRoles": Field(DENY, format="role"),
}
