"""The one place where a spec becomes an admitted spec.

Everything that runs passes :func:`admit`, and nothing else may construct an
:class:`~rootless.model.spec.AdmittedSpec` (a test reads the sources for that).
Besides it: the decisions on requests that start no container.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date

from rootless.errors import Denied
from rootless.model.build import BuildSpec
from rootless.model.decision import Decision, Finding
from rootless.model.facts import HostFacts
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.mounts import MountSpec
from rootless.model.network import BRIDGE
from rootless.model.request import ExecRequest, Resources, RestartPolicy
from rootless.model.spec import AdmittedSpec, ContainerSpec, LandlockSpec
from rootless.model.usage import Usage
from rootless.policy.actions import action_findings, owner_findings
from rootless.policy.fields import FIELDS
from rootless.policy.findings import decide, finding, judged
from rootless.policy.inputs.body import container_spec
from rootless.policy.matching import Subject
from rootless.policy.paths import EnginePaths
from rootless.policy.policy import Policy
from rootless.policy.rules import (
    IMPLIED_BY_PRIVILEGED,
    PRIVILEGED,
    RULES,
    images,
    landlock,
    limits,
    privileges,
    quotas,
    resources,
    user,
    workload,
)
from rootless.policy.rules import build as building
from rootless.policy.rules.base import ANY_HOST, NO_PATHS, Case, Rule, Violation
from rootless.units import go_duration

_OF_PROCESSES = (user.root, limits.uid, workload.forbidden, workload.secret)
"""Rules that a further process is held to as the first one was."""


def subject_of(
    spec: ContainerSpec, identity: Identity | None, *, owner: Identity | None = None
) -> Subject:
    """What selectors, exceptions and grants look at; ``owner`` of a container that exists."""
    image = spec.image.name or images.full_name(spec.image.reference)
    network = spec.network
    names = (a.network for a in network.attachments)
    mode = () if network.mode == BRIDGE else (network.mode.partition(":")[0],)
    return Subject(
        image,
        spec.name,
        dict(spec.labels),
        identity,
        owners=frozenset({owner.key}) if owner is not None else None,
        images=(image,),
        networks=(*mode, *names),
        sources=tuple(m.source for m in spec.mounts if m.type == "bind"),
    )


def evaluate(
    case: Case, identity: Identity | None = None, rules: Sequence[Rule] = RULES
) -> tuple[Finding, ...]:
    """Every finding, deduplicated; what a denied --privileged implies is not repeated."""

    def find(policy: Policy) -> Iterator[Finding]:
        under = case if policy is case.policy else replace(case, policy=policy)
        for rule in rules:
            for violation in rule.check(under):
                yield finding(policy, rule, violation)

    if case.usage is not None and identity is not None and case.usage.owner.key != identity.key:
        # Whoever starts it, it counts for the one it belongs to.
        owned = [rule for rule in rules if rule in quotas.RULES]
        rules = [rule for rule in rules if rule not in quotas.RULES]
        theirs = evaluate(case, case.usage.owner, owned)
        return (*evaluate(replace(case, usage=None), identity, rules), *theirs)
    found = judged(case.policy, subject_of(case.spec, identity), find)
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
    usage: Usage | None = None,
    image_facts: tuple[ImageFacts, ...] = (),
) -> AdmittedSpec:
    """Let a spec through, with the policy's obligations on it, or raise Denied.

    ``verb`` is the action that wants to run it: an older container can be started
    by who may start but not create, as long as its spec is still allowed.

    ``usage`` is what its owner would then have; without it quotas are not looked at, and
    the container is the caller's. ``image_facts`` are the images it is made from and mounts;
    without them rules on images are not looked at either (a container that runs, and gets one
    more network).

    The result ends when the policy says so (``timeout``), if it does.
    The result's mounts are pinned to the files that were judged, and
    ``process.forbid_root`` is set where the policy requires a user that is not root.
    """
    pinned = replace(spec, mounts=tuple(_pin(mount) for mount in spec.mounts))
    new = verb == "container.create"
    owner = usage.owner if usage is not None else identity
    subject = subject_of(pinned, identity, owner=None if new else owner)
    findings = action_findings(identity, verb, policy, subject)
    case = Case(pinned, policy, facts, paths, usage=usage or Usage(identity), images=image_facts)
    findings += evaluate(case, identity)
    weakened = tuple(_weakened(pinned))
    decision = decide(findings, policy, f"container {spec.name or spec.id[:12]}", weakened)
    process = replace(pinned.process, landlock=landlock_of(policy, subject, facts))
    if _forbids_root(policy, subject, spec.process.user):
        process = replace(process, forbid_root=True)
    pinned = replace(pinned, process=process, timeout=_timeout(policy, subject, pinned.timeout))
    return AdmittedSpec(pinned, identity, decision)


def landlock_of(policy: Policy, subject: Subject, facts: HostFacts) -> LandlockSpec | None:
    """What the enforced policies let the container reach; None without rules.

    Where the kernel lacks what they need they have said that it may go without.
    """
    merged: dict[str, frozenset[str]] = {}
    for part, _ in policy.applicable(subject):
        if part.mode_of("landlock.available") != "enforce":
            continue
        if landlock.needed_abi(part) > facts.landlock_abi:
            continue
        for key in (*landlock.FILES, *landlock.NETWORK):
            value = part.names_of(key)
            if value is not None:
                both = FIELDS[key].kind.meet(merged.get(key, value), value)
                assert isinstance(both, frozenset)
                merged[key] = both
    if not merged:
        return None
    names = {key: tuple(sorted(value)) for key, value in merged.items()}
    ports = {key: tuple(map(int, names[key])) for key in landlock.NETWORK if key in names}
    return LandlockSpec(
        abi=facts.landlock_abi,
        read=names.get("landlock.read"),
        write=names.get("landlock.write"),
        connect=ports.get("landlock.connectTcp"),
        bind=ports.get("landlock.bindTcp"),
    )


def _timeout(policy: Policy, subject: Subject, asked: int) -> int:
    """Seconds until the container is stopped: what was asked for, or less."""
    today, value = date.today(), go_duration(asked * 10**9) if asked else "unlimited"
    found = [asked] if asked else []
    for part, excuses in policy.applicable(subject):
        most = part.number("lifetime.maximum")
        if (
            most is not None
            and part.mode_of("lifetime.maximum") == "enforce"
            and not any(e.forgives("lifetime.maximum", value, subject, today) for e in excuses)
        ):
            found.append(most)
    return min(found, default=0)


def _forbids_root(policy: Policy, subject: Subject, user: str) -> bool:
    """Whether a user that turns out to be root must not start."""
    today = date.today()
    return any(
        part.requires("user.requireNonRoot")
        and part.mode_of("user.root") == "enforce"
        and not any(e.forgives("user.root", user or "(unset)", subject, today) for e in excuses)
        for part, excuses in policy.applicable(subject)
    )


def preview(
    identity: Identity,
    spec: ContainerSpec,
    policy: Policy,
    facts: HostFacts,
    paths: EnginePaths,
    *,
    usage: Usage | None = None,
    image_facts: tuple[ImageFacts, ...] = (),
) -> Decision:
    """What :func:`admit` would decide, without raising (``run --dry-run``)."""
    pinned = replace(spec, mounts=tuple(map(_pin, spec.mounts)))
    case = Case(pinned, policy, facts, paths, usage=usage or Usage(identity), images=image_facts)
    subject = subject_of(pinned, identity)
    findings = action_findings(identity, "container.create", policy, subject)
    findings += evaluate(case, identity)
    return Decision(allowed(findings), policy.title, findings, tuple(_weakened(spec)))


def admit_offline(
    identity: Identity,
    spec: ContainerSpec,
    policy: Policy,
    *,
    verb: str,
    rules: Sequence[Rule] = RULES,
    image_facts: tuple[ImageFacts, ...] = (),
) -> Decision:
    """What a policy says to a request of the past, without a look at any host; raises Denied.

    Paths in ``spec`` are resolved already. ``rules`` are those that the request was judged by.
    """
    case = Case(spec, policy, ANY_HOST, NO_PATHS, offline=True, images=image_facts)
    findings = action_findings(identity, verb, policy, subject_of(spec, identity))
    findings += evaluate(case, identity, rules)
    return decide(findings, policy, f"container {spec.name}")


def admit_exec(
    identity: Identity,
    request: ExecRequest,
    spec: ContainerSpec,
    policy: Policy,
    *,
    owner: Identity | None = None,
) -> Decision:
    """Decide on a process in a running container of ``owner``'s; raises Denied."""
    user = request.user or spec.process.user
    subject = replace(
        subject_of(spec, identity, owner=owner or identity),
        users=(user,),
        privileged=request.privileged,
    )
    process = replace(spec.process, env=request.env, user=user)
    case = Case(replace(spec, process=process), policy, ANY_HOST, NO_PATHS)

    def find(part: Policy) -> Iterator[Finding]:
        if request.privileged and not part.permits("privileges.allowPrivileged"):
            yield finding(
                part,
                privileges.privileged,
                Violation(
                    "Privileged",
                    "true",
                    "the process would have every capability",
                    "privileges.allowPrivileged",
                    "leave out exec --privileged",
                ),
            )

    findings = action_findings(identity, "container.exec", policy, subject)
    findings += judged(policy, subject, find)
    findings += evaluate(case, identity, _OF_PROCESSES)
    return decide(findings, policy, f"exec in {spec.name or spec.id[:12]}")


def admit_update(
    identity: Identity,
    changed: Resources,
    spec: ContainerSpec,
    policy: Policy,
    *,
    facts: HostFacts,
    paths: EnginePaths,
    usage: Usage | None = None,
    restart: RestartPolicy | None = None,
) -> Decision:
    """Decide on new limits of a container, ``changed`` being all of them; raises Denied.

    ``restart`` is its new restart policy, if it gets one.
    """
    owner = usage.owner if usage is not None else identity
    subject = subject_of(spec, identity, owner=owner)
    changes = replace(spec, resources=changed, restart=restart or spec.restart)
    case = Case(changes, policy, facts, paths, usage=usage or Usage(identity))
    findings = action_findings(identity, "container.update", policy, subject)
    findings += evaluate(case, identity, (*resources.RULES, *quotas.RULES))
    if restart is not None:
        findings += evaluate(case, identity, (workload.restart,))
    return decide(findings, policy, f"update of {spec.name or spec.id[:12]}")


def admit_image(
    identity: Identity, verb: str, reference: str, policy: Policy, subject: Subject | None = None
) -> Decision:
    """Decide on pulling or pushing an image of this name.

    ``reference`` is in full: ``docker.io/library/busybox:latest`` or with ``@sha256:…``;
    ``subject`` is the image where it exists. Raises Denied.
    """
    subject = replace(subject or Subject(), image=reference, images=(reference,), identity=identity)

    findings = action_findings(identity, f"image.{verb}", policy, subject)
    findings += name_findings(f"image.{verb}", policy, subject)
    return decide(findings, policy, f"image {reference}")


def name_findings(verb: str, policy: Policy, subject: Subject) -> tuple[Finding, ...]:
    """What is against an image by its name alone, where ``verb`` fetches, sends or runs it."""

    def find(part: Policy) -> Iterator[Finding]:
        for rule, violation in images.violations(subject.image, part):
            yield finding(part, rule, violation)

    asks = verb in ("image.pull", "image.push", "image.run") and subject.image
    return judged(policy, subject, find) if asks else ()


def admit_build(identity: Identity, build: BuildSpec, policy: Policy) -> Decision:
    """Decide on making an image, by what is asked for and what its Dockerfile says; raises Denied.

    Base images are judged by their names here, by the rest when they are pulled.
    """
    name = images.full_name(build.name)
    subject = Subject(image=name, images=(name,) if name else (), identity=identity)
    blank = container_spec({})

    def find(part: Policy) -> Iterator[Finding]:
        case = Case(blank, part, ANY_HOST, NO_PATHS, offline=True, build=build)
        for rule in (*building.RULES, *images.NAMED):
            for violation in rule.check(case):
                yield finding(part, rule, violation)

    findings = action_findings(identity, "image.build", policy, subject)
    findings += judged(policy, subject, find)
    return decide(findings, policy, f"build of {build.name or 'an image without a name'}")


def admit_pull(identity: Identity, image: ImageFacts, policy: Policy) -> Decision:
    """Decide on an image that a registry served, before its layers are fetched; raises Denied."""
    subject = Subject(image=image.name, identity=identity)

    def find(part: Policy) -> Iterator[Finding]:
        for rule, violation in images.pull_violations(image, part):
            yield finding(part, rule, violation)

    return decide(judged(policy, subject, find), policy, f"image {image.name}")


def admit_action(
    identity: Identity, verb: str, target: str, policy: Policy, subject: Subject | None = None
) -> Decision:
    """Decide on any other request; ``verb`` as ``container.stop``, ``volume.remove``.

    ``target`` is what the caller called the object, for the message; ``subject`` the object
    itself where there is one. Raises Denied.
    """
    if subject is None:
        image = target if verb.startswith("image.") else ""
        name = target if verb.startswith("container.") else ""
        subject = Subject(image, name, images=(image,) if image else ())
    subject = replace(subject, identity=identity)
    findings = action_findings(identity, verb, policy, subject)
    return decide(findings, policy, f"{verb} {target}".rstrip())


def allowed(findings: Iterable[Finding]) -> bool:
    """Whether none of the findings denies."""
    return all(found.action != "deny" for found in findings)


def admit_sight(identity: Identity, subject: Subject, policy: Policy) -> Decision:
    """Whether the caller may know of an object that exists; raises Denied."""
    subject = replace(subject, identity=identity)
    findings = owner_findings(identity, policy, subject)
    return decide(findings, policy, subject.name)
