"""What a check of the host says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["found", "missing"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One prerequisite.

    ``detail`` is what was seen; ``cost`` what does not work without it and
    ``fix`` the exact command that mends it, both empty when it was found.
    A missing prerequisite that is ``required`` keeps a default container from running.
    """

    id: str
    title: str
    status: Status
    detail: str
    cost: str = ""
    fix: str = ""
    required: bool = False

    @property
    def blocks(self) -> bool:
        """Does this keep a default container from running?"""
        return self.required and self.status == "missing"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check is about; makes its results."""

    id: str
    title: str
    required: bool = False

    def found(self, detail: str) -> CheckResult:
        """It is there."""
        return CheckResult(self.id, self.title, "found", detail, required=self.required)

    def missing(self, detail: str, *, cost: str, fix: str) -> CheckResult:
        """It is not, with what that costs and what mends it."""
        return CheckResult(self.id, self.title, "missing", detail, cost, fix, self.required)

    def judge(self, detail: str, *, ok: bool, cost: str, fix: str) -> CheckResult:
        """One or the other."""
        return self.found(detail) if ok else self.missing(detail, cost=cost, fix=fix)
