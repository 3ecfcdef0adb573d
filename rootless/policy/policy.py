"""A policy in its merged form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from rootless.policy.fields import FIELDS
from rootless.policy.kinds import Constraint
from rootless.policy.matching import Excuse, Layer, Subject

Mode = Literal["enforce", "warn", "audit"]
_STRICTNESS: tuple[Mode, ...] = ("audit", "warn", "enforce")


def laxest(a: Mode, b: Mode) -> Mode:
    """Of two modes the one that denies less."""
    return a if strictest(a, b) == b else b


def strictest(a: Mode, b: Mode) -> Mode:
    """Of two modes the one that denies more."""
    return a if _STRICTNESS.index(a) >= _STRICTNESS.index(b) else b


_OF_ACTIONS = ("api.allowActions", "api.denyActions", "api.readOnlyRoles")


@dataclass(frozen=True)  # without slots: title is computed once
class Policy:
    """Constraints by field; an absent field does not constrain.

    ``rule_modes`` are exceptions from ``mode`` by rule id. ``sources`` names
    for each field the ``file:line:column`` it comes from; it takes no part in equality.
    """

    names: frozenset[str] = frozenset()
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    mode: Mode = "audit"
    rule_modes: Mapping[str, Mode] = field(default_factory=dict)
    sources: Mapping[str, frozenset[str]] = field(default_factory=dict, compare=False)
    layers: tuple[Layer, ...] = ()
    """Policies with a selector or exceptions, each judged by itself besides this."""
    defaults: Mapping[str, Constraint] = field(default_factory=dict)
    """What fills the gaps of a request; of several policies the nearest one's counts."""

    def names_of(self, key: str) -> frozenset[str] | None:
        """A list's members, None when the field does not constrain."""
        value = self.constraints.get(key)
        assert value is None or isinstance(value, frozenset)
        return value

    def number(self, key: str) -> int | None:
        """A bound, None when there is none."""
        value = self.constraints.get(key)
        assert value is None or isinstance(value, int)
        return value

    def permits(self, key: str) -> bool:
        """Whether an ``allow…`` flag is on or absent."""
        return self.constraints.get(key, True) is True

    def permits_only(self, key: str) -> bool:
        """Whether an ``allow…`` flag is written and on; for what is denied when nobody says."""
        return self.constraints.get(key) is True

    def requires(self, key: str) -> bool:
        """Whether a ``require…`` flag is on."""
        return self.constraints.get(key, False) is True

    def mode_of(self, rule: str) -> Mode:
        """How a rule's findings count."""
        return self.rule_modes.get(rule, self.mode)

    def applicable(self, subject: Subject) -> Iterator[tuple[Policy, tuple[Excuse, ...]]]:
        """The policies that judge a subject, each with the exceptions that belong to it."""
        yield self, ()
        for layer in self.layers:
            if layer.selector.holds(subject):
                yield layer.policy, layer.excuses

    @cached_property
    def judges_actions(self) -> bool:
        """Whether it, or a layer of it, has anything against what the engine's own user does."""
        parts = (self, *(layer.policy for layer in self.layers))
        return any(part.names_of(key) is not None for part in parts for key in _OF_ACTIONS)

    def source_of(self, key: str) -> str:
        """Where a field's constraint was written."""
        return ", ".join(sorted(self.sources.get(key, ()))) or "builtin:floor"

    @cached_property
    def title(self) -> str:
        """Names and the begin of the digest, for records: ``default@3fb2c1d09a77``."""
        return f"{'+'.join(sorted(self.names))}@{self.digest.removeprefix('sha256:')[:12]}"

    @cached_property
    def digest(self) -> str:
        """``sha256:…`` of the meaning: equal for policies that say the same."""
        text = json.dumps(
            [
                _plain(self.constraints),
                self.mode,
                dict(sorted(self.rule_modes.items())),
                [layer.document() for layer in self.layers],
                _plain(self.defaults),
            ]
        )
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _plain(values: Mapping[str, Constraint]) -> dict[str, object]:
    """Constraints in JSON's types and one order."""
    return {
        key: sorted(value) if isinstance(value, frozenset) else value
        for key, value in sorted(values.items())
    }


def meet(a: Policy, b: Policy) -> Policy:
    """The policy that allows exactly what both allow; defaults of ``b`` are the nearer ones."""
    constraints = dict(a.constraints)
    for key, value in b.constraints.items():
        if key in constraints:
            constraints[key] = FIELDS[key].kind.meet(constraints[key], value)
        else:
            constraints[key] = value
    rules = {*a.rule_modes, *b.rule_modes}
    mode = strictest(a.mode, b.mode)
    modes = {rule: strictest(a.mode_of(rule), b.mode_of(rule)) for rule in rules}
    sources = dict(a.sources)
    for key, places in b.sources.items():
        sources[key] = sources.get(key, frozenset()) | places
    return Policy(
        names=a.names | b.names,
        constraints=constraints,
        mode=mode,
        # An exception that says what the mode says is none; dropping it keeps equal
        # meanings equal.
        rule_modes={rule: found for rule, found in modes.items() if found != mode},
        sources=sources,
        layers=_together(a.layers, b.layers),
        defaults={**a.defaults, **b.defaults},
    )


def _together(a: tuple[Layer, ...], b: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Each layer once, in an order that does not depend on who came first."""
    found: dict[str, Layer] = {}
    for layer in sorted((*a, *b), key=lambda layer: sorted(layer.policy.names)):
        found.setdefault(json.dumps(layer.document(), sort_keys=True), layer)
    return tuple(found[key] for key in sorted(found))


def join(a: Policy, b: Policy) -> Policy:
    """The least policy of this language that allows what either of them allows.

    For policies without layers; defaults stay where both have the same.
    """
    assert not a.layers
    assert not b.layers
    mode = laxest(a.mode, b.mode)
    rules = {*a.rule_modes, *b.rule_modes}
    modes = {rule: laxest(a.mode_of(rule), b.mode_of(rule)) for rule in rules}
    return Policy(
        names=a.names | b.names,
        constraints={
            key: FIELDS[key].kind.join(value, b.constraints[key])
            for key, value in a.constraints.items()
            if key in b.constraints
        },
        mode=mode,
        rule_modes={rule: found for rule, found in modes.items() if found != mode},
        sources={
            key: places | b.sources.get(key, frozenset())
            for key, places in a.sources.items()
            if key in b.constraints
        },
        defaults={k: v for k, v in a.defaults.items() if b.defaults.get(k) == v},
    )
