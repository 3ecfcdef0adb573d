"""Landlock rules: what is allowed with all rulesets in force, as one ruleset.

An access is allowed when every ruleset that handles it allows it; a right on a
directory holds for everything below it, and rights add up on the way down
(landlock(7)). Moving files between directories (``refer``) is denied by every ruleset
that does not allow it, handled or not.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from rootless.errors import InvalidInput
from rootless.policy.kinds import beneath

_KEYS = frozenset("handledAccessFs pathRules handledAccessNet netRules scoped comment".split())
_REFER = "refer"


@dataclass(frozen=True, slots=True)
class Ruleset:
    """``paths`` and ``ports``: for each handled access, where it is allowed."""

    paths: dict[str, frozenset[str]]
    ports: dict[str, frozenset[int]]
    scoped: frozenset[str]


def _texts(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{where} must be a list of strings")
    return value


def parse(text: str, name: str) -> Ruleset:
    """Read a ruleset's JSON; raises InvalidInput naming the file and the place."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name}: JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{name}: Landlock rules are an object")
    for key in document:
        if key not in _KEYS:
            raise InvalidInput(f"{name}: {key}: this is not understood, so it cannot be merged")
    paths: dict[str, set[str]] = {
        a: set() for a in _texts(document.get("handledAccessFs"), f"{name}: handledAccessFs")
    }
    ports: dict[str, set[int]] = {
        a: set() for a in _texts(document.get("handledAccessNet"), f"{name}: handledAccessNet")
    }
    _read_paths(document.get("pathRules"), paths, name)
    _read_ports(document.get("netRules"), ports, name)
    return Ruleset(
        {access: frozenset(_roots(found)) for access, found in paths.items()},
        {access: frozenset(found) for access, found in ports.items()},
        frozenset(_texts(document.get("scoped"), f"{name}: scoped")),
    )


def _rules(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise InvalidInput(f"{where} must be a list")
    return value or []


def _read_paths(rules: Any, paths: dict[str, set[str]], name: str) -> None:
    for index, rule in enumerate(_rules(rules, f"{name}: pathRules")):
        where = f"{name}: pathRules[{index}]"
        path = rule.get("path") if isinstance(rule, dict) else None
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidInput(f"{where}: path must be absolute")
        for access in _texts(rule.get("accessFs"), f"{where}.accessFs"):
            if access in paths:  # what is not handled is not restricted, so allowing it is idle
                paths[access].add(posixpath.normpath(path).replace("//", "/"))


def _read_ports(rules: Any, ports: dict[str, set[int]], name: str) -> None:
    for index, rule in enumerate(_rules(rules, f"{name}: netRules")):
        where = f"{name}: netRules[{index}]"
        port = rule.get("port") if isinstance(rule, dict) else None
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
            raise InvalidInput(f"{where}: port must be a number from 0 to 65535")
        for access in _texts(rule.get("accessNet"), f"{where}.accessNet"):
            if access in ports:
                ports[access].add(port)


def _roots(paths: Iterable[str]) -> set[str]:
    """Without paths that are below others."""
    found = set(paths)
    return {p for p in found if not any(o != p and beneath(p, o) for o in found)}


def _both(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    """What is below a path of each: of nested paths the lower one."""
    lower = {x for x in a if any(beneath(x, y) for y in b)}
    lower |= {y for y in b if any(beneath(y, x) for x in a)}
    return frozenset(_roots(lower))


def _either(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    return frozenset(_roots(a | b))


Places = dict[str, frozenset[Any]]


def _accesses(
    places: Sequence[Places], combine: Callable[[Any, Any], Any], *, union: bool
) -> Places:
    """For each access that the result handles, where it is allowed."""
    names = [set(found) for found in places]
    handled = set.intersection(*names) if union else set.union(*names)
    return {
        access: reduce(combine, [found[access] for found in places if access in found])
        for access in sorted(handled)
    }


def _refer(paths: Places, places: Sequence[Places], *, union: bool) -> None:
    """Put right the one access that a ruleset denies also when it does not handle it."""
    handling = [found[_REFER] for found in places if _REFER in found]
    if not handling:
        return
    if union:
        paths[_REFER] = reduce(_either, handling)
    elif len(handling) < len(places):
        paths[_REFER] = frozenset()


def merge(rulesets: Sequence[Ruleset], *, union: bool) -> dict[str, Any]:
    """One ruleset that allows what all (or, in a union, any) of them allow."""
    paths = _accesses([r.paths for r in rulesets], _either if union else _both, union=union)
    _refer(paths, [r.paths for r in rulesets], union=union)
    meet: Callable[[Any, Any], Any] = frozenset.__or__ if union else frozenset.__and__
    ports = _accesses([r.ports for r in rulesets], meet, union=union)
    scopes = [r.scoped for r in rulesets]
    scoped = frozenset.intersection(*scopes) if union else frozenset.union(*scopes)
    result: dict[str, Any] = {}
    if paths:
        result["handledAccessFs"] = list(paths)
        result["pathRules"] = _written(paths, "path", "accessFs")
    if ports:
        result["handledAccessNet"] = list(ports)
        result["netRules"] = _written(ports, "port", "accessNet")
    if scoped:
        result["scoped"] = sorted(scoped)
    return result


def _written(places: Places, key: str, accesses: str) -> list[dict[str, Any]]:
    by_place: dict[Any, list[str]] = {}
    for access, found in places.items():
        for place in found:
            by_place.setdefault(place, []).append(access)
    return [{key: place, accesses: sorted(by_place[place])} for place in sorted(by_place)]
