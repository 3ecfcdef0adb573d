"""Seccomp profiles: the meet is what the kernel does with all of them loaded.

Of several filters the kernel takes the strictest action (seccomp(2)); of equally
strict ones that of the filter that was loaded last, so the order of the files decides
which errno is seen. The join takes the laxest. Rules of the result never overlap, so
that every reader of it sees the same.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from rootless.errors import InvalidInput
from rootless.policy.profiles.conditions import (
    Atom,
    Condition,
    World,
    read_condition,
    write_condition,
)
from rootless.policy.profiles.regions import (
    EVERYTHING,
    MAX_CUBES,
    Cube,
    TooComplex,
    compact,
    comparison,
    describe,
    difference,
    intersect,
)

ORDER = (
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
)
"""From the strictest, as the kernel ranks them (seccomp(2), "return value precedence")."""

_SAME = {"SCMP_ACT_KILL": "SCMP_ACT_KILL_THREAD"}
_OPERATORS = frozenset(f"SCMP_CMP_{name}" for name in "NE LT LE EQ GE GT MASKED_EQ".split())
_KNOWN = frozenset(
    "comment defaultAction defaultErrnoRet defaultErrno architectures archMap flags "
    "syscalls".split()
)
_LOOSENING = frozenset({"SECCOMP_FILTER_FLAG_SPEC_ALLOW"})
_WITH_ERRNO = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})
_EPERM = 1
_MAX_CELLS = 1 << 14
"""Combinations of what the rules of one call compare; each is looked at."""


class NoSingleProfile(InvalidInput):
    """No profile can do what these do together."""


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """``errno`` is for ERRNO and TRACE; None is what the runtime takes, EPERM."""

    name: str
    errno: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Action) and self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash(self._meaning())

    def _meaning(self) -> tuple[str, int]:
        return self.name, _EPERM if self.errno is None else self.errno

    @property
    def rank(self) -> int:
        """0 is the strictest."""
        return ORDER.index(self.name)


Comparison = tuple[int, str, int, int]
"""Index, operator, value, second value."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule for one call."""

    action: Action
    args: tuple[Comparison, ...]
    condition: Condition


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile by call. ``architectures`` are those beside the machine's own."""

    default: Action
    calls: dict[str, list[Rule]]
    architectures: frozenset[str]
    flags: frozenset[str]
    arch_map: tuple[str, ...] = ()
    """``archMap``, each entry as JSON text."""


def _bad(name: str, where: str, problem: str) -> InvalidInput:
    return InvalidInput(f"{name}: {where}: {problem}")


def _items(name: str, where: str, value: Any) -> list[Any]:
    """A list, empty when it is absent."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _bad(name, where, "must be a list")
    return value


def _number(name: str, where: str, number: Any, symbol: Any) -> Any:
    """``errnoRet``, or the number of Podman's symbolic ``errno``."""
    if number is None and symbol:
        number = getattr(errno, symbol, None) if isinstance(symbol, str) else None
        if not isinstance(number, int):
            raise _bad(name, where, f"unknown errno {symbol!r}")
    return number


def _action(name: str, where: str, word: Any, number: Any) -> Action:
    word = _SAME.get(word, word) if isinstance(word, str) else word
    if word not in ORDER:
        raise _bad(name, where, f"unknown action {word!r}")
    takes = word in _WITH_ERRNO
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise _bad(name, where, "errnoRet must be a number")
    return Action(word, number if takes else None)


def _args(name: str, where: str, value: Any) -> tuple[Comparison, ...]:
    found: list[Comparison] = []
    for arg in _items(name, f"{where}.args", value):
        if not isinstance(arg, dict) or arg.get("op") not in _OPERATORS:
            raise _bad(name, where, "an argument needs index, value and a known op")
        numbers = [arg.get("index"), arg.get("value"), arg.get("valueTwo", 0)]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise _bad(name, where, "index and values must be numbers that are not negative")
        found.append((numbers[0], arg["op"], numbers[1], numbers[2]))
    if len({arg[0] for arg in found}) != len(found):
        raise _bad(name, where, "compares one argument twice, which runtimes read differently")
    return tuple(found)


def parse(text: str, name: str) -> Profile:
    """Read a profile's JSON; raises InvalidInput naming the file and the place."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(name, "JSON", str(error)) from error
    if not isinstance(document, dict) or "defaultAction" not in document:
        raise _bad(name, "top level", "a seccomp profile is an object with defaultAction")
    for key in document:
        if key not in _KNOWN:
            raise _bad(name, key, "this is not understood, so it cannot be merged")
    calls: dict[str, list[Rule]] = {}
    for index, entry in enumerate(_items(name, "syscalls", document.get("syscalls"))):
        where = f"syscalls[{index}]"
        if not isinstance(entry, dict):
            raise _bad(name, where, "must be an object")
        found = _number(name, where, entry.get("errnoRet"), entry.get("errno"))
        rule = Rule(
            _action(name, where, entry.get("action"), found),
            _args(name, where, entry.get("args")),
            read_condition(entry, f"{name}: {where}"),
        )
        names = entry.get("names") or ([entry["name"]] if entry.get("name") else [])
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise _bad(name, where, "names must be a list of strings")
        for call in names:
            calls.setdefault(call, []).append(rule)
    number = _number(
        name, "defaultErrno", document.get("defaultErrnoRet"), document.get("defaultErrno")
    )
    return Profile(
        _action(name, "defaultAction", document["defaultAction"], number),
        calls,
        frozenset(map(str, _items(name, "architectures", document.get("architectures")))),
        frozenset(map(str, _items(name, "flags", document.get("flags")))),
        tuple(
            json.dumps(entry, sort_keys=True)
            for entry in _items(name, "archMap", document.get("archMap"))
        ),
    )


def _strictest(actions: Sequence[Action]) -> Action:
    return min(reversed(actions), key=lambda action: action.rank)


def _laxest(actions: Sequence[Action]) -> Action:
    return max(reversed(actions), key=lambda action: action.rank)


Choose = Callable[[Sequence[Action]], Action]


def _cells(comparisons: tuple[Comparison, ...]) -> list[tuple[frozenset[Comparison], list[Cube]]]:
    """Each set of comparisons of one argument that hold together, and for which values."""
    cells: list[tuple[frozenset[Comparison], list[Cube]]] = [(frozenset(), [EVERYTHING])]
    for found in comparisons:
        values = comparison(*found[1:])
        halves = []
        for holding, cubes in cells:
            halves.append((holding | {found}, intersect(cubes, values)))
            halves.append((holding, difference(cubes, values)))
        cells = [half for half in halves if half[1]]
        if len(cells) > MAX_CUBES:
            raise TooComplex
    return cells


def _answer(
    profile: Profile, call: str, holding: frozenset[Comparison], facts: frozenset[Atom]
) -> Action:
    """One profile's action where exactly these comparisons and facts hold."""
    matching = [
        rule.action
        for rule in profile.calls.get(call, ())
        if all(arg in holding for arg in rule.args) and rule.condition.holds(facts)
    ]
    return _strictest(matching) if matching else profile.default


Region = tuple[tuple[Cube, ...], ...]
"""A set of values for each index."""


def _merged_call(
    profiles: Sequence[Profile], call: str, choose: Choose, default: Action
) -> Iterator[dict[str, Any]]:
    """The rules for one call, without its name."""
    rules = [rule for profile in profiles for rule in profile.calls.get(call, ())]
    for world in Condition.worlds(rule.condition for rule in rules):
        by_index: dict[int, dict[Comparison, None]] = {}
        for rule in rules:
            for arg in rule.args if rule.condition.holds(world.true) else ():
                by_index.setdefault(arg[0], {})[arg] = None
        indexes = sorted(by_index)
        cells = [_cells(tuple(by_index[index])) for index in indexes]
        if prod(map(len, cells)) > _MAX_CELLS:
            raise TooComplex
        found: list[tuple[Action, Region]] = []
        for combination in product(*cells):
            holding = frozenset(arg for held, _ in combination for arg in held)
            action = choose([_answer(p, call, holding, world.true) for p in profiles])
            if action != default:
                found.append((action, tuple(tuple(cubes) for _, cubes in combination)))
            if len(found) > MAX_CUBES:
                raise TooComplex
        for place in reversed(range(len(indexes))):
            found = _joined(found, place)
        for action, region in found:
            yield from _written(action, region, indexes, world)


def _joined(found: list[tuple[Action, Region]], place: int) -> list[tuple[Action, Region]]:
    """Regions that differ in one index only become one."""
    rows: dict[tuple[Action, Region, Region], list[Cube]] = {}
    for action, region in found:
        key = (action, region[:place], region[place + 1 :])
        rows.setdefault(key, []).extend(region[place])
    return [
        (action, (*before, tuple(compact(cubes)), *after))
        for (action, before, after), cubes in rows.items()
    ]


def _written(
    action: Action, region: Region, indexes: list[int], world: World
) -> Iterator[dict[str, Any]]:
    options: list[list[dict[str, int | str]]] = [
        [{}] if cubes == (EVERYTHING,) else [{"index": i, **args} for args in describe(list(cubes))]
        for i, cubes in zip(indexes, region, strict=True)
    ]
    for args in product(*options):
        rule: dict[str, Any] = {"action": action.name}
        if action.errno is not None:
            rule["errnoRet"] = action.errno
        kept = [arg for arg in args if arg]
        if kept:
            rule["args"] = kept
        rule.update(write_condition(world))
        yield rule


def merged(profiles: Sequence[Profile], *, union: bool) -> list[dict[str, Any]]:
    """The fewest profiles found that, loaded in this order, behave as all of them.

    One where that can be. NoSingleProfile when there is no other form, as of a union.
    """
    if union:
        return [merge(profiles, union=True)]
    stack: list[tuple[list[Profile], dict[str, Any]]] = []
    for profile in profiles:
        # Neighbours only: of equally strict answers the last profile's counts.
        together = [*stack[-1][0], profile] if stack else [profile]
        try:
            found = merge(together, union=False)
        except NoSingleProfile:
            stack.append(([profile], merge([profile], union=False)))
        else:
            stack[-1:] = [(together, found)]
    if len(stack) > 1 and len(stack) == len(profiles):
        raise NoSingleProfile(
            "the conditions on arguments are too many to merge any two of them",
            hint="load the profiles one after the other instead",
        )
    return [found for _, found in stack]


def merge(profiles: Sequence[Profile], *, union: bool) -> dict[str, Any]:
    """One profile that behaves as all of them; raises NoSingleProfile when none can."""
    choose = _laxest if union else _strictest
    default = choose([profile.default for profile in profiles])
    entries: dict[str, list[str]] = {}
    known: dict[tuple[tuple[Rule, ...], ...], list[dict[str, Any]]] = {}
    for call in sorted({call for profile in profiles for call in profile.calls}):
        key = tuple(tuple(profile.calls.get(call, ())) for profile in profiles)
        try:
            if key not in known:
                known[key] = list(_merged_call(profiles, call, choose, default))
        except TooComplex:
            raise NoSingleProfile(
                f"{call}: the conditions on its arguments are too many to merge",
                hint="load the profiles one after the other instead",
            ) from None
        for rule in known[key]:
            entries.setdefault(json.dumps(rule, sort_keys=True), []).append(call)
    result: dict[str, Any] = {"defaultAction": default.name}
    if default.errno is not None:
        result["defaultErrnoRet"] = default.errno
    result.update(_surroundings(profiles, union=union))
    result["syscalls"] = [
        {"names": names, **json.loads(rule)} for rule, names in sorted(entries.items())
    ]
    return result


def _surroundings(profiles: Sequence[Profile], *, union: bool) -> dict[str, Any]:
    """Architectures and flags. None named is the machine's own, which is always among them."""
    sets = [profile.architectures for profile in profiles]
    arches = frozenset.union(*sets) if union else frozenset.intersection(*sets)
    maps = [frozenset(profile.arch_map) for profile in profiles]
    arch_map = frozenset.union(*maps) if union else frozenset.intersection(*maps)
    flags = [profile.flags for profile in profiles]
    every, common = frozenset.union(*flags), frozenset.intersection(*flags)
    # A flag that loosens needs all (or, in a join, one); the others log and synchronise.
    kept = (every if union else common) & _LOOSENING | (common if union else every) - _LOOSENING
    found: dict[str, Any] = {}
    if arches:
        found["architectures"] = sorted(arches)
    if arch_map:
        found["archMap"] = [json.loads(text) for text in sorted(arch_map)]
    if kept:
        found["flags"] = sorted(kept)
    return found
