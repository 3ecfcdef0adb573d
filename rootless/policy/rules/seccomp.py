"""The system call filter."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.linux.seccomp import RET_ALLOW, RET_LOG
from rootless.policy.rules.base import Case, Violation, rule
from rootless.seccomp.profile import parse_profile


@rule(
    "seccomp.unconfined",
    "critical",
    keys=("seccomp.allowUnconfined",),
    references=("CIS 5.22", "PSS baseline: seccompProfile_baseline"),
    remediation="leave out seccomp=unconfined; find the call that is missing with "
    "--security-opt seccomp-log and allow it in a copy of the default profile",
)
def unconfined(case: Case) -> Iterator[Violation]:
    """A filter is loaded, and it is a list of what is allowed."""
    seccomp = case.spec.seccomp
    # Read in any case: a profile that is not understood is refused here, not at the start.
    open_ended = seccomp.kind == "custom" and parse_profile(seccomp.profile).default in {
        RET_ALLOW,
        RET_LOG,
    }
    if case.policy.permits("seccomp.allowUnconfined"):
        return
    if seccomp.kind == "unconfined":
        yield Violation(
            "HostConfig.SecurityOpt",
            "seccomp=unconfined",
            "the container could make every system call the kernel has",
            "seccomp.allowUnconfined",
        )
    elif open_ended:
        yield Violation(
            "HostConfig.SecurityOpt",
            "seccomp=(profile)",
            "the profile allows every system call that it does not list",
            "seccomp.allowUnconfined",
            "set defaultAction to SCMP_ACT_ERRNO and list what is allowed",
        )


@rule(
    "seccomp.custom",
    "medium",
    keys=("seccomp.allowCustom",),
    references=("CIS 5.22", "PSS restricted: seccompProfile_restricted"),
    remediation="leave out the seccomp security option",
)
def custom(case: Case) -> Iterator[Violation]:
    """Only the engine's own profile."""
    if case.spec.seccomp.kind == "custom" and not case.policy.permits("seccomp.allowCustom"):
        yield Violation(
            "HostConfig.SecurityOpt",
            "seccomp=(profile)",
            "only the default profile is allowed",
            "seccomp.allowCustom",
        )


RULES = (unconfined, custom)
