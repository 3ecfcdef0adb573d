"""Which images may be pulled and run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from rootless.model.image import ImageFacts
from rootless.policy import trust as signatures
from rootless.policy.kinds import matches_pattern
from rootless.policy.policy import Policy
from rootless.policy.rules.base import Case, Rule, Violation, rule
from rootless.units import human_duration, human_size

_FIELD = "Config.Image"
_SLACK = 86_400
"""Seconds that a builder's clock may be ahead."""

Find = Callable[[ImageFacts, Policy], Iterator[Violation]]


def full_name(reference: str) -> str:
    """``docker.io/library/nginx:latest`` from ``nginx``, as every client reads it."""
    if not reference or reference.startswith("sha256:"):
        return reference
    first, slash, _ = reference.partition("/")
    host = slash and ("." in first or ":" in first or first == "localhost")
    name = reference if host else f"docker.io/{reference if slash else f'library/{reference}'}"
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def _allowed(image: ImageFacts, policy: Policy) -> Iterator[Violation]:
    allow = policy.names_of("images.allow")
    if allow is not None and not matches_pattern(image.name, allow):
        reason = "the policy does not list this image"
        yield Violation(_FIELD, image.name, reason, "images.allow")
    registries = policy.names_of("images.allowRegistries")
    if registries is not None and image.repository.partition("/")[0] not in registries:
        reason = "the policy does not list this image's registry"
        yield Violation(_FIELD, image.name, reason, "images.allowRegistries")
    if matches_pattern(image.name, policy.names_of("images.deny") or frozenset()):
        yield Violation(_FIELD, image.name, "the policy denies this image", "images.deny")


def _digest(image: ImageFacts, policy: Policy) -> Iterator[Violation]:
    if policy.requires("images.requireDigest") and "@sha256:" not in image.name:
        reason = "a tag can be moved to another image"
        yield Violation(_FIELD, image.name, reason, "images.requireDigest")


def _tag(image: ImageFacts, policy: Policy) -> Iterator[Violation]:
    denied = policy.names_of("images.denyTags") or frozenset()
    name, at, _ = image.name.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not at and tag and matches_pattern(tag, denied):
        reason = "the policy denies this tag"
        yield Violation(_FIELD, image.name, reason, "images.denyTags")


def _age(image: ImageFacts, policy: Policy) -> Iterator[Violation]:
    key = "images.maximumAge"
    most = policy.number(key)
    if most is None:
        return
    now = time.time_ns()
    created = image.created_ns or 0
    if created <= 0:
        yield Violation(_FIELD, image.name, "it does not say when it was made", key)
    elif created > now + _SLACK * 10**9:
        yield Violation(_FIELD, image.name, "it says that it was made in the future", key)
    elif created < now - most * 10**9:
        age, bound = human_duration(now - created), human_duration(most * 10**9)
        reason = f"it was made {age.lower()} ago, and the policy allows {bound.lower()}"
        yield Violation(_FIELD, image.name, reason, key)


def _size(image: ImageFacts, policy: Policy) -> Iterator[Violation]:
    key = "images.maximumSize"
    most = policy.number(key)
    if most is None or (image.size is not None and image.size <= most):
        return
    bound = human_size(most, base=1024)
    has = "an unknown size" if image.size is None else human_size(image.size, base=1024)
    reason = f"it has {has}, and the policy allows {bound}"
    yield Violation(_FIELD, image.name, reason, key)


def _trust(image: ImageFacts, policy: Policy) -> Iterator[Violation]:
    for reason in signatures.lacking(policy.names_of(signatures.KEY), image):
        yield Violation(_FIELD, image.name, reason, signatures.KEY)


def _each(case: Case, find: Find, known: str = "") -> Iterator[Violation]:
    """Every image of a case: in the engine with all that is to know, in a file its name.

    ``known`` is what ``find`` looks at, which a file cannot show.
    """
    images = case.images
    if not images and case.offline and case.spec.request.config.image:
        images = (ImageFacts(full_name(case.spec.request.config.image)),)
    for image in images:
        if not (case.offline and known and getattr(image, known) is None):
            yield from find(image, case.policy)
    # Base images too, by their names: the rest is judged when they are pulled.
    for name in (case.build.bases or ()) if case.build is not None and not known else ():
        for violation in find(ImageFacts(name), case.policy) if name else ():
            yield replace(violation, field="Build.From")


@rule(
    "images.allowed",
    "high",
    keys=("images.allow", "images.allowRegistries", "images.deny"),
    references=("CIS 4.2", "NIST 800-190 4.1.5"),
    remediation="use an image that the policy's images.allow and images.allowRegistries name and "
    "images.deny does not",
)
def allowed(case: Case) -> Iterator[Violation]:
    """Images come from where the policy says."""
    yield from _each(case, _allowed)


@rule(
    "images.digest",
    "medium",
    keys=("images.requireDigest",),
    references=("NIST 800-190 4.1.5",),
    remediation="name the image with its digest: NAME@sha256:…",
)
def digest(case: Case) -> Iterator[Violation]:
    """A digest names one image for ever, a tag whatever is pushed next."""
    yield from _each(case, _digest)


@rule(
    "images.tag",
    "low",
    keys=("images.denyTags",),
    references=("CIS 5.28",),
    remediation="name a version, or better a digest",
)
def tag(case: Case) -> Iterator[Violation]:
    """Tags such as latest say nothing about what runs."""
    yield from _each(case, _tag)


@rule(
    "images.age",
    "medium",
    keys=("images.maximumAge",),
    references=("CIS 4.4", "NIST 800-190 4.1.1"),
    remediation="build the image again, with current packages, and pull it",
)
def age(case: Case) -> Iterator[Violation]:
    """Old images miss security updates. When one was made is its builder's word."""
    yield from _each(case, _age, "created_ns")


@rule(
    "images.size",
    "low",
    keys=("images.maximumSize",),
    references=("CIS 4.3",),
    remediation="use an image with less in it",
)
def size(case: Case) -> Iterator[Violation]:
    """What is not in an image cannot be attacked, nor fill the disk."""
    yield from _each(case, _size, "size")


@rule(
    signatures.KEY,
    "critical",
    keys=(signatures.KEY,),
    references=("CIS 4.5", "NIST 800-190 4.1.5"),
    remediation="have it signed (rootless image sign --key FILE IMAGE), then pull it again: "
    "signatures are verified when an image is pulled",
)
def trust(case: Case) -> Iterator[Violation]:
    """Whoever can write to a registry or a disk cannot sign: keys say whose image it is."""
    yield from _each(case, _trust, "vouchers")


RULES = (allowed, digest, tag, age, size, trust)
NAMED = (allowed, digest, tag)
"""What goes by an image's name alone."""
_NAMED = ((allowed, _allowed), (digest, _digest), (tag, _tag))
_PULLED = ((age, _age), (trust, _trust))


def violations(name: str, policy: Policy) -> Iterator[tuple[Rule, Violation]]:
    """What is wrong with an image's name in full, rule by rule."""
    for found, find in _NAMED:
        for violation in find(ImageFacts(name), policy):
            yield found, violation


def pull_violations(image: ImageFacts, policy: Policy) -> Iterator[tuple[Rule, Violation]]:
    """What is wrong with an image whose manifest and configuration are known, its layers not."""
    for found, find in _PULLED:
        for violation in find(image, policy):
            yield found, violation
