"""Privileged mode, privilege escalation, label options."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.rules.base import Case, Violation, rule

SETUID_KEY = "privileges.denySetuidFiles"
_MAX_TOLD = 100


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


@rule(
    "privileges.setuid-files",
    "medium",
    keys=(SETUID_KEY,),
    references=("CIS 4.8", "NIST 800-190 4.1.2"),
    remediation="take the bits away in the image: RUN find / -xdev -perm /6000 -type f "
    "-exec chmod a-s {} +, and setcap -r for capabilities",
)
def setuid_files(case: Case) -> Iterator[Violation]:
    """A program with set-id bits or capabilities runs with more rights than its caller has."""
    if not case.policy.requires(SETUID_KEY):
        return
    for image in case.images:
        if image.setuid is None:
            if not case.offline:  # a file names images, the engine has them
                reason = "its files were not looked at"
                yield Violation("Config.Image", image.name, reason, SETUID_KEY)
            continue
        reason = f"files of {image.name} give whoever runs them other rights"
        for path in image.setuid[:_MAX_TOLD]:
            yield Violation("Config.Image", path, reason, SETUID_KEY)
        if len(image.setuid) > _MAX_TOLD:
            more = f"({len(image.setuid) - _MAX_TOLD} more)"
            yield Violation("Config.Image", more, reason, SETUID_KEY)


RULES = (privileged, no_new_privileges, labels, setuid_files)
