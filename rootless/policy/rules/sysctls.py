"""Kernel parameters."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.model.sysctls import network_sysctls
from rootless.policy.kinds import matches_pattern
from rootless.policy.rules.base import Case, Violation, rule

_IPC = ("fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")


@rule(
    "sysctls.namespaced",
    "critical",
    references=("PSS baseline: sysctls",),
    remediation="leave out --sysctl {value}",
    floor=True,
)
def namespaced(case: Case) -> Iterator[Violation]:
    """Only parameters of a namespace the container has to itself."""
    for name, _ in case.spec.sysctls:
        if name.startswith("net."):
            own = case.spec.namespaces.network == "private" and case.spec.network.mode != "host"
        else:
            own = name.startswith(_IPC) and case.spec.namespaces.ipc == "private"
        if not own:
            yield Violation(
                "HostConfig.Sysctls", name, "it is not a parameter of the container's own"
            )


@rule(
    "sysctls.allowed",
    "medium",
    keys=("sysctls.allow",),
    references=("PSS baseline: sysctls",),
    remediation="leave out --sysctl {value}, or allow it in sysctls.allow",
)
def allowed(case: Case) -> Iterator[Violation]:
    """Only parameters on the allow list, and what every container gets."""
    allow = case.policy.names_of("sysctls.allow")
    if allow is None:
        return
    defaults = network_sysctls(case.spec.userns.maps)
    for name, value in case.spec.sysctls:
        if (name, value) not in defaults and not matches_pattern(name, allow):
            yield Violation(
                "HostConfig.Sysctls", name, "the policy does not list it", "sysctls.allow"
            )


RULES = (namespaced, allowed)
