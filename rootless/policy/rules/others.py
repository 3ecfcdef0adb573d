"""Findings that are made elsewhere than by a rule on a container's spec: what they are about."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.model.decision import Severity


@dataclass(frozen=True, slots=True)
class Described:
    """The part of a rule that is for people; ``made_by`` is the command that finds it."""

    id: str
    severity: Severity
    rationale: str
    remediation: str
    made_by: str
    references: tuple[str, ...] = ()
    floor: bool = False


CONTRADICTION = Described(
    "policy.contradiction", "medium",
    "A policy that nothing can keep to denies everything, which nobody means.",
    "name what is allowed, or leave the field out", "check-policy POLICY",
)  # fmt: skip
SHADOWED = Described(
    "policy.shadowed", "medium",
    "What one field allows and another, or a policy that this one extends, does not is denied: "
    "who reads the first is mistaken.",
    "take it out, or loosen what denies it", "check-policy POLICY",
)  # fmt: skip
DEAD_RULE = Described(
    "policy.dead-rule", "low",
    "What has no effect is taken for protection.",
    "leave it out", "check-policy POLICY",
)  # fmt: skip
EXPIRED = Described(
    "policy.exception-expired", "medium",
    "An exception that has run out forgives nothing any more.",
    "remove it, or have it approved again with a new day", "check-policy POLICY",
)  # fmt: skip
UNUSED = Described(
    "policy.exception-unused", "low",
    "An exception that nothing needs is an opening for what comes.",
    "remove it", "check-policy POLICY INPUT",
)  # fmt: skip
OTHERS: tuple[Described, ...] = (
    CONTRADICTION,
    SHADOWED,
    DEAD_RULE,
    EXPIRED,
    UNUSED,
    Described(
        "input.not-understood", "high",
        "What is not understood is not judged, and never a pass.",
        "correct the input", "check-policy POLICY INPUT",
    ),
    Described(
        "running.drift", "critical",
        "The kernel shows less protection than the engine recorded.",
        "find out who changed it, and start the container anew", "check-policy --running",
        ("NIST 800-190 4.4.3",),
    ),
)  # fmt: skip
