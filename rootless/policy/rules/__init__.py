"""The rules, by topic. A new rule is one function in its topic's module."""

from __future__ import annotations

from rootless.policy.rules import (
    api,
    build,
    capabilities,
    cis,
    cis_daemon,
    devices,
    filesystem,
    images,
    landlock,
    limits,
    logs,
    mounts,
    namespaces,
    network,
    privileges,
    pss,
    quotas,
    resources,
    seccomp,
    sysctls,
    user,
    workload,
)
from rootless.policy.rules.base import Rule

RULES: tuple[Rule, ...] = (
    *privileges.RULES,
    *capabilities.RULES,
    *seccomp.RULES,
    *namespaces.RULES,
    *mounts.RULES,
    *filesystem.RULES,
    *devices.RULES,
    *network.RULES,
    *sysctls.RULES,
    *resources.RULES,
    *quotas.RULES,
    *user.RULES,
    *images.RULES,
    *build.RULES,
    *landlock.RULES,
    *limits.RULES,
    *workload.RULES,
    *logs.RULES,
    *api.RULES,
    *cis.RULES,
    *cis_daemon.RULES,
    *pss.RULES,
)

PRIVILEGED = "privileges.privileged"
IMPLIED_BY_PRIVILEGED = frozenset(
    {
        "capabilities.add",
        "seccomp.unconfined",
        "privileges.no-new-privileges",
        "filesystem.masked-paths",
        "filesystem.read-only-paths",
    }
)
"""What a denied ``--privileged`` brings along and need not be told again."""
