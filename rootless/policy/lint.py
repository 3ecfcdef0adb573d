"""What is odd about a policy that is valid: contradictions, and what has no effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from rootless.policy.fields import FIELDS
from rootless.policy.kinds import Constraint, beneath, matches_pattern
from rootless.policy.matching import Excuse
from rootless.policy.policy import Policy
from rootless.policy.reports.model import Entry, Place, Result, verdict_of
from rootless.policy.rules import RULES
from rootless.policy.rules.others import (
    CONTRADICTION,
    DEAD_RULE,
    EXPIRED,
    SHADOWED,
    UNUSED,
    Described,
)


@dataclass(frozen=True, slots=True)
class Odd:
    """``key`` is the policy's field it is about."""

    what: Described
    key: str
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """One file's own policy, and what it can only tighten (what it extends, other layers)."""

    own: Policy
    base: Policy | None


def lint(
    policy: Policy,
    name: str,
    used: set[str] | None = None,
    written: Iterable[Written] = (),
) -> Result:
    """The policy as a result: warnings about what its author cannot have meant.

    ``used`` are the exceptions that forgave something in the inputs that were
    judged; None when none were. ``written`` are the files it was made from.
    """
    parts = [policy, *(layer.policy for layer in policy.layers)]
    findings: list[Entry] = []
    if used is None:
        findings = [_entry(part, odd, name) for part in parts for odd in _oddities(part)]
        for file in written:
            findings += [_entry(file.own, odd, name) for odd in _loosening(file)]
    found = (*dict.fromkeys(findings), *_excuses(policy, used))
    title = "+".join(sorted(policy.names))
    return Result(name, 0, "Policy", title, verdict_of(found), found)


def _entry(policy: Policy, odd: Odd, name: str) -> Entry:
    places = sorted(policy.sources.get(odd.key, ()))
    file, line, column = places[0].rsplit(":", 2) if places else (name, "1", "1")
    place = Place(file, int(line), int(column), f"spec.{odd.key}")
    fix = odd.fix or odd.what.remediation
    return Entry(odd.what.id, odd.what.severity, "warn", odd.message, fix, (), place, place)


def _oddities(policy: Policy) -> Iterator[Odd]:
    yield from _contradictions(policy)
    yield from _shadowed(policy)
    yield from _without_effect(policy)


def _excuses(policy: Policy, used: set[str] | None) -> Iterator[Entry]:
    """Exceptions that have run out, and those that nothing needed or can need."""
    for layer in policy.layers:
        for excuse in layer.excuses:
            found = _excuse(layer.policy, excuse, used)
            if found is not None:
                what, message = found
                file, line, column = excuse.source.rsplit(":", 2)
                place = Place(file, int(line), int(column), f"exceptions.{excuse.id}")
                fix = what.remediation
                yield Entry(what.id, what.severity, "warn", message, fix, (), place, place)


def _excuse(policy: Policy, excuse: Excuse, used: set[str] | None) -> tuple[Described, str] | None:
    if date.today() > excuse.expires:
        return EXPIRED, f"the exception {excuse.id} ran out on {excuse.expires} and has no effect"
    if used is not None and excuse.id not in used:
        return UNUSED, f"the exception {excuse.id} forgave nothing in these inputs"
    about = [rule for rule in RULES if matches_pattern(rule.id, excuse.rules)]
    if about and not any(key in policy.constraints for rule in about for key in rule.keys):
        rules = ", ".join(sorted(excuse.rules))
        return DEAD_RULE, (
            f"the exception {excuse.id} is about {rules}, which no field of this policy can break"
        )
    return None


def _contradictions(policy: Policy) -> Iterator[Odd]:
    """Nothing can run: no value is left of what everything needs one of."""
    for key, what in (
        ("userns.allowModes", "user namespace mode"),
        ("network.allowModes", "network mode"),
        ("images.allow", "image"),
        ("mounts.allowPropagation", "propagation"),
        ("landlock.read", "file, not even a program,"),
        ("restart.allow", "restart policy"),
        ("api.allowActions", "action"),
        ("build.allowBases", "base image"),
        ("build.allowNetworks", "network of a build"),
    ):
        if policy.names_of(key) == frozenset():
            yield Odd(
                CONTRADICTION,
                key,
                f"{key} allows no {what} at all, so everything that has one is denied",
            )
    for least, most in (
        ("resources.minimumMemory", "resources.maximumMemory"),
        ("ports.minimumHostPort", "ports.maximumHostPort"),
    ):
        low, high = policy.number(least), policy.number(most)
        if low is not None and high is not None and low > high:
            message = f"{most} is below {least}, so nothing fits"
            yield Odd(CONTRADICTION, most, message, "raise the one or lower the other")
    if "*" in (policy.names_of("images.deny") or ()):
        yield Odd(CONTRADICTION, "images.deny", "images.deny is about every image")
    for key in ("maximumMemory", "maximumCpus", "maximumPids"):
        if policy.number(f"resources.{key}") == 0:
            message = f"resources.{key} is 0, which no container keeps to"
            yield Odd(CONTRADICTION, f"resources.{key}", message)


def _same(allowed: str, denied: str) -> bool:
    return allowed == denied


def _beneath_pattern(allowed: str, denied: str) -> bool:
    return matches_pattern(allowed, frozenset({denied}))


_PAIRS: tuple[tuple[str, str, Callable[[str, str], bool]], ...] = (
    ("capabilities.allow", "capabilities.deny", _same),
    ("mounts.allowSources", "mounts.denySources", beneath),
    ("images.allow", "images.deny", _beneath_pattern),
    ("api.allowActions", "api.denyActions", _same),
    ("mounts.readOnlySources", "mounts.denySources", beneath),
)
"""What the first list allows (or restricts) has no effect where the second denies it."""


def _shadowed(policy: Policy) -> Iterator[Odd]:
    """Allowed by one list and denied by another: the denial counts."""
    for allow, deny, covers in _PAIRS:
        for name in sorted(policy.names_of(allow) or ()):
            for other in sorted(policy.names_of(deny) or ()):
                if covers(name, other):
                    part = "" if name == other else f" as a part of {other}"
                    message = f"{name} of {allow} is denied{part} by {deny}, which counts"
                    yield Odd(SHADOWED, allow, message, "take it from one of the lists")
                    break
    for key, needs, what in (
        ("mounts.allowSources", "mounts.allowTypes", "bind"),
        ("namespaces.allowHost", "network.allowModes", "network"),
        ("restart.maximumRetries", "restart.allow", "on-failure"),
    ):
        yield from _in_vain(policy, key, needs, what)
    if policy.permits_only("seccomp.allowUnconfined") and policy.names_of("seccomp.denyCalls"):
        message = "seccomp.allowUnconfined lets the calls pass that seccomp.denyCalls denies"
        yield Odd(SHADOWED, "seccomp.denyCalls", message, "set allowUnconfined: false")


def _in_vain(policy: Policy, key: str, needs: str, what: str) -> Iterator[Odd]:
    """``key`` says something about what another list does not allow at all."""
    listed = policy.names_of(needs)
    if listed is None or key not in policy.constraints:
        return
    if key == "namespaces.allowHost":
        shadowed = "network" in (policy.names_of(key) or ()) and "host" not in listed
        message = f"{key} allows network, and {needs} does not allow host"
    else:
        value = policy.constraints[key]
        shadowed = what not in listed and value != frozenset()
        message = f"{key} is about {what}, which {needs} does not allow"
    if shadowed:
        yield Odd(SHADOWED, key, f"{message}, so it has no effect")


def _loosening(file: Written) -> Iterator[Odd]:
    """What a file means to allow and what it extends does not: files can only tighten."""
    base = file.base
    if base is None:
        return
    for key, value in sorted(file.own.constraints.items()):
        held = base.constraints.get(key)
        if held is None:
            continue
        lost = _lost(key, value, held)
        if lost:
            where = base.source_of(key)
            message = f"{key}: {lost} has no effect: {where} allows less, and counts"
            fix = "extend something that allows it (extends: none extends nothing)"
            yield Odd(SHADOWED, key, message, fix)


def _lost(key: str, value: Constraint, held: Constraint) -> str:
    """What of a value goes beyond what is held already, '' when nothing does."""
    kind = FIELDS[key].kind
    both = kind.meet(value, held)
    if isinstance(value, frozenset):
        if not kind.name.startswith("allow"):
            return ""
        assert isinstance(both, frozenset)
        beyond = [one for one in value if kind.meet(frozenset({one}), both) != frozenset({one})]
        return ", ".join(sorted(beyond))
    if both == value:
        return ""
    return str(value).lower()


def _without_effect(policy: Policy) -> Iterator[Odd]:
    """Modes of rules that nothing in the policy can break, and bounds that bound nothing."""
    by_id = {rule.id: rule for rule in RULES}
    for rule in sorted(policy.rule_modes):
        keys = by_id[rule].keys if rule in by_id else ()
        if keys and not any(key in policy.constraints for key in keys):
            named = ", ".join(sorted(keys))
            yield Odd(
                DEAD_RULE,
                next(iter(sorted(keys))),
                f"rules has a mode for {rule}, but no field of this policy can break it",
                f"set one of {named}, or leave the mode out",
            )
    if policy.number("ports.minimumHostPort") == 0:
        message = "ports.minimumHostPort constrains nothing"
        yield Odd(DEAD_RULE, "ports.minimumHostPort", message)
    for key in ("images.allow", "sysctls.allow", "api.allowActions", "build.allowBases"):
        if "*" in (policy.names_of(key) or ()):
            yield Odd(DEAD_RULE, key, f"{key} constrains nothing")
    for key in ("mounts.allowSources", "devices.allow", "landlock.read", "landlock.write"):
        if "/" in (policy.names_of(key) or ()):
            yield Odd(DEAD_RULE, key, f"{key} has /, which is every path")
