"""Docker's ``includes`` and ``excludes``: rules that count for some capabilities or kernels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from rootless.errors import InvalidInput

Atom = tuple[str, Any]
"""``("caps", NAME)``, ``("arches", NAME)`` or ``("minKernel", (major, minor))``."""

_KERNEL = re.compile(r"(\d{1,4})\.(\d{1,4})(\.\d{1,6})?")
_MAX_ATOMS = 10


@dataclass(frozen=True, slots=True)
class World:
    """One combination of facts: which of the atoms that anybody asks for hold."""

    true: frozenset[Atom]
    false: frozenset[Atom]


@dataclass(frozen=True, slots=True)
class Condition:
    """All capabilities, any architecture, the kernel of ``includes``; nothing of ``excludes``."""

    includes: tuple[Atom, ...] = ()
    excludes: tuple[Atom, ...] = ()

    def holds(self, facts: frozenset[Atom]) -> bool:
        """Whether the rule counts where exactly ``facts`` hold."""
        arches = [atom for atom in self.includes if atom[0] == "arches"]
        if arches and not any(atom in facts for atom in arches):
            return False
        if any(atom not in facts for atom in self.includes if atom[0] != "arches"):
            return False
        return not any(atom in facts for atom in self.excludes)

    @staticmethod
    def worlds(conditions: Iterable[Condition]) -> Iterator[World]:
        """Every combination of facts that can be, over the atoms of the conditions."""
        atoms = sorted({a for c in conditions for a in (*c.includes, *c.excludes)}, key=str)
        if len(atoms) > _MAX_ATOMS:
            raise InvalidInput(
                "the conditions (includes, excludes) of a call are too many to merge"
            )
        for values in product((True, False), repeat=len(atoms)):
            true = frozenset(atom for atom, value in zip(atoms, values, strict=True) if value)
            if _possible(true, atoms):
                yield World(true, frozenset(atoms) - true)


def _possible(true: frozenset[Atom], atoms: list[Atom]) -> bool:
    """A machine has one architecture, and a kernel that is at least 5.8 is at least 4.8."""
    if sum(atom[0] == "arches" for atom in true) > 1:
        return False
    kernels = [atom for atom in atoms if atom[0] == "minKernel"]
    return all(
        low in true for high in kernels for low in kernels if high in true and low[1] <= high[1]
    )


def read_condition(entry: dict[str, Any], where: str) -> Condition:
    """The condition of a ``syscalls`` entry."""
    sides = []
    for name in ("includes", "excludes"):
        found = entry.get(name) or {}
        if not isinstance(found, dict) or set(found) - {"caps", "arches", "minKernel"}:
            raise InvalidInput(f"{where}: {name} holds caps, arches and minKernel only")
        atoms: list[Atom] = []
        for kind in ("caps", "arches"):
            values = found.get(kind) or []
            if not isinstance(values, list):
                raise InvalidInput(f"{where}: {name}.{kind} must be a list")
            atoms += [(kind, str(value)) for value in values]
        kernel = found.get("minKernel")
        if kernel:
            match = _KERNEL.fullmatch(str(kernel))
            if match is None:
                raise InvalidInput(f"{where}: {kernel!r} is not a kernel version such as 5.13")
            atoms.append(("minKernel", (int(match[1]), int(match[2]))))
        sides.append(tuple(atoms))
    return Condition(*sides)


def write_condition(world: World) -> dict[str, Any]:
    """The ``includes`` and ``excludes`` that hold in this world and in no other."""
    written: dict[str, Any] = {}
    for name, atoms, pick in (("includes", world.true, max), ("excludes", world.false, min)):
        found: dict[str, Any] = {}
        for kind in ("caps", "arches"):
            values = sorted(value for k, value in atoms if k == kind)
            if values:
                found[kind] = values
        kernels = [value for kind, value in atoms if kind == "minKernel"]
        if kernels:
            found["minKernel"] = ".".join(map(str, pick(kernels)))
        if found:
            written[name] = found
    return written
