"""What the values of a policy's fields mean, and the meet of two of them.

Each meet is commutative, associative and idempotent, and what it allows is
what both sides allow: merging policies can only tighten. A field that is
absent does not constrain.
"""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Callable
from dataclasses import dataclass

from rootless.model import egress
from rootless.policy import globs
from rootless.policy.podsecurity.checks import canonical_standard

Constraint = frozenset[str] | int | bool


@dataclass(frozen=True, slots=True)
class Kind:
    """``shape`` is the form in a document: list, integer, size, duration (seconds), boolean, trust.

    ``meet`` is what both of two constraints allow, ``join`` the least constraint that
    allows what either does; ``canonical`` brings one list into the form in which equal
    meanings are equal values. ``meaning`` is for people.
    """

    name: str
    shape: str
    meaning: str
    meet: Callable[[Constraint, Constraint], Constraint]
    join: Callable[[Constraint, Constraint], Constraint]
    canonical: Callable[[frozenset[str]], frozenset[str]] = lambda values: values


def _sets(
    operation: Callable[[frozenset[str], frozenset[str]], frozenset[str]],
) -> Callable[[Constraint, Constraint], Constraint]:
    def meet(a: Constraint, b: Constraint) -> Constraint:
        assert isinstance(a, frozenset)
        assert isinstance(b, frozenset)
        return operation(a, b)

    return meet


def beneath(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or below it; both normalised and absolute."""
    return root in {"/", path} or path.startswith(root + "/")


def _covers_pattern(wide: str, narrow: str) -> bool:
    """Whether the pattern ``wide`` (a name, or a prefix with ``*``) matches all ``narrow`` does."""
    if wide.endswith("*"):
        return narrow.startswith(wide[:-1])
    return wide == narrow


def matches_pattern(name: str, patterns: frozenset[str]) -> bool:
    """Whether a name matches one of the patterns."""
    return any(_covers_pattern(pattern, name) for pattern in patterns)


def _network(text: str) -> egress.Network:
    return ipaddress.ip_network(text)


def _covers_network(wide: str, narrow: str) -> bool:
    return egress.is_within(_network(narrow), _network(wide))


def address_within(address: str, networks: frozenset[str]) -> bool:
    """Whether an IP address is in one of the networks."""
    return any(ipaddress.ip_address(address) in _network(network) for network in networks)


def _tree(
    covers: Callable[[str, str], bool],
) -> tuple[
    Callable[[frozenset[str]], frozenset[str]],
    Callable[[frozenset[str], frozenset[str]], frozenset[str]],
]:
    """Canonical form and exact intersection of sets whose members nest or are disjoint."""

    def canonical(values: frozenset[str]) -> frozenset[str]:
        return frozenset(v for v in values if not any(o != v and covers(o, v) for o in values))

    def intersect(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
        both = {x for x in a if any(covers(y, x) for y in b)}
        both |= {y for y in b if any(covers(x, y) for x in a)}
        return canonical(frozenset(both))

    return canonical, intersect


_canonical_paths, _intersect_paths = _tree(lambda wide, narrow: beneath(narrow, wide))
_canonical_patterns, intersect_patterns = _tree(_covers_pattern)
_canonical_networks, _intersect_networks = _tree(_covers_network)


def _clean_paths(values: frozenset[str]) -> frozenset[str]:
    return _canonical_paths(frozenset(posixpath.normpath(v) for v in values))


def _clean_networks(values: frozenset[str]) -> frozenset[str]:
    return _canonical_networks(frozenset(str(_network(v)) for v in values))


def _all(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    return a | b


def _common(a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
    return a & b


ALLOW = Kind("allow", "list", "what is allowed; nothing else is", _sets(_common), _sets(_all))
DENY = Kind("deny", "list", "adds up: each entry of each file counts", _sets(_all), _sets(_common))
ALLOW_PATHS = Kind(
    "allow-paths",
    "list",
    "these paths and all below them are allowed; nothing else is",
    _sets(_intersect_paths),
    _sets(lambda a, b: _canonical_paths(a | b)),
    _clean_paths,
)
DENY_PATHS = Kind(
    "deny-paths",
    "list",
    "these paths and all below them; each entry of each file counts",
    _sets(lambda a, b: _canonical_paths(a | b)),
    _sets(_intersect_paths),
    _clean_paths,
)
DENY_STANDARDS = Kind(
    "standards",
    "list",
    "standards that must hold; each entry of each file counts",
    _sets(_all),
    _sets(_common),
    lambda values: frozenset(map(canonical_standard, values)),
)
ALLOW_PATTERNS = Kind(
    "allow-patterns",
    "list",
    "names, or beginnings with *, that are allowed; nothing else is",
    _sets(intersect_patterns),
    _sets(lambda a, b: _canonical_patterns(a | b)),
    _canonical_patterns,
)
DENY_PATTERNS = Kind(
    "deny-patterns",
    "list",
    "names, or beginnings with *, that are denied; each entry of each file counts",
    _sets(lambda a, b: _canonical_patterns(a | b)),
    _sets(intersect_patterns),
    _canonical_patterns,
)
ALLOW_GLOBS = Kind(
    "allow-globs",
    "list",
    "patterns of paths (*, ?, ** over directories; A & B for both) that are allowed; "
    "nothing else is",
    _sets(globs.both),
    _sets(globs.either),
    globs.canonical,
)
ALLOW_NETWORKS = Kind(
    "allow-networks",
    "list",
    "addresses and networks that are allowed; nothing else is",
    _sets(_intersect_networks),
    _sets(lambda a, b: _canonical_networks(a | b)),
    _clean_networks,
)
ALLOW_EGRESS = Kind(
    "allow-egress",
    "list",
    "destinations that are allowed; nothing else is",
    _sets(lambda a, b: frozenset(egress.intersect(a, b))),
    _sets(lambda a, b: frozenset(egress.union(a | b))),
    lambda values: frozenset(egress.union(values)),
)
MAXIMUM = Kind("maximum", "integer", "the highest value; the lowest of all files counts", min, max)
MAXIMUM_SIZE = Kind("maximum", "size", "the most bytes; the lowest of all files counts", min, max)
MAXIMUM_TIME = Kind(
    "maximum", "duration", "the longest time; the lowest of all files counts", min, max
)
MINIMUM_SIZE = Kind("minimum", "size", "the least bytes; the highest of all files counts", max, min)
MINIMUM = Kind("minimum", "integer", "the lowest value; the highest of all files counts", max, min)
PERMIT = Kind(
    "permit",
    "boolean",
    "false forbids; one file that does is enough",
    lambda a, b: bool(a and b),
    lambda a, b: bool(a or b),
)
REQUIRE = Kind(
    "require",
    "boolean",
    "true requires; one file that does is enough",
    lambda a, b: bool(a or b),
    lambda a, b: bool(a and b),
)
