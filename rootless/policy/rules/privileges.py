"""Privileged mode, privilege escalation, label options."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.rules.base import Case, Violation, rule


@rule(
    "privileges.privileged",
    "critical",
    keys=("privileges.allowPrivileged",),
    references=("CIS 5.5", "PSS baseline: privileged"),
    remediation="leave out --privileged and add what the program needs: --cap-add, --device",
)
def privileged(case: Case) -> Iterator[Violation]:
    """Privileged mode drops capabilities' bounds, seccomp and masked paths at once."""
    if case.spec.privileges.privileged and not case.policy.permits("privileges.allowPrivileged"):
        yield Violation(
            "HostConfig.Privileged",
            "true",
            "privileged containers run without any protection but the user namespace",
            "privileges.allowPrivileged",
        )


@rule(
    "privileges.no-new-privileges",
    "high",
    keys=("privileges.requireNoNewPrivileges",),
    references=("CIS 5.26", "PSS restricted: allowPrivilegeEscalation"),
    remediation="leave out --security-opt no-new-privileges=false",
)
def no_new_privileges(case: Case) -> Iterator[Violation]:
    """Without no_new_privs a setuid program or file capability raises a process' rights."""
    required = case.policy.requires("privileges.requireNoNewPrivileges")
    if required and not case.spec.privileges.no_new_privileges:
        yield Violation(
            "HostConfig.SecurityOpt",
            "no-new-privileges=false",
            "setuid programs could raise the rights of the container's processes",
            "privileges.requireNoNewPrivileges",
        )


@rule(
    "privileges.labels",
    "medium",
    keys=("privileges.allowLabelDisable",),
    references=("CIS 5.2", "CIS 5.3", "PSS baseline: seLinuxOptions, appArmorProfile"),
    remediation="leave out the label=disable or apparmor=unconfined security option",
)
def labels(case: Case) -> Iterator[Violation]:
    """Options that switch mandatory access control off."""
    if case.policy.permits("privileges.allowLabelDisable"):
        return
    for option in case.spec.request.host.security_opt:
        if option.replace(":", "=", 1) in {"label=disable", "apparmor=unconfined"}:
            yield Violation(
                "HostConfig.SecurityOpt",
                option,
                "mandatory access control would be switched off",
                "privileges.allowLabelDisable",
            )


RULES = (privileged, no_new_privileges, labels)
