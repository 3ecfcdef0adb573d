"""To whom a policy applies (``selector``), and what is forgiven to whom (``exceptions``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from rootless.model.identity import Identity
from rootless.policy.kinds import matches_pattern

if TYPE_CHECKING:
    from rootless.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged, as far as selectors and grants look.

    ``image`` is in full, ``owners`` are those of an object that exists (``Identity.key``, '*'
    for everybody, '' for the engine's own user): None for what is still to be made, and where
    there is none. What follows is what a request asks for, so far as grants can limit it.
    """

    image: str = ""
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    owners: frozenset[str] | None = None
    images: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Of the host, resolved."""
    paths: tuple[str, ...] = ()
    """In the container."""
    users: tuple[str, ...] = ()
    """Of an exec."""
    privileged: bool = False
    """Of an exec."""


def called(identity: Identity, patterns: Iterable[str]) -> bool:
    """Whether a caller is meant: by name, by ``uid:1000`` or SPIFFE ID, or by ``role:NAME``."""
    known = frozenset(patterns)
    names = [identity.name, identity.key]
    names += [f"role:{identity.role}"] if identity.role else []
    return any(matches_pattern(name, known) for name in names)


@dataclass(frozen=True, slots=True)
class Match:
    """All that is given must hold; of a list one is enough. Empty matches everything.

    ``identities`` are user names (or the last component of a SPIFFE URI), ``labels``
    are ``key`` or ``key=value``; all may end with ``*``.
    """

    images: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    identities: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()

    def holds(self, subject: Subject) -> bool:
        """Whether it is meant. What is not known (no identity in a file) does not match."""
        identity = subject.identity
        pairs = [(self.images, subject.image), (self.names, subject.name)]
        if self.identities:
            pairs.append((self.identities, identity.name if identity else ""))
        if self.roles:
            pairs.append((self.roles, (identity.role or "") if identity else ""))
        if not all(not wanted or matches_pattern(found, wanted) for wanted, found in pairs):
            return False
        return all(_labelled(wanted, subject.labels) for wanted in self.labels)

    def document(self) -> dict[str, list[str]]:
        """As it is written."""
        names = ("images", "names", "labels", "identities", "roles")
        return {name: sorted(getattr(self, name)) for name in names if getattr(self, name)}


def _labelled(wanted: str, labels: Mapping[str, str]) -> bool:
    key, equals, value = wanted.partition("=")
    if not equals:
        return any(matches_pattern(label, frozenset({key})) for label in labels)
    return key in labels and matches_pattern(labels[key], frozenset({value}))


@dataclass(frozen=True, slots=True)
class Excuse:
    """One exception: findings of ``rules`` on what ``match`` means are let pass until ``expires``.

    ``allow`` are the values it is about (``NET_ADMIN``); none means all. Patterns may
    end with ``*``.
    """

    id: str
    rules: frozenset[str]
    match: Match
    allow: frozenset[str]
    reason: str
    approved_by: str
    expires: date
    source: str = field(default="", compare=False)

    def forgives(self, rule: str, value: str, subject: Subject, today: date) -> bool:
        """Whether a finding is let pass. The day of expiry is the last it works on."""
        if today > self.expires or not matches_pattern(rule, self.rules):
            return False
        if self.allow and not matches_pattern(value, self.allow):
            return False
        return self.match.holds(subject)

    def document(self) -> dict[str, Any]:
        """As it is written."""
        found: dict[str, Any] = {"id": self.id, "rules": sorted(self.rules)}
        if self.match != Match():
            found["match"] = self.match.document()
        if self.allow:
            found["allow"] = sorted(self.allow)
        found |= {
            "reason": self.reason,
            "approvedBy": self.approved_by,
            "expires": self.expires.isoformat(),
        }
        return found


@dataclass(frozen=True, slots=True)
class Layer:
    """A policy that is for some only, or has exceptions; it is judged by itself.

    So an exception forgives what its own policy denies and nothing that another does.
    """

    policy: Policy
    selector: Match = Match()
    excuses: tuple[Excuse, ...] = ()

    def document(self) -> dict[str, Any]:
        """For the digest: everything that decides."""
        return {
            "policy": self.policy.digest,
            "selector": self.selector.document(),
            "exceptions": [excuse.document() for excuse in self.excuses],
        }
