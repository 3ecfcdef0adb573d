"""Who may do what: the verbs of the API, and whose objects they are for."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.model.decision import Finding
from rootless.model.identity import Identity
from rootless.model.verbs import EVERYBODYS, READ_VERBS
from rootless.policy import grants
from rootless.policy.findings import finding, judged
from rootless.policy.kinds import matches_pattern
from rootless.policy.matching import Subject, called
from rootless.policy.policy import Policy
from rootless.policy.rules import api
from rootless.policy.rules.base import Rule, Violation


def action_findings(
    identity: Identity, verb: str, policy: Policy, subject: Subject
) -> tuple[Finding, ...]:
    """What is against ``verb`` on the subject, by whoever asks."""

    def find(part: Policy) -> Iterator[Finding]:
        for rule, violation in _violations(part, identity, verb, subject):
            yield finding(part, rule, violation)

    return judged(policy, subject, find)


def _violations(
    policy: Policy, identity: Identity, verb: str, subject: Subject
) -> Iterator[tuple[Rule, Violation]]:
    allowed = policy.names_of("api.allowActions")
    denied = policy.names_of("api.denyActions") or frozenset()
    unlisted = allowed is not None and not matches_pattern(verb, allowed)
    if unlisted or matches_pattern(verb, denied):
        key = "api.allowActions" if unlisted else "api.denyActions"
        yield api.action, Violation("action", verb, "the policy does not allow this action", key)
    roles = policy.names_of("api.readOnlyRoles") or frozenset()
    if identity.role in roles and verb.partition(".")[2] not in READ_VERBS:
        reason = f"the role may only read, not {verb}"
        yield api.role, Violation("role", str(identity.role), reason, "api.readOnlyRoles")
    yield from _grants(policy, identity, verb, subject)


def _grants(
    policy: Policy, identity: Identity, verb: str, subject: Subject
) -> Iterator[tuple[Rule, Violation]]:
    value = policy.names_of("api.grants")
    if value is None or identity.own:
        return
    beyond = grants.missing(value, identity, verb, subject)
    if beyond:
        name, _, found = beyond.partition(": ")
        reason = f"what is granted to {identity.name} for {verb} has other {name}"
        yield api.grant, Violation(name, found, reason, "api.grants")
    elif beyond is not None:
        name = subject.name or subject.image
        what = f" on {name}" if name else ""
        reason = f"nothing grants this to {identity.name}{what}"
        yield api.grant, Violation("action", verb, reason, "api.grants")


def owner_findings(identity: Identity, policy: Policy, subject: Subject) -> tuple[Finding, ...]:
    """What is against the caller's seeing an object that exists."""
    owners = subject.owners
    if owners is None or identity.own or owners & {EVERYBODYS, identity.key}:
        return ()

    def find(part: Policy) -> Iterator[Finding]:
        allowed = part.names_of("api.allowOthers")
        if allowed is not None and not called(identity, allowed):
            reason = f"{subject.name or 'it'} was made by another identity"
            violation = Violation("identity", identity.key, reason, "api.allowOthers")
            yield finding(part, api.owner, violation)

    return judged(policy, subject, find)
