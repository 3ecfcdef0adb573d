"""From violations to findings, by the policy and by those of its layers that are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import date
from typing import Literal

from rootless.errors import Denied
from rootless.model.decision import Decision, Finding, merged
from rootless.policy.matching import Subject
from rootless.policy.policy import Policy
from rootless.policy.rules import RULES
from rootless.policy.rules.base import Rule, Violation

_ACTIONS: dict[str, Literal["deny", "warn", "audit"]] = {
    "enforce": "deny",
    "warn": "warn",
    "audit": "audit",
}
_FLOOR = frozenset(rule.id for rule in RULES if rule.floor)


def finding(policy: Policy, rule: Rule, violation: Violation) -> Finding:
    """What a policy makes of a violation."""
    fix = violation.fix or rule.remediation.replace("{value}", violation.value)
    return Finding(
        rule=rule.id,
        field=violation.field,
        value=violation.value,
        reason=violation.reason,
        fix=fix,
        severity=rule.severity,
        action="deny" if rule.floor else _ACTIONS[policy.mode_of(rule.id)],
        source=policy.source_of(violation.key) if violation.key else "builtin:floor",
    )


def judged(
    policy: Policy, subject: Subject, find: Callable[[Policy], Iterable[Finding]]
) -> tuple[Finding, ...]:
    """Findings by the policy and by each of its layers that is for this subject.

    An exception turns a finding of its own layer into one that is only recorded.
    """
    found: dict[Finding, None] = {}
    today = date.today()
    for part, excuses in policy.applicable(subject):
        for one in find(part):
            excuse = next(
                (e for e in excuses if e.forgives(one.rule, one.value, subject, today)), None
            )
            if excuse is not None and one.rule not in _FLOOR:
                one = replace(one, action="audit", exception=excuse.id)  # noqa: PLW2901 - the same, excused
            found[one] = None
    return tuple(found)


def decide(
    findings: tuple[Finding, ...], policy: Policy, what: str, weakened: tuple[str, ...] = ()
) -> Decision:
    """The decision, or Denied with every finding that denies."""
    denials = [found for found in findings if found.action == "deny"]
    decision = Decision(not denials, policy.title, findings, weakened)
    if denials:
        raise Denied(
            f"{what} denied by policy {policy.title}: " + "; ".join(map(str, merged(denials))),
            context={
                "policy": policy.title,
                "findings": [asdict(found) for found in findings],
            },
        )
    return decision
