"""``rootless policy diff``: what changes between two policies, and for which inputs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rootless.check import exits
from rootless.check.audit import log_lines, own_directory
from rootless.check.inputs import units
from rootless.check.policies import load_policies
from rootless.check.show import shown
from rootless.errors import InvalidInput
from rootless.policy.chain import Line
from rootless.policy.judge import Judge
from rootless.policy.kinds import Constraint
from rootless.policy.past import Past, past
from rootless.policy.policy import Policy
from rootless.policy.reports.as_text import plain


@exits.guarded("policy diff")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog="rootless policy diff",
        description="Print what differs between two policies, field by field, which of the "
        "inputs would get another verdict, and which requests of the past would be decided "
        "otherwise.",
        epilog="exit status: 0 nothing differs, 1 something does, 2 usage or a file that cannot "
        "be read, 3 an invalid policy. example: rootless policy diff old.yaml new.yaml *.json",
    )
    parser.add_argument("old", metavar="OLD", help="a file or builtin:NAME")
    parser.add_argument("new", metavar="NEW", help="a file or builtin:NAME")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="as for check-policy")
    parser.add_argument("--log", metavar="LOG", help="a decision log, whose requests both "
        "policies judge again: its directory, one of its files, or own for this engine's; what "
        "a policy's defaults would put in a request is not considered")  # fmt: skip
    options = parser.parse_intermixed_args(argv)
    old, new = load_policies([options.old]), load_policies([options.new])
    lines = [*_fields(old, new), *_verdicts(old, new, options.inputs)]
    if options.log:
        place = own_directory() if options.log == "own" else Path(options.log)
        again = Again(old, new)
        lines += again.flips(log_lines(place))
    sys.stdout.write("".join(f"{plain(line)}\n" for line in lines))
    if options.log:
        print(again.summary, file=sys.stderr)
    return exits.VIOLATIONS if lines else exits.HOLDS


class Again:
    """The requests of a log under two policies."""

    def __init__(self, old: Policy, new: Policy) -> None:
        self._policies = (old, new)
        self._verdicts: dict[str, tuple[frozenset[str] | None, ...]] = {}
        self._seen = self._flipped = self._unknown = 0

    @property
    def summary(self) -> str:
        """How many requests there were."""
        unknown = f", {self._unknown} cannot be judged again" if self._unknown else ""
        return f"{self._seen} requests in the log: {self._flipped} differ{unknown}"

    def flips(self, lines: Iterable[Line]) -> Iterator[str]:
        """A line for each request that is decided otherwise; equal ones are one, with a count."""
        found: dict[str, tuple[str, str, int]] = {}
        for request in past(_records(lines)):
            self._seen += 1
            key = _key(request)
            if key not in self._verdicts:
                self._verdicts[key] = tuple(request.denials(p) for p in self._policies)
            before, after = self._verdicts[key]
            if before is None or after is None:
                self._unknown += 1
            elif bool(before) != bool(after):
                self._flipped += 1
                _, text, count = found.get(key, ("", _flip(request, before, after), 0))
                found[key] = (str(request.record.get("time")), text, count + 1)
        for time, text, count in found.values():
            often = f" ({count} times, at last {time})" if count > 1 else f" ({time})"
            yield f"{text}{often}"


def _records(lines: Iterable[Line]) -> Iterator[dict[str, Any]]:
    for index, line in enumerate(lines):
        if index == 0 and "seq" not in line.record:
            raise InvalidInput(f"{line.file}:{line.number}: this is no line of a decision log")
        yield line.record


def _key(request: Past) -> str:
    record = request.record
    parts = [record.get(name) for name in ("verb", "target", "identity", "judged")]
    return json.dumps([*parts, request.floored], sort_keys=True)


def _flip(request: Past, before: frozenset[str], after: frozenset[str]) -> str:
    record = request.record
    who = (record.get("identity") or {}).get("name")
    verdicts = [f"denied by {' '.join(sorted(v))}" if v else "allowed" for v in (before, after)]
    return f"{who} {record.get('verb')} {record.get('target')}: {' -> '.join(verdicts)}"


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
            if a != b:
                parts = [f"+ {shown(b - a, key)}"] if b - a else []
                parts += [f"- {shown(a - b, key)}"] if a - b else []
                yield f"{key}: {' '.join(parts)}"
        elif a != b:
            yield f"{key}: {_value(a, key)} -> {_value(b, key)}"
    for key in sorted({*old.defaults, *new.defaults}):
        a, b = old.defaults.get(key), new.defaults.get(key)
        if a != b:
            yield f"default {key}: {_value(a)} -> {_value(b)}"
    if old.layers != new.layers:
        yield "selectors or exceptions differ"


def _value(value: Constraint | None, key: str = "") -> str:
    return "(not set)" if value is None else shown(value, key)


def _verdicts(old: Policy, new: Policy, inputs: Sequence[str]) -> Iterator[str]:
    before, after = Judge(old), Judge(new)
    for name in inputs:
        for unit in units(name, None):
            a, b = before.result(unit, name), after.result(unit, name)
            if a.verdict != b.verdict:
                yield f"{name}: {unit.kind} {unit.name}: {a.verdict} -> {b.verdict}"
