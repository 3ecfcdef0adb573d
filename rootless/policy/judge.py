"""Inputs under a policy: the same rules that admission applies, with the place of each finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.read import NotUnderstood, Path
from rootless.policy.inputs.unit import Container, Unit
from rootless.policy.matching import Excuse, Subject
from rootless.policy.policy import Policy
from rootless.policy.references import parse_references
from rootless.policy.reports.model import (
    NOT_UNDERSTOOD,
    Entry,
    Place,
    Report,
    Result,
    path_text,
    verdict_of,
)
from rootless.policy.rules import IMPLIED_BY_PRIVILEGED, PRIVILEGED, RULES, pss
from rootless.policy.rules.base import ANY_HOST, NO_PATHS, Case, Rule, Violation
from rootless.policy.rules.images import full_name

_PSS = frozenset(rule.id for rule in pss.RULES)


@dataclass(frozen=True, slots=True)
class Judge:
    """``engine`` adds what this engine never allows, whatever a policy says."""

    policy: Policy
    engine: bool = False
    today: date = field(default_factory=date.today)
    only: frozenset[str] | None = None
    """Rules that are applied at all; None for every one."""
    used: set[str] = field(default_factory=set)
    """Ids of the exceptions that forgave something."""

    def result(self, unit: Unit, name: str) -> Result:
        """The verdict on one unit; ``name`` is the input's."""
        named = replace(unit, document=replace(unit.document, file=unit.document.file or name))
        findings = [_problem(named, problem) for problem in unit.problems]
        try:
            findings += self._findings(named)
        except NotUnderstood as problem:
            findings.append(_problem(named, problem))
        found = tuple(dict.fromkeys(findings))
        document = named.document
        return Result(document.file, document.index, unit.kind, unit.name, verdict_of(found), found)

    def _rules(self, *, pod: bool) -> list[Rule]:
        return [
            rule
            for rule in RULES
            if (rule.id in _PSS) == pod
            and (self.engine or not rule.floor)
            and (self.only is None or rule.id in self.only)
        ]

    def _findings(self, unit: Unit) -> Iterator[Entry]:
        if unit.pod is not None:
            blank = Container("", container_spec({}), unit.pod.spec.path)
            image = unit.containers[0].spec.request.config.image if unit.containers else ""
            subject = Subject(full_name(image), unit.name, _labels(unit))
            yield from self._entries(blank, unit, subject, self._rules(pod=True))
        for container in unit.containers:
            spec = container.spec
            labels = _labels(unit) if unit.pod else dict(spec.labels)
            subject = Subject(full_name(spec.request.config.image), container.name, labels)
            yield from self._entries(container, unit, subject, self._rules(pod=False))
            if unit.pod is None:
                yield from self._entries(container, unit, subject, self._rules(pod=True))
        yield from self._remarks(unit)

    def _entries(
        self, container: Container, unit: Unit, subject: Subject, rules: Sequence[Rule]
    ) -> Iterator[Entry]:
        for part, excuses in self.policy.applicable(subject):
            case = Case(
                container.spec,
                part,
                ANY_HOST,
                NO_PATHS,
                offline=True,
                declared=container.declared,
                observed=container.observed,
                pod=unit.pod,
                images=(container.image,) if container.image else (),
                build=container.build,
            )
            for rule, violation, path in _rows(case, container, rules):
                excuse = self._excuse(rule, violation.value, subject, excuses)
                entry = self._entry(rule, violation, path, unit, part)
                several = len(unit.containers) > 1 or unit.kind == "Compose"
                if several and violation.path is None:
                    entry = replace(entry, message=f"{container.name}: {entry.message}")
                yield replace(entry, exception=excuse)

    def _excuse(
        self, rule: Rule, value: str, subject: Subject, excuses: tuple[Excuse, ...]
    ) -> str | None:
        """The exception that forgives all of a finding's values."""
        if rule.floor:
            return None
        used: set[str] = set()
        for one in value.split(", "):
            about = (rule.id, one, subject, self.today)
            excuse = next((e for e in excuses if e.forgives(*about)), None)
            if excuse is None:
                return None
            used.add(excuse.id)
        self.used.update(used)
        return ", ".join(sorted(used))

    def _entry(
        self, rule: Rule, violation: Violation, path: Path, unit: Unit, part: Policy
    ) -> Entry:
        line, column = unit.document.place(path)
        value = f"={violation.value}" if violation.value else ""
        message = violation.reason
        if rule.id not in _PSS or unit.pod is None:
            message = f"{violation.field}{value}: {violation.reason}"
        return Entry(
            rule=rule.id,
            severity=rule.severity,
            mode="enforce" if rule.floor else part.mode_of(rule.id),
            message=message,
            fix=violation.fix or rule.remediation.replace("{value}", violation.value),
            references=parse_references(rule.references),
            at=Place(unit.document.file, line, column, path_text(path)),
            policy=policy_place(part, violation.key),
        )

    def _remarks(self, unit: Unit) -> Iterator[Entry]:
        by_id = {rule.id: rule for rule in RULES}
        subject = Subject(name=unit.name)
        for part, excuses in self.policy.applicable(subject):
            for remark in unit.remarks:
                rule = by_id[remark.rule]
                key = remark_key(remark.rule, remark.value, part)
                if key:
                    found = Violation(remark.field, remark.value, remark.message, key)
                    entry = self._entry(rule, found, remark.path, unit, part)
                    excuse = self._excuse(rule, remark.value, subject, excuses)
                    yield replace(entry, exception=excuse)


def _labels(unit: Unit) -> dict[str, str]:
    """The labels of a pod (or of its template)."""
    return dict(unit.pod.labels) if unit.pod else {}


def _rows(
    case: Case, container: Container, rules: Sequence[Rule]
) -> Iterator[tuple[Rule, Violation, Path]]:
    """Violations with their places; what differs in its value only is one."""
    found = [(rule, violation) for rule in rules for violation in rule.check(case)]
    denied = any(
        rule.id == PRIVILEGED and case.policy.mode_of(rule.id) == "enforce" for rule, _ in found
    )
    rows: dict[tuple[str, Path, str, str], tuple[Rule, Violation]] = {}
    for rule, violation in found:
        if denied and rule.id in IMPLIED_BY_PRIVILEGED:
            continue
        if violation.path is not None and case.pod is not None:
            path: Path = violation.path
        else:
            path = container.path((violation.field, *violation.at))
        key = (rule.id, path, violation.field, violation.reason)
        before = rows.get(key)
        if before is not None and before[1].value != violation.value:
            value = f"{before[1].value}, {violation.value}"
            rows[key] = (rule, replace(before[1], value=value, fix=""))
        else:
            rows[key] = (rule, violation)
    for (_, path, _, _), (rule, violation) in rows.items():
        yield rule, violation, path


def _problem(unit: Unit, problem: NotUnderstood) -> Entry:
    path = problem.path or ()
    line, column = problem.place or unit.document.place(path)
    return Entry(
        NOT_UNDERSTOOD, "high", "enforce", problem.message, "correct the input", (),
        Place(unit.document.file, line, column, path_text(path)),
    )  # fmt: skip


def remark_key(rule: str, value: str, policy: Policy) -> str:
    """The policy's field that makes a finding of a remark, '' where none does."""
    from rootless.policy.rules import cis, mounts

    if rule == "mounts.shared-volume":
        return "" if policy.permits(mounts.SHARED_KEY) else mounts.SHARED_KEY
    number = rule.removeprefix("cis-docker.")
    counts = number in (policy.names_of(cis.KEY) or ())
    return cis.KEY if counts and (number != "5.6" or cis.sensitive(value)) else ""


def policy_place(policy: Policy, key: str) -> Place | None:
    """Where the policy has a field: the first of the files that have it."""
    places = sorted(policy.sources.get(key, ()))
    if not places:
        return None
    file, line, column = places[0].rsplit(":", 2)
    return Place(file, int(line), int(column))


def report(policy: Policy, results: Sequence[Result]) -> Report:
    """A report of these results."""
    return Report("+".join(sorted(policy.names)), policy.digest, tuple(results))
