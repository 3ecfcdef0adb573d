"""The one place where a spec becomes an admitted spec.

Everything that runs passes :func:`admit`, and nothing else may construct an
:class:`~rootless.model.spec.AdmittedSpec` (a test reads the sources for that).
Besides it: the decisions on requests that start no container.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Literal

from rootless.errors import Denied
from rootless.model.decision import Decision, Finding, merged
from rootless.model.facts import HostFacts
from rootless.model.identity import Identity
from rootless.model.mounts import MountSpec
from rootless.model.request import ExecRequest, Resources
from rootless.model.spec import AdmittedSpec, ContainerSpec
from rootless.policy.kinds import matches_pattern
from rootless.policy.paths import EnginePaths
from rootless.policy.policy import Policy
from rootless.policy.rules import IMPLIED_BY_PRIVILEGED, PRIVILEGED, RULES, resources
from rootless.policy.rules.base import Case, Rule, Violation
from rootless.policy.rules.user import is_root

READ_VERBS = frozenset(
    {"list", "inspect", "logs", "stats", "top", "events", "info", "version", "ping", "history",
     "df", "wait", "search"}
)  # fmt: skip
"""Verbs that change nothing; all a read-only role may use."""

_ACTIONS: dict[str, Literal["deny", "warn", "audit"]] = {
    "enforce": "deny",
    "warn": "warn",
    "audit": "audit",
}


def _finding(policy: Policy, rule: Rule, violation: Violation) -> Finding:
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


def evaluate(case: Case, rules: Sequence[Rule] = RULES) -> tuple[Finding, ...]:
    """Every finding, deduplicated; what a denied --privileged implies is not repeated."""
    found: dict[Finding, None] = {}
    for rule in rules:
        for violation in rule.check(case):
            found[_finding(case.policy, rule, violation)] = None
    if any(f.rule == PRIVILEGED and f.action == "deny" for f in found):
        return tuple(f for f in found if f.rule not in IMPLIED_BY_PRIVILEGED)
    return tuple(found)


def _weakened(spec: ContainerSpec) -> Iterator[str]:
    """Protections of the default container that this one does without."""
    if spec.privileges.privileged:
        yield "privileged"
    if not spec.privileges.no_new_privileges:
        yield "no-new-privileges"
    if spec.seccomp.kind != "default":
        yield f"seccomp={spec.seccomp.kind}"
    for name in ("network", "ipc", "pid", "uts", "cgroup"):
        if getattr(spec.namespaces, name) == "host":
            yield f"{name}=host"
    if not spec.masked_paths or not spec.readonly_paths:
        yield "systempaths"


def _decide(
    findings: tuple[Finding, ...], policy: Policy, what: str, weakened: tuple[str, ...] = ()
) -> Decision:
    """The decision, or Denied with every finding that denies."""
    denials = [finding for finding in findings if finding.action == "deny"]
    decision = Decision(not denials, policy.title, findings, weakened)
    if denials:
        raise Denied(
            f"{what} denied by policy {policy.title}: " + "; ".join(map(str, merged(denials))),
            context={
                "policy": policy.title,
                "findings": [asdict(finding) for finding in findings],
            },
        )
    return decision


def _pin(mount: MountSpec) -> MountSpec:
    """The source with symlinks resolved, and the very file that was judged.

    The launcher opens the path again and compares (spec.MountSpec); a source
    that does not exist yet cannot be compared and is made by the engine itself.
    """
    if mount.type not in {"bind", "volume", "image"}:
        return mount
    source = os.path.realpath(mount.source)
    try:
        facts = os.stat(source)
    except OSError:
        return replace(mount, source=source, source_dev=0, source_ino=0)
    if mount.source_ino and (mount.source_dev, mount.source_ino) != (facts.st_dev, facts.st_ino):
        raise Denied(f"mount source {mount.source} changed while the request was being decided")
    return replace(mount, source=source, source_dev=facts.st_dev, source_ino=facts.st_ino)


def admit(
    identity: Identity,
    spec: ContainerSpec,
    policy: Policy,
    facts: HostFacts,
    paths: EnginePaths,
    *,
    verb: str = "container.create",
) -> AdmittedSpec:
    """Let a spec through, with the policy's obligations on it, or raise Denied.

    ``verb`` is the action that wants to run it: an older container can be started
    by who may start but not create, as long as its spec is still allowed.

    The result's mounts are pinned to the files that were judged, and
    ``process.forbid_root`` is set where the policy requires a user that is not root.
    """
    action_findings = _action_findings(identity, verb, policy)
    pinned = replace(spec, mounts=tuple(_pin(mount) for mount in spec.mounts))
    findings = action_findings + evaluate(Case(pinned, policy, facts, paths))
    weakened = tuple(_weakened(pinned))
    decision = _decide(findings, policy, f"container {spec.name or spec.id[:12]}", weakened)
    enforced = policy.mode_of("user.root") == "enforce"
    if policy.requires("user.requireNonRoot") and enforced:
        pinned = replace(pinned, process=replace(pinned.process, forbid_root=True))
    return AdmittedSpec(pinned, identity, decision)


def preview(
    identity: Identity,
    spec: ContainerSpec,
    policy: Policy,
    facts: HostFacts,
    paths: EnginePaths,
) -> Decision:
    """What :func:`admit` would decide, without raising (``run --dry-run``)."""
    case = Case(replace(spec, mounts=tuple(map(_pin, spec.mounts))), policy, facts, paths)
    findings = _action_findings(identity, "container.create", policy) + evaluate(case)
    allowed = all(finding.action != "deny" for finding in findings)
    return Decision(allowed, policy.title, findings, tuple(_weakened(spec)))


def admit_exec(
    identity: Identity, request: ExecRequest, spec: ContainerSpec, policy: Policy
) -> Decision:
    """Decide on a process in a running container; raises Denied."""
    findings = list(_action_findings(identity, "container.exec", policy))
    if request.privileged and not policy.permits("privileges.allowPrivileged"):
        findings.append(
            _simple(
                policy,
                "privileges.privileged",
                ("Privileged", "true", "the process would have every capability"),
                "leave out exec --privileged",
                "privileges.allowPrivileged",
            )
        )
    user = request.user or spec.process.user
    if policy.requires("user.requireNonRoot") and is_root(user):
        findings.append(
            _simple(
                policy,
                "user.root",
                ("User", user or "(unset)", "the policy does not allow root in the container"),
                "run exec with --user 1000",
                "user.requireNonRoot",
            )
        )
    return _decide(tuple(findings), policy, f"exec in {spec.name or spec.id[:12]}")


def admit_update(
    identity: Identity,
    changed: Resources,
    spec: ContainerSpec,
    policy: Policy,
    *,
    facts: HostFacts,
    paths: EnginePaths,
) -> Decision:
    """Decide on new limits of a container, ``changed`` being all of them; raises Denied."""
    case = Case(replace(spec, resources=changed), policy, facts, paths)
    findings = _action_findings(identity, "container.update", policy)
    findings += evaluate(case, resources.RULES)
    return _decide(findings, policy, f"update of {spec.name or spec.id[:12]}")


def admit_image(identity: Identity, verb: str, reference: str, policy: Policy) -> Decision:
    """Decide on pulling (or running, pushing …) an image.

    ``reference`` is in full: ``docker.io/library/busybox:latest`` or with ``@sha256:…``.
    Raises Denied.
    """
    findings = list(_action_findings(identity, f"image.{verb}", policy))
    allow = policy.names_of("images.allow")
    if allow is not None and not matches_pattern(reference, allow):
        findings.append(
            _simple(
                policy,
                "images.allowed",
                ("Image", reference, "the policy does not list this image"),
                "use an image that images.allow names",
                "images.allow",
            )
        )
    if policy.requires("images.requireDigest") and "@sha256:" not in reference:
        findings.append(
            _simple(
                policy,
                "images.digest",
                ("Image", reference, "a tag can be moved to another image"),
                "name the image with its digest: NAME@sha256:…",
                "images.requireDigest",
            )
        )
    return _decide(tuple(findings), policy, f"image {reference}")


def admit_action(identity: Identity, verb: str, target: str, policy: Policy) -> Decision:
    """Decide on any other request; ``verb`` as ``container.stop``, ``volume.remove``.

    ``target`` is the object's name, for the message. Raises Denied.
    """
    return _decide(_action_findings(identity, verb, policy), policy, f"{verb} {target}".rstrip())


def _action_findings(identity: Identity, verb: str, policy: Policy) -> tuple[Finding, ...]:
    findings = []
    denied = policy.names_of("api.denyActions") or frozenset()
    if matches_pattern(verb, denied):
        findings.append(
            _simple(
                policy,
                "api.action",
                ("action", verb, "the policy denies this action"),
                "ask the administrator of the policy",
                "api.denyActions",
            )
        )
    roles = policy.names_of("api.readOnlyRoles") or frozenset()
    if identity.role in roles and verb.partition(".")[2] not in READ_VERBS:
        findings.append(
            _simple(
                policy,
                "api.role",
                ("role", str(identity.role), f"the role may only read, not {verb}"),
                "use an identity with another role",
                "api.readOnlyRoles",
            )
        )
    return tuple(findings)


def _simple(policy: Policy, rule: str, what: tuple[str, str, str], fix: str, key: str) -> Finding:
    field, value, reason = what
    return Finding(
        rule=rule,
        field=field,
        value=value,
        reason=reason,
        fix=fix,
        action=_ACTIONS[policy.mode_of(rule)],
        source=policy.source_of(key),
    )
