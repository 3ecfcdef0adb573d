"""What a rule is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from rootless.model.decision import Severity
from rootless.model.facts import HostFacts
from rootless.model.mounts import MountSpec
from rootless.model.spec import ContainerSpec
from rootless.policy.paths import EnginePaths, MountTable, own_storage
from rootless.policy.policy import Policy


@dataclass(frozen=True)  # without slots: host_mounts is computed once
class Case:
    """What rules look at: one spec under one policy on one host."""

    spec: ContainerSpec
    policy: Policy
    facts: HostFacts
    paths: EnginePaths

    @cached_property
    def host_mounts(self) -> tuple[tuple[MountSpec, str], ...]:
        """Mounts that show something of the host, each with its resolved source."""
        found = []
        for mount in self.spec.mounts:
            if mount.type in {"bind", "volume", "image"}:
                source = os.path.realpath(mount.source)
                if not own_storage(source, mount.type, mount.volume_name, self.paths):
                    found.append((mount, source))
        return tuple(found)

    @cached_property
    def mount_table(self) -> MountTable:
        """The engine's mounts as they are now."""
        return MountTable.read()

    def roots(self, key: str) -> tuple[tuple[str, frozenset[str]], ...]:
        """A policy's list of paths: each as written, and that with symlinks resolved as well."""
        names = sorted(self.policy.names_of(key) or ())
        if not names or not self.host_mounts:
            return ()
        return tuple((name, frozenset({name, os.path.realpath(name)})) for name in names)


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a rule does not hold.

    ``field`` is the request's field as in the Engine API, ``key`` the policy's
    field that says so ('' for what no policy can allow).
    """

    field: str
    value: str
    reason: str
    key: str = ""
    fix: str = ""


Check = Callable[[Case], Iterator[Violation]]


@dataclass(frozen=True, slots=True)
class Rule:
    """``remediation`` is the fix when a violation names none. ``floor`` rules always deny."""

    id: str
    severity: Severity
    references: tuple[str, ...]
    remediation: str
    check: Check
    floor: bool = False


def rule(
    id: str,
    severity: Severity,
    *,
    references: tuple[str, ...] = (),
    remediation: str,
    floor: bool = False,
) -> Callable[[Check], Rule]:
    """Make a rule of a function; its docstring is the rule's rationale."""

    def wrap(check: Check) -> Rule:
        return Rule(id, severity, references, remediation, check, floor)

    return wrap
