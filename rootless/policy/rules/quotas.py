"""What one identity may have of everything: all its containers together.

In the engine the numbers are those of all that the identity has (``Case.usage``); a file is
judged as if its container were the only one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rootless.model.request import Resources
from rootless.policy.rules.base import Case, Violation, rule
from rootless.policy.rules.resources import cpus
from rootless.units import human_size

_REFERENCES = ("NIST 800-190 4.4.3",)


def limits_of(resources: Resources) -> tuple[float, float]:
    """Memory in bytes and CPUs that a container may use; infinite without a limit."""
    return float(resources.memory) or math.inf, cpus(resources) or math.inf


def _exceeded(case: Case, key: str, field: str, value: float, *, size: bool = False
              ) -> Iterator[Violation]:  # fmt: skip
    most = case.policy.number(key)
    if most is None or value <= most:
        return
    bound = human_size(most, base=1024) if size else str(most)
    if math.isinf(value):
        yield Violation(
            field, "unlimited", f"the policy allows {bound} for all of one identity's together, "
            "and something that runs has no limit", key,
            f"run every container with a limit; all of them together may have {bound}",
        )  # fmt: skip
        return
    shown = human_size(value, base=1024) if size else f"{value:g}"
    reason = f"it would be what the identity has of it in all, and the policy allows {bound}"
    yield Violation(field, shown, reason, key)


@rule(
    "quotas.containers",
    "medium",
    keys=("quotas.maximumContainers",),
    references=_REFERENCES,
    remediation="remove containers that are no longer needed: rootless container prune",
)
def containers(case: Case) -> Iterator[Violation]:
    """One identity's containers are few enough for everybody's to fit."""
    count = case.usage.containers if case.usage is not None else 1
    yield from _exceeded(case, "quotas.maximumContainers", "Containers", count)


@rule(
    "quotas.running",
    "medium",
    keys=("quotas.maximumRunning",),
    references=_REFERENCES,
    remediation="stop another container first",
)
def running(case: Case) -> Iterator[Violation]:
    """What runs at once for one identity leaves room for the others."""
    count = case.usage.running if case.usage is not None else 1
    yield from _exceeded(case, "quotas.maximumRunning", "ContainersRunning", count)


@rule(
    "quotas.memory",
    "medium",
    keys=("quotas.maximumMemory",),
    references=_REFERENCES,
    remediation="stop another container first, or ask for less with --memory",
)
def memory(case: Case) -> Iterator[Violation]:
    """The memory limits of all that runs for one identity, added up."""
    own = limits_of(case.spec.resources)[0]
    total = case.usage.memory if case.usage is not None else own
    yield from _exceeded(case, "quotas.maximumMemory", "HostConfig.Memory", total, size=True)


@rule(
    "quotas.cpus",
    "medium",
    keys=("quotas.maximumCpus",),
    references=_REFERENCES,
    remediation="stop another container first, or ask for less with --cpus",
)
def processors(case: Case) -> Iterator[Violation]:
    """The CPU limits of all that runs for one identity, added up."""
    own = limits_of(case.spec.resources)[1]
    total = case.usage.cpus if case.usage is not None else own
    yield from _exceeded(case, "quotas.maximumCpus", "HostConfig.NanoCpus", total)


@rule(
    "quotas.disk",
    "medium",
    keys=("quotas.maximumDisk",),
    references=_REFERENCES,
    remediation="remove containers, volumes and images that are no longer needed",
)
def disk(case: Case) -> Iterator[Violation]:
    """What the containers of one identity wrote, its volumes and its images."""
    total = case.usage.disk if case.usage is not None else 0
    yield from _exceeded(case, "quotas.maximumDisk", "Size", total, size=True)


RULES = (containers, running, memory, processors, disk)
