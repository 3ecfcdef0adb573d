"""Grants: who may do what on which objects, and with which limits.

A grant is a mapping in a document. Merged, a field is a set of lists: a request
needs a grant of each of them. So two policies are met exactly.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rootless.model.identity import Identity
from rootless.policy.kinds import Constraint, beneath, matches_pattern
from rootless.policy.matching import Match, Subject, called

ONE, SEVERAL = "grants", "grantLists"
"""Fields of a document: one list, or several that must all have a grant for the request."""
PATHS = ("mounts", "paths")
"""Limits that are paths."""
SELF = "self"
"""Among owners: whoever asks."""


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(found) for key, found in sorted(value.items())}
    return sorted(set(value), key=str) if isinstance(value, list) else value


def _clean(grant: Mapping[str, Any]) -> dict[str, Any]:
    """With its paths as they are compared, and every list in one order."""
    limits = dict(grant.get("limits", {}))
    for name in PATHS:
        if name in limits:
            limits[name] = [posixpath.normpath(path) for path in limits[name]]
    whole = {**grant, "limits": limits} if limits else dict(grant)
    sorted_grant: dict[str, Any] = _sorted(whole)
    return sorted_grant


def encode(grants: Sequence[Mapping[str, Any]]) -> str:
    """One list in a form in which equal lists are equal texts."""
    texts = sorted({json.dumps(_clean(grant), separators=(",", ":")) for grant in grants})
    return "[" + ",".join(texts) + "]"


def read_area(value: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The area ``api`` as fields, and which of the two words its grants are written by."""
    found = {name: setting for name, setting in value.items() if name not in {ONE, SEVERAL}}
    lists = [*value.get(SEVERAL, ()), *([value[ONE]] if ONE in value else [])]
    if lists:
        found[ONE] = [encode(one) for one in lists]
    return found, ONE if ONE in value else SEVERAL


def write(value: frozenset[str]) -> tuple[str, list[Any]]:
    """The word and the value by which a document says the same."""
    lists = [json.loads(text) for text in sorted(value)]
    return (ONE, lists[0]) if len(lists) == 1 else (SEVERAL, lists)


def _members(text: str) -> frozenset[str]:
    return frozenset(json.dumps(grant, separators=(",", ":")) for grant in json.loads(text))


def canonical(value: frozenset[str]) -> frozenset[str]:
    """Without the lists that another list is a part of: what that one grants, they grant."""
    members = {text: _members(text) for text in value}
    return frozenset(
        text for text in value if not any(members[other] < members[text] for other in value)
    )


def meet(a: Constraint, b: Constraint) -> Constraint:
    """Both must grant."""
    assert isinstance(a, frozenset)
    assert isinstance(b, frozenset)
    return canonical(a | b)


def join(a: Constraint, b: Constraint) -> Constraint:
    """One of both must grant."""
    assert isinstance(a, frozenset)
    assert isinstance(b, frozenset)
    return canonical(frozenset(encode([*json.loads(x), *json.loads(y)]) for x in a for y in b))


@lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(json.loads(text))


def _who(grant: Mapping[str, Any], identity: Identity) -> bool:
    """Whether the grant is for the caller: all that is given holds, of a list one."""
    who = grant.get("who", {})
    if "exceptRoles" in who and matches_pattern(identity.role or "", frozenset(who["exceptRoles"])):
        return False
    return (
        ("identities" not in who or called(identity, who["identities"]))
        and ("roles" not in who or matches_pattern(identity.role or "", frozenset(who["roles"])))
        and ("uids" not in who or identity.uid in who["uids"])
    )


def _objects(grant: Mapping[str, Any], subject: Subject, identity: Identity) -> bool:
    objects = grant.get("objects", {})
    if subject.owners is None:
        return True  # no object, or one that is still to be made by the caller
    for owner in objects.get("owners", ()):
        if any(
            one == identity.key if owner == SELF else matches_pattern(one, frozenset({owner}))
            for one in subject.owners
        ):
            break
    else:
        if "owners" in objects:
            return False
    match = Match(
        names=frozenset(objects.get("names", ())), labels=frozenset(objects.get("labels", ()))
    )
    return match.holds(subject)


def _below(sources: Iterable[str], roots: Sequence[str]) -> Iterator[str]:
    return (s for s in sources if not any(beneath(s, root) for root in roots))


def _unlike(names: Iterable[str], patterns: Sequence[str]) -> Iterator[str]:
    return (name for name in names if not matches_pattern(name, frozenset(patterns)))


_Limit = Callable[[Iterable[str], Sequence[str]], Iterator[str]]
LIMITS: dict[str, tuple[str, _Limit]] = {
    "images": ("images", _unlike),
    "networks": ("networks", _unlike),
    "mounts": ("sources", _below),
    "paths": ("paths", _below),
    "execUsers": ("users", _unlike),
}
"""Limit → the subject's detail, and what finds those that it does not allow."""


def _beyond(grant: Mapping[str, Any], subject: Subject) -> str:
    """The first limit that the request is beyond, with the value; '' within all of them."""
    limits = grant.get("limits", {})
    for name, (detail, find) in LIMITS.items():
        if name in limits:
            wrong = next(find(getattr(subject, detail), limits[name]), None)
            if wrong is not None:
                return f"{name}: {wrong or '(unset)'}"
    if subject.privileged and not limits.get("execPrivileged", True):
        return "execPrivileged: true"
    return ""


def missing(
    value: frozenset[str] | None, identity: Identity, verb: str, subject: Subject
) -> str | None:
    """None when every list has a grant for the request, else which limit it is beyond, or ''."""
    for text in value or ():
        beyond = ""
        for grant in _parsed(text):
            if not matches_pattern(verb, frozenset(grant["verbs"])):
                continue
            if _who(grant, identity) and _objects(grant, subject, identity):
                found = _beyond(grant, subject)
                if not found:
                    break
                beyond = beyond or found
        else:
            return beyond
    return None
