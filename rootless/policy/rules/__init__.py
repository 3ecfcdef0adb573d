"""The rules, by topic. A new rule is one function in its topic's module."""

from __future__ import annotations

from rootless.policy.rules import (
    capabilities,
    devices,
    filesystem,
    mounts,
    namespaces,
    network,
    privileges,
    resources,
    seccomp,
    sysctls,
    user,
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
    *user.RULES,
)
