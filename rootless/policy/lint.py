"""What is odd about a policy that is valid: contradictions, and what has no effect."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from rootless.policy.kinds import beneath, matches_pattern
from rootless.policy.policy import Policy
from rootless.policy.reports.model import Entry, Place, Result, verdict_of


def lint(policy: Policy, name: str, used: set[str] | None = None) -> Result:
    """The policy as a result: warnings about what its author cannot have meant.

    ``used`` are the exceptions that forgave something in the inputs that were
    judged; None when none were.
    """
    parts = [policy, *(layer.policy for layer in policy.layers)]
    findings = [entry for part in parts for entry in _findings(part, name)] if used is None else []
    found = (*findings, *_excuses(policy, used))
    title = "+".join(sorted(policy.names))
    return Result(name, 0, "Policy", title, verdict_of(found), found)


def _findings(policy: Policy, name: str) -> Iterator[Entry]:
    for rule, key, message, fix in (
        *_contradictions(policy),
        *_shadowed(policy),
        *_without_effect(policy),
    ):
        places = sorted(policy.sources.get(key, ()))
        file, line, column = places[0].rsplit(":", 2) if places else (name, "1", "1")
        place = Place(file, int(line), int(column), f"spec.{key}")
        yield Entry(rule, "medium", "warn", message, fix, (), place, place)


def _excuses(policy: Policy, used: set[str] | None) -> Iterator[Entry]:
    """Exceptions that have run out, and those that nothing needed."""
    today = date.today()
    for excuse in (excuse for layer in policy.layers for excuse in layer.excuses):
        file, line, column = excuse.source.rsplit(":", 2)
        place = Place(file, int(line), int(column), f"exceptions.{excuse.id}")
        if today > excuse.expires:
            message = f"the exception {excuse.id} ran out on {excuse.expires} and has no effect"
            fix = "remove it, or have it approved again with a new day"
            yield Entry(
                "policy.exception-expired", "medium", "warn", message, fix, (), place, place
            )
        elif used is not None and excuse.id not in used:
            message = f"the exception {excuse.id} forgave nothing in these inputs"
            yield Entry(
                "policy.exception-unused", "low", "warn", message, "remove it", (), place, place
            )


_Odd = tuple[str, str, str, str]


def _contradictions(policy: Policy) -> Iterator[_Odd]:
    """Nothing can run: an empty list of what everything needs one of."""
    for key, what in (
        ("userns.allowModes", "user namespace mode"),
        ("network.allowModes", "network mode"),
        ("images.allow", "image"),
        ("mounts.allowPropagation", "propagation"),
    ):
        if policy.names_of(key) == frozenset():
            yield (
                "policy.contradiction", key,
                f"{key} allows no {what} at all, so every container that has one is denied",
                "name what is allowed, or leave the field out",
            )  # fmt: skip
    for least, most in (
        ("resources.minimumMemory", "resources.maximumMemory"),
        ("ports.minimumHostPort", "ports.maximumHostPort"),
    ):
        low = policy.constraints.get(least)
        high = policy.constraints.get(most)
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield (
                "policy.contradiction", most, f"{most} is below {least}, so nothing fits",
                "raise the one or lower the other",
            )  # fmt: skip


def _shadowed(policy: Policy) -> Iterator[_Odd]:
    """Allowed by one list and denied by another: the denial counts."""
    allowed = policy.names_of("capabilities.allow") or frozenset()
    denied = policy.names_of("capabilities.deny") or frozenset()
    for name in sorted(allowed & denied):
        yield (
            "policy.shadowed", "capabilities.allow",
            f"{name} is allowed here and denied by capabilities.deny, which counts",
            "take it from one of the lists",
        )  # fmt: skip
    closed = policy.names_of("mounts.denySources") or frozenset()
    for path in sorted(policy.names_of("mounts.allowSources") or ()):
        root = next((root for root in sorted(closed) if beneath(path, root)), None)
        if root is not None:
            yield (
                "policy.shadowed", "mounts.allowSources",
                f"{path} is allowed here and denied as a part of {root} by mounts.denySources",
                "take it from one of the lists",
            )  # fmt: skip


def _without_effect(policy: Policy) -> Iterator[_Odd]:
    """Modes of rules that nothing in the policy can make a finding of."""
    from rootless.policy.rules import RULES

    by_id = {rule.id: rule for rule in RULES}
    for rule in sorted(policy.rule_modes):
        keys = by_id[rule].keys if rule in by_id else ()
        if keys and not any(key in policy.constraints for key in keys):
            yield (
                "policy.dead-rule", next(iter(sorted(keys))),
                f"rules has a mode for {rule}, but no field of this policy can break it",
                f"set one of {', '.join(sorted(keys))}, or leave the mode out",
            )  # fmt: skip
    low = policy.number("ports.minimumHostPort")
    if low == 0 or matches_pattern("*", policy.names_of("images.allow") or frozenset()):
        key = "ports.minimumHostPort" if low == 0 else "images.allow"
        yield ("policy.dead-rule", key, f"{key} constrains nothing", "leave it out")
