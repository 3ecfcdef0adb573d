"""What the policy said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["low", "medium", "high", "critical"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that did not hold.

    ``rule`` is the rule's id (``capabilities.add``), ``field`` the path in the
    request (``HostConfig.CapAdd``), ``source`` the policy's ``file:line`` or
    ``builtin:default``.
    """

    rule: str
    field: str
    value: str
    reason: str
    fix: str
    severity: Severity = "high"
    action: Literal["deny", "warn", "audit"] = "deny"
    source: str = "builtin:default"
    exception: str = ""
    """The policy's exception that let it pass; ``action`` is then ``audit``."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.field}={self.value}: {self.reason} (fix: {self.fix})"


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """For people: findings that differ in their value only are one, with all values."""
    rows: dict[tuple[str, ...], Finding] = {}
    for found in findings:
        key = (found.rule, found.field, found.reason, found.fix, found.action)
        before = rows.get(key)
        value = f"{before.value}, {found.value}" if before else found.value
        rows[key] = replace(found, value=value)
    return list(rows.values())


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for one request; ``weakened`` names protections the policy let go."""

    allowed: bool
    policy: str
    """Name and digest of the policy that decided."""
    findings: tuple[Finding, ...] = ()
    weakened: tuple[str, ...] = ()
