"""Who may ask for what. ``policy.actions`` decides: requests have no container to look at."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.rules.base import Case, Violation, rule

_REFERENCES = ("NIST 800-190 4.3.2",)


@rule(
    "api.action",
    "high",
    keys=("api.allowActions", "api.denyActions"),
    references=_REFERENCES,
    remediation="ask the administrator of the policy",
)
def action(case: Case) -> Iterator[Violation]:
    """Only the actions that the policy allows, whoever asks."""
    del case
    yield from ()


@rule(
    "api.role",
    "high",
    keys=("api.readOnlyRoles",),
    references=_REFERENCES,
    remediation="use an identity with another role",
)
def role(case: Case) -> Iterator[Violation]:
    """Roles that look at everything change nothing."""
    del case
    yield from ()


@rule(
    "api.grant",
    "high",
    keys=("api.grants",),
    references=_REFERENCES,
    remediation="ask for a grant in api.grants, or use an identity that has one",
)
def grant(case: Case) -> Iterator[Violation]:
    """Others than the engine's own user may do what is granted to them and nothing else."""
    del case
    yield from ()


@rule(
    "api.owner",
    "high",
    keys=("api.allowOthers",),
    references=_REFERENCES,
    remediation="use the identity that made it, or one that api.allowOthers names",
)
def owner(case: Case) -> Iterator[Violation]:
    """What one identity made the others neither see nor touch: for them it does not exist."""
    del case
    yield from ()


RULES = (action, role, grant, owner)
