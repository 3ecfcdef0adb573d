"""Where the container's output goes."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.kinds import matches_pattern
from rootless.policy.rules.base import Case, Violation, rule

_FIELD = "HostConfig.LogConfig"
_LOCAL = ("unix://", "unixgram://")


@rule(
    "logs.driver",
    "medium",
    keys=("logs.allowDrivers",),
    references=("CIS 2.12",),
    remediation="use a log driver that logs.allowDrivers names: --log-driver json-file",
)
def driver(case: Case) -> Iterator[Violation]:
    """Output goes where somebody keeps and reads it."""
    allow = case.policy.names_of("logs.allowDrivers")
    found = case.spec.log.type
    if allow is not None and found not in allow:
        reason = "the policy does not allow this log driver"
        yield Violation(_FIELD, found, reason, "logs.allowDrivers")


@rule(
    "logs.option",
    "medium",
    keys=("logs.denyOptions",),
    remediation="leave out --log-opt {value}",
)
def option(case: Case) -> Iterator[Violation]:
    """Options that send more, or elsewhere, than the policy wants."""
    denied = case.policy.names_of("logs.denyOptions") or frozenset()
    for name, _ in case.spec.log.config if denied else ():
        if matches_pattern(name, denied):
            reason = "the policy denies this option of the log driver"
            yield Violation(_FIELD, name, reason, "logs.denyOptions")


@rule(
    "logs.remote",
    "high",
    keys=("logs.allowRemote",),
    references=("NIST 800-190 4.4.2",),
    remediation="leave out --log-opt syslog-address, or name a socket of this host: unix://",
)
def remote(case: Case) -> Iterator[Violation]:
    """A log that is sent by network is a way out, whatever network the container has."""
    address = dict(case.spec.log.config).get("syslog-address", "")
    sent = case.spec.log.type == "syslog" and address and not address.startswith(_LOCAL)
    if sent and not case.policy.permits("logs.allowRemote"):
        reason = "what the container writes would leave this host"
        yield Violation(_FIELD, address, reason, "logs.allowRemote")


RULES = (driver, option, remote)
