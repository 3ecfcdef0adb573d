"""``rootless policy diff``: what changes between two policies, and for which inputs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from rootless.check import exits
from rootless.check.inputs import units
from rootless.check.policies import load_policies
from rootless.check.show import shown
from rootless.policy.documents import InvalidPolicy
from rootless.policy.judge import Judge
from rootless.policy.policy import Policy


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog="rootless policy diff",
        description="Print what differs between two policies, field by field, and which of the "
        "inputs would get another verdict.",
        epilog="exit status: 0 nothing differs, 1 something does, 2 usage or a file that cannot "
        "be read, 3 an invalid policy. example: rootless policy diff old.yaml new.yaml *.json",
    )
    parser.add_argument("old", metavar="OLD", help="a file or builtin:NAME")
    parser.add_argument("new", metavar="NEW", help="a file or builtin:NAME")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="as for check-policy")
    options = parser.parse_intermixed_args(argv)
    try:
        old, new = load_policies([options.old]), load_policies([options.new])
        lines = [*_fields(old, new), *_verdicts(old, new, options.inputs)]
    except InvalidPolicy as error:
        return exits.invalid(error)
    except OSError as error:
        return exits.complain("policy diff", f"{error.filename}: {error.strerror}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return exits.VIOLATIONS if lines else exits.HOLDS


def _fields(old: Policy, new: Policy) -> Iterator[str]:
    if old.mode != new.mode:
        yield f"mode: {old.mode} -> {new.mode}"
    for rule in sorted({*old.rule_modes, *new.rule_modes}):
        before, after = old.mode_of(rule), new.mode_of(rule)
        if before != after:
            yield f"rule {rule}: {before} -> {after}"
    for key in sorted({*old.constraints, *new.constraints}):
        a, b = old.constraints.get(key), new.constraints.get(key)
        if isinstance(a, frozenset) and isinstance(b, frozenset):
            added, gone = " ".join(sorted(b - a)), " ".join(sorted(a - b))
            if added or gone:
                parts = [f"+ {added}"] if added else []
                parts += [f"- {gone}"] if gone else []
                yield f"{key}: {' '.join(parts)}"
        elif a != b:
            yield f"{key}: {_value(a)} -> {_value(b)}"
    for key in sorted({*old.defaults, *new.defaults}):
        a, b = old.defaults.get(key), new.defaults.get(key)
        if a != b:
            yield f"default {key}: {_value(a)} -> {_value(b)}"
    if old.layers != new.layers:
        yield "selectors or exceptions differ"


def _value(value: object) -> str:
    return "(not set)" if value is None else shown(value)  # type: ignore[arg-type]


def _verdicts(old: Policy, new: Policy, inputs: Sequence[str]) -> Iterator[str]:
    before, after = Judge(old), Judge(new)
    for name in inputs:
        for unit in units(name, None):
            a, b = before.result(unit, name), after.result(unit, name)
            if a.verdict != b.verdict:
                yield f"{name}: {unit.kind} {unit.name}: {a.verdict} -> {b.verdict}"
