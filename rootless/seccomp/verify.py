"""Checks a compiled filter against the profile it came from, at every boundary of its conditions.

libseccomp 2.5 merges comparisons of one argument of several rules into a tree,
and for some pairs (``>= 2^32`` with ``<= 0``) that tree lets values through
that no rule allows. A filter that fails here is not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rootless.errors import HostUnsupported
from rootless.seccomp.bpf import Instruction, evaluate
from rootless.seccomp.profile import (
    Comparison,
    ResolvedProfile,
    ResolvedRule,
    strictness,
)

_TOP = (1 << 64) - 1
_HIGH = 1 << 32


def holds(comparison: Comparison, value: int) -> bool:
    """Whether an argument's 64-bit value meets the condition."""
    wanted = comparison.value
    match comparison.op:
        case "SCMP_CMP_NE":
            return value != wanted
        case "SCMP_CMP_LT":
            return value < wanted
        case "SCMP_CMP_LE":
            return value <= wanted
        case "SCMP_CMP_EQ":
            return value == wanted
        case "SCMP_CMP_GE":
            return value >= wanted
        case "SCMP_CMP_GT":
            return value > wanted
    return value & wanted == comparison.value_two


def _values(comparison: Comparison) -> set[int]:
    """Values around the condition's boundary, in both halves of the register."""
    found = {0, 1, _HIGH - 1, _HIGH, _HIGH + 1, _TOP}
    for center in (comparison.value, comparison.value_two):
        low, high = center % _HIGH, center - center % _HIGH
        found |= {center, center - 1, center + 1, low, high, high + 1, low + _HIGH, center ^ _HIGH}
        found |= {high - 1, high + _HIGH, high + _HIGH + 1, high | (_HIGH - 1)}
    return {value & _TOP for value in found}


def _miss(rules: Sequence[ResolvedRule], boundaries: dict[int, set[int]]) -> tuple[int, ...]:
    """Arguments that meet no condition, as far as there are such values."""
    found = [0] * 6
    for index, values in boundaries.items():
        conditions = [c for rule in rules for c in rule.args if c.index == index]
        missing = (v for v in sorted(values) if not any(holds(c, v) for c in conditions))
        found[index] = next(missing, 0)
    return tuple(found)


def _points(rules: Sequence[ResolvedRule]) -> Iterator[tuple[int, ...]]:
    """Argument vectors: near each boundary, with a rule's other conditions met or not."""
    yield (0,) * 6
    boundaries: dict[int, set[int]] = {}
    for rule in rules:
        for comparison in rule.args:
            boundaries.setdefault(comparison.index, set()).update(_values(comparison))
    bases: set[tuple[int, ...]] = {(0,) * 6, _miss(rules, boundaries)}
    for rule in rules:
        chosen = list(_miss(rules, boundaries))
        for comparison in rule.args:
            fitting = (v for v in sorted(_values(comparison)) if holds(comparison, v))
            chosen[comparison.index] = next(fitting, 0)
        bases.add(tuple(chosen))
    for base in bases:
        for index, values in boundaries.items():
            for value in values:
                yield (*base[:index], value, *base[index + 1 :])


def verify(
    program: Sequence[Instruction], profile: ResolvedProfile, numbers: dict[str, int], version: str
) -> None:
    """Raise HostUnsupported when the filter's answer to a call is not that of the profile.

    That is the strictest of the rules that match, else the default. The order
    of rules has no meaning; where libseccomp lets a laxer one win, nobody can
    have meant that.

    ``numbers`` are those of the machine's own architecture; calls without
    conditions are one comparison of libseccomp's and are checked once.
    """
    by_name: dict[str, list[ResolvedRule]] = {}
    for rule in profile.rules:
        by_name.setdefault(rule.name, []).append(rule)
    arch = profile.arches[0].audit
    for name, rules in by_name.items():
        if name not in numbers:
            continue
        for point in _points(rules):
            allowed = [r.action for r in rules if all(holds(c, point[c.index]) for c in r.args)]
            answer = evaluate(program, numbers[name], arch, point)
            if answer != min(allowed or [profile.default], key=strictness):
                raise HostUnsupported(
                    f"libseccomp {version} compiles the profile's rules for {name} wrongly "
                    f"(arguments {', '.join(hex(value) for value in point)})",
                    hint="compare with SCMP_CMP_EQ or SCMP_CMP_MASKED_EQ instead, or upgrade "
                    "libseccomp",
                )
