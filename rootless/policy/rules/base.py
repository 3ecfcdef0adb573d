"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rootless.model.decision import Severity
from rootless.model.facts import HostFacts
from rootless.model.spec import ContainerSpec
from rootless.policy.paths import EnginePaths
from rootless.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Case:
    """What rules look at: one spec under one policy on one host."""

    spec: ContainerSpec
    policy: Policy
    facts: HostFacts
    paths: EnginePaths


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a rule does not hold.

    ``field`` is the request's field as in the Engine API, ``key`` the policy's
    field that says so ('' for what no policy can allow).
    """

    field: str
    value: str
    reason: str
    key: str = ""
    fix: str = ""


Check = Callable[[Case], Iterator[Violation]]


@dataclass(frozen=True, slots=True)
class Rule:
    """``remediation`` is the fix when a violation names none. ``floor`` rules always deny."""

    id: str
    severity: Severity
    references: tuple[str, ...]
    remediation: str
    check: Check
    floor: bool = False


def rule(
    id: str,
    severity: Severity,
    *,
    references: tuple[str, ...] = (),
    remediation: str,
    floor: bool = False,
) -> Callable[[Check], Rule]:
    """Make a rule of a function; its docstring is the rule's rationale."""

    def wrap(check: Check) -> Rule:
        return Rule(id, severity, references, remediation, check, floor)

    return wrap
