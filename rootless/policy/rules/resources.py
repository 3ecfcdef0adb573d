"""Limits a container must have, and their bounds."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.model.request import Resources
from rootless.policy.rules.base import Case, Violation, rule
from rootless.units import human_size

_DEFAULT_PERIOD = 100_000
"""Microseconds: the kernel's cpu.max period when only a quota is given."""


def cpus(resources: Resources) -> float:
    """The CPUs a container may use at most; 0 for no limit."""
    if resources.nano_cpus:
        return resources.nano_cpus / 1e9
    return max(resources.cpu_quota, 0) / (resources.cpu_period or _DEFAULT_PERIOD)


def _pids(resources: Resources) -> int:
    return max(resources.pids_limit or 0, 0)


@rule(
    "resources.required",
    "medium",
    keys=("resources.require",),
    references=("CIS 5.11, 5.12, 5.29", "NIST 800-190 4.4.3"),
    remediation="run with --memory, --cpus and --pids-limit",
)
def required(case: Case) -> Iterator[Violation]:
    """Limits the policy asks for are there."""
    wanted = case.policy.names_of("resources.require") or frozenset()
    found = case.spec.resources
    for name, field, value, flag in (
        ("memory", "Memory", float(found.memory), "--memory 512m"),
        ("cpus", "NanoCpus", cpus(found), "--cpus 1"),
        ("pids", "PidsLimit", float(_pids(found)), "--pids-limit 512"),
    ):
        if name in wanted and value <= 0:
            yield Violation(
                f"HostConfig.{field}",
                "unlimited",
                f"the policy requires a limit for {name}",
                "resources.require",
                f"run with, for example, {flag}",
            )


@rule(
    "resources.maximum",
    "medium",
    keys=(
        "resources.maximumMemory",
        "resources.maximumCpus",
        "resources.maximumPids",
    ),
    references=("CIS 5.11, 5.12, 5.29",),
    remediation="ask for less",
)
def maximum(case: Case) -> Iterator[Violation]:
    """Limits are not above the policy's; no limit is above every limit."""
    found = case.spec.resources
    for key, field, value, flag in (
        ("resources.maximumMemory", "Memory", float(found.memory), "--memory"),
        ("resources.maximumCpus", "NanoCpus", cpus(found), "--cpus"),
        ("resources.maximumPids", "PidsLimit", float(_pids(found)), "--pids-limit"),
    ):
        top = case.policy.number(key)
        if top is None or 0 < value <= top:
            continue
        memory = field == "Memory"
        shown = human_size(top, base=1024) if memory else str(top)
        yield Violation(
            f"HostConfig.{field}",
            (human_size(value, base=1024) if memory else f"{value:g}") if value else "unlimited",
            f"the policy allows {shown} at most",
            key,
            f"run with {flag} {top}",
        )


@rule(
    "resources.minimum",
    "low",
    keys=("resources.minimumMemory",),
    remediation="ask for more",
)
def minimum(case: Case) -> Iterator[Violation]:
    """A limit that is too low to live with only makes containers fail."""
    least = case.policy.number("resources.minimumMemory")
    found = case.spec.resources.memory
    if least is not None and 0 < found < least:
        yield Violation(
            "HostConfig.Memory",
            human_size(found, base=1024),
            f"the policy asks for {human_size(least, base=1024)} at least",
            "resources.minimumMemory",
        )


RULES = (required, maximum, minimum)
