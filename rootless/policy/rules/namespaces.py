"""Namespaces shared with the host or with other containers."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.fields import NAMESPACES
from rootless.policy.rules.base import Case, Violation, rule

_FIELDS = {
    "network": ("NetworkMode", "the container would see and use the host's network and loopback"),
    "ipc": ("IpcMode", "the container would share the host's shared memory and queues"),
    "pid": ("PidMode", "the container would see every process of the host"),
    "uts": ("UTSMode", "the container would share the host's name"),
    "cgroup": ("CgroupnsMode", "the container would see the host's cgroup tree"),
}


def _modes(case: Case) -> Iterator[tuple[str, str]]:
    for name in NAMESPACES:
        mode = getattr(case.spec.namespaces, name)
        if name == "network" and case.spec.network.mode == "host":
            mode = "host"
        yield name, mode


@rule(
    "namespaces.host",
    "critical",
    keys=("namespaces.allowHost",),
    references=("CIS 5.10, 5.16, 5.17, 5.21", "PSS baseline: hostNamespaces"),
    remediation="leave out the option that shares a namespace with the host",
)
def host(case: Case) -> Iterator[Violation]:
    """None of the host's namespaces."""
    allowed = case.policy.names_of("namespaces.allowHost")
    for name, mode in _modes(case):
        if mode == "host" and allowed is not None and name not in allowed:
            field, reason = _FIELDS[name]
            yield Violation(f"HostConfig.{field}", "host", reason, "namespaces.allowHost")


@rule(
    "namespaces.shared",
    "medium",
    keys=("namespaces.allowShared",),
    references=("NIST 800-190 4.4.2",),
    remediation="give the container a namespace of its own",
)
def shared(case: Case) -> Iterator[Violation]:
    """Another container's namespaces only where the policy allows it."""
    allowed = case.policy.names_of("namespaces.allowShared")
    for name, mode in _modes(case):
        if mode.startswith("container:") and allowed is not None and name not in allowed:
            yield Violation(
                f"HostConfig.{_FIELDS[name][0]}",
                mode[:22],
                f"the {name} namespace would be shared with another container",
                "namespaces.allowShared",
            )


@rule(
    "userns.mode",
    "high",
    keys=("userns.allowModes",),
    references=("CIS 5.31", "NIST 800-190 4.4.3"),
    remediation="run with --userns={allowed}",
)
def userns(case: Case) -> Iterator[Violation]:
    """The container's ids come from where the policy says."""
    allowed = case.policy.names_of("userns.allowModes")
    mode = case.spec.userns.mode
    if allowed is not None and mode not in allowed:
        yield Violation(
            "HostConfig.UsernsMode",
            mode,
            "containers in this mode share their range of ids with others",
            "userns.allowModes",
            f"run with --userns={sorted(allowed)[0]}" if allowed else "no mode is allowed at all",
        )


RULES = (host, shared, userns)
