"""What a container brings along: environment, labels, restarts, health, lifetime."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rootless.policy.kinds import matches_pattern
from rootless.policy.rules.base import Case, Violation, rule
from rootless.units import go_duration

_SECRET_NAME = re.compile(
    r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|CREDENTIALS?)(_|$)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."
)
_WITHHELD = "(a secret, withheld)"
_NO_VALUE = re.compile(r"|/.*|\$\{?[A-Za-z_]\w*\}?|<.*>|true|false|none|null|[0-9]+", re.IGNORECASE)
"""Not a secret although the name says so: empty, a file's path, a variable, a switch."""


@rule(
    "env.forbidden",
    "medium",
    keys=("env.deny",),
    remediation="leave out the variable {value}",
)
def forbidden(case: Case) -> Iterator[Violation]:
    """Variables that change how programs are loaded or what they trust."""
    denied = case.policy.names_of("env.deny") or frozenset()
    for entry in case.spec.process.env if denied else ():
        name = entry.partition("=")[0]
        if matches_pattern(name, denied):
            yield Violation("Config.Env", name, "the policy denies this variable", "env.deny")


@rule(
    "env.secret",
    "high",
    keys=("env.denySecrets",),
    references=("CIS 4.10", "NIST 800-190 4.1.4"),
    remediation="mount the secret as a file, and name the file in the variable",
)
def secret(case: Case) -> Iterator[Violation]:
    """Variables are shown by inspect, inherited by every child and end up in logs."""
    if not case.policy.requires("env.denySecrets"):
        return
    for entry in case.spec.process.env:
        if is_secret(entry):
            name = entry.partition("=")[0]
            reason = "its value looks like a secret"
            yield Violation("Config.Env", name, reason, "env.denySecrets")


def is_secret(entry: str) -> bool:
    """Whether name or value of ``NAME=VALUE`` say that the value is a secret."""
    name, _, value = entry.partition("=")
    named = _SECRET_NAME.search(name) and not name.upper().endswith("_FILE")
    if value == _WITHHELD or _SECRET_VALUE.search(value):
        return True
    return bool(named) and not _NO_VALUE.fullmatch(value)


def withheld(entry: str) -> str:
    """A variable without its value, about which the rules here say the same."""
    return f"{entry.partition('=')[0]}={_WITHHELD if is_secret(entry) else ''}"


@rule(
    "labels.required",
    "low",
    keys=("labels.require",),
    remediation="run with --label {value}",
)
def labelled(case: Case) -> Iterator[Violation]:
    """Labels say whose a container is."""
    have = dict(case.spec.labels)
    for wanted in sorted(case.policy.names_of("labels.require") or ()):
        name, equals, value = wanted.partition("=")
        good = matches_pattern(have.get(name, ""), frozenset({value})) if equals else have.get(name)
        if not good:
            reason = "the policy requires this label"
            yield Violation("Config.Labels", wanted, reason, "labels.require")


@rule(
    "labels.forbidden",
    "medium",
    keys=("labels.deny",),
    remediation="leave out the label {value}",
)
def mislabelled(case: Case) -> Iterator[Violation]:
    """Labels that tools obey are not for everybody to set."""
    denied = case.policy.names_of("labels.deny") or frozenset()
    for label, _ in case.spec.request.config.labels if denied else ():
        if matches_pattern(label, denied):
            yield Violation("Config.Labels", label, "the policy denies this label", "labels.deny")


@rule(
    "restart.policy",
    "low",
    keys=("restart.allow", "restart.maximumRetries"),
    references=("CIS 5.15",),
    remediation="run with --restart on-failure:5, or leave --restart out",
)
def restart(case: Case) -> Iterator[Violation]:
    """A container that fails again and again is noticed, not started for ever."""
    found = case.spec.restart
    name = found.name or "no"
    allow = case.policy.names_of("restart.allow")
    if allow is not None and name not in allow:
        reason = "the policy does not allow this restart policy"
        yield Violation("HostConfig.RestartPolicy", name, reason, "restart.allow")
    most = case.policy.number("restart.maximumRetries")
    count = found.maximum_retry_count
    if most is not None and name != "no" and (name != "on-failure" or not 0 < count <= most):
        shown = f"{name}:{count}" if name == "on-failure" else name
        reason = f"the policy allows {most} restarts at most"
        yield Violation("HostConfig.RestartPolicy", shown, reason, "restart.maximumRetries")


@rule(
    "health.required",
    "low",
    keys=("health.require",),
    references=("CIS 5.27, 4.6",),
    remediation="give the image a HEALTHCHECK, or run with --health-cmd",
)
def health(case: Case) -> Iterator[Violation]:
    """Something asks whether the program still works."""
    check = case.spec.healthcheck
    good = check is not None and check.test and check.test[0] != "NONE"
    if case.policy.requires("health.require") and not good:
        reason = "the policy requires a health check"
        yield Violation("Config.Healthcheck", "(unset)", reason, "health.require")


@rule(
    "lifetime.removed",
    "low",
    keys=("lifetime.requireAutoRemove",),
    remediation="run with --rm",
)
def removed(case: Case) -> Iterator[Violation]:
    """Nothing of a finished container stays behind."""
    if case.policy.requires("lifetime.requireAutoRemove") and not case.spec.auto_remove:
        reason = "the container would stay when it has ended"
        yield Violation("HostConfig.AutoRemove", "false", reason, "lifetime.requireAutoRemove")


@rule(
    "lifetime.maximum",
    "medium",
    keys=("lifetime.maximum",),
    references=("NIST 800-190 4.4.3",),
    remediation="ask for less with --timeout, or say nothing: the engine then stops it in time",
)
def longest(case: Case) -> Iterator[Violation]:
    """Nothing runs longer than the policy says; what asks for no time gets that one."""
    most, asked = case.policy.number("lifetime.maximum"), case.spec.timeout
    if most is not None and asked > most:
        reason = f"the policy allows {go_duration(most * 10**9)} at most"
        shown = go_duration(asked * 10**9)
        yield Violation("HostConfig.Timeout", shown, reason, "lifetime.maximum")


@rule(
    "lifetime.timeout",
    "low",
    keys=("lifetime.requireTimeout",),
    remediation="run with --timeout SECONDS",
)
def timed(case: Case) -> Iterator[Violation]:
    """Who starts something says how long it takes."""
    if case.policy.requires("lifetime.requireTimeout") and not case.spec.timeout:
        reason = "the policy requires a time after which the container is stopped"
        yield Violation("HostConfig.Timeout", "0", reason, "lifetime.requireTimeout")


RULES = (forbidden, secret, labelled, mislabelled, restart, health, removed, longest, timed)
