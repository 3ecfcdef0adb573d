"""Host devices in the container."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.kinds import beneath
from rootless.policy.rules.base import Case, Violation, rule


@rule(
    "devices.allowed",
    "high",
    keys=("devices.allow",),
    references=("CIS 5.18",),
    remediation="leave out --device {value}, or allow it in devices.allow",
)
def allowed(case: Case) -> Iterator[Violation]:
    """Only devices on the allow list, whatever symlink names them."""
    allow = case.policy.names_of("devices.allow")
    if allow is None:
        return
    for device in case.spec.devices:
        source = case.resolve(device.source)
        if not any(beneath(source, root) for root in allow):
            yield Violation(
                "HostConfig.Devices",
                device.source,
                "the container would talk to a driver of the host",
                "devices.allow",
            )


RULES = (allowed,)
