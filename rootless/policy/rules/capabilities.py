"""Capabilities inside the container's user namespace."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.rules.base import Case, Violation, rule

_REASONS = {
    "CAP_SYS_ADMIN": "it opens mounting and namespaces, the largest part of the kernel",
    "CAP_NET_ADMIN": "it opens netfilter and traffic control, a frequent source of kernel bugs",
    "CAP_DAC_READ_SEARCH": "it opens files past every directory (open_by_handle_at)",
    "CAP_SYS_MODULE": "it is for loading kernel modules",
    "CAP_SYSLOG": "it reads kernel addresses",
}


def _short(name: str) -> str:
    return name.removeprefix("CAP_")


@rule(
    "capabilities.add",
    "high",
    keys=(
        "capabilities.allow",
        "capabilities.deny",
    ),
    references=("CIS 5.4", "PSS baseline: capabilities_baseline"),
    remediation="leave out --cap-add {value}, or allow it in capabilities.allow",
)
def allowed(case: Case) -> Iterator[Violation]:
    """Every granted capability is on the allow list and on no deny list."""
    allow = case.policy.names_of("capabilities.allow")
    deny = case.policy.names_of("capabilities.deny") or frozenset()
    added = {name.upper().removeprefix("CAP_") for name in case.spec.request.host.cap_add}
    for name in case.spec.privileges.capabilities:
        if name in deny:
            key, reason = "capabilities.deny", "the policy denies this capability"
        elif allow is not None and name not in allow:
            key = "capabilities.allow"
            reason = _REASONS.get(name, "the policy does not allow this capability")
        else:
            continue
        asked = _short(name) in added or "ALL" in added or case.spec.privileges.privileged
        fix = "" if asked else f"run with --cap-drop {_short(name)} (or --cap-drop ALL)"
        yield Violation("HostConfig.CapAdd", _short(name), reason, key, fix)


RULES = (allowed,)
