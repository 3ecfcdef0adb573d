"""Which images may be pulled and run."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.kinds import matches_pattern
from rootless.policy.policy import Policy
from rootless.policy.rules.base import Case, Rule, Violation, rule

_FIELD = "Config.Image"


def full_name(reference: str) -> str:
    """``docker.io/library/nginx:latest`` from ``nginx``, as every client reads it."""
    if not reference or reference.startswith("sha256:"):
        return reference
    first, slash, _ = reference.partition("/")
    host = slash and ("." in first or ":" in first or first == "localhost")
    name = reference if host else f"docker.io/{reference if slash else f'library/{reference}'}"
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def _allowed(reference: str, policy: Policy) -> Iterator[Violation]:
    allow = policy.names_of("images.allow")
    if allow is not None and not matches_pattern(reference, allow):
        reason = "the policy does not list this image"
        yield Violation(_FIELD, reference, reason, "images.allow")
    if matches_pattern(reference, policy.names_of("images.deny") or frozenset()):
        yield Violation(_FIELD, reference, "the policy denies this image", "images.deny")


def _digest(reference: str, policy: Policy) -> Iterator[Violation]:
    if policy.requires("images.requireDigest") and "@sha256:" not in reference:
        reason = "a tag can be moved to another image"
        yield Violation(_FIELD, reference, reason, "images.requireDigest")


def _tag(reference: str, policy: Policy) -> Iterator[Violation]:
    denied = policy.names_of("images.denyTags") or frozenset()
    name, at, _ = reference.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not at and tag and matches_pattern(tag, denied):
        reason = "the policy denies this tag"
        yield Violation(_FIELD, reference, reason, "images.denyTags")


def _offline(find: object, case: Case) -> Iterator[Violation]:
    """In the engine the name is judged before there is a spec (``admit_image``)."""
    if case.offline and case.spec.request.config.image and callable(find):
        yield from find(full_name(case.spec.request.config.image), case.policy)


@rule(
    "images.allowed",
    "high",
    keys=("images.allow", "images.deny"),
    references=("CIS 4.2", "NIST 800-190 4.1.5"),
    remediation="use an image that images.allow names and images.deny does not",
)
def allowed(case: Case) -> Iterator[Violation]:
    """Images come from where the policy says."""
    yield from _offline(_allowed, case)


@rule(
    "images.digest",
    "medium",
    keys=("images.requireDigest",),
    references=("NIST 800-190 4.1.5",),
    remediation="name the image with its digest: NAME@sha256:…",
)
def digest(case: Case) -> Iterator[Violation]:
    """A digest names one image for ever, a tag whatever is pushed next."""
    yield from _offline(_digest, case)


@rule(
    "images.tag",
    "low",
    keys=("images.denyTags",),
    references=("CIS 5.28",),
    remediation="name a version, or better a digest",
)
def tag(case: Case) -> Iterator[Violation]:
    """Tags such as latest say nothing about what runs."""
    yield from _offline(_tag, case)


RULES = (allowed, digest, tag)
_FINDERS = ((allowed, _allowed), (digest, _digest), (tag, _tag))


def violations(reference: str, policy: Policy) -> Iterator[tuple[Rule, Violation]]:
    """What is wrong with an image's name in full, rule by rule."""
    for found, find in _FINDERS:
        for violation in find(reference, policy):
            yield found, violation
