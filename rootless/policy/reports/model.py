"""What a report says, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rootless.model.decision import Severity
from rootless.policy.references import Reference

Verdict = Literal["pass", "warn", "fail", "not-understood"]
Mode = Literal["enforce", "warn", "audit"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")
NOT_UNDERSTOOD = "input.not-understood"


@dataclass(frozen=True, slots=True)
class Place:
    """Lines and columns count from 1; ``path`` is like ``spec.containers[0].image``."""

    file: str
    line: int
    column: int
    path: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One finding. ``policy`` is where the policy says so; ``exception`` forgives it."""

    rule: str
    severity: Severity
    mode: Mode
    message: str
    fix: str
    references: tuple[Reference, ...]
    at: Place
    policy: Place | None = None
    exception: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one thing in an input; ``document`` counts from 0."""

    input: str
    document: int
    kind: str
    name: str
    verdict: Verdict
    findings: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was judged, by one policy."""

    policy: str
    digest: str
    results: tuple[Result, ...] = field(default=())


def verdict_of(findings: tuple[Entry, ...]) -> Verdict:
    """The worst of the findings that no exception forgives."""
    if any(found.rule == NOT_UNDERSTOOD for found in findings):
        return "not-understood"
    modes = {found.mode for found in findings if found.exception is None}
    return "fail" if "enforce" in modes else "warn" if "warn" in modes else "pass"


def path_text(path: tuple[str | int, ...]) -> str:
    """``services.web.ports[0]``; keys that are no plain words are quoted."""
    parts = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif step.replace("_", "a").replace("-", "a").isalnum():
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f'["{step}"]')
    return "".join(parts)
