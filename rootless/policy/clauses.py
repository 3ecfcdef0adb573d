"""Parts of a policy document beside its fields: selector, exceptions, defaults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, cast

from rootless.model import egress
from rootless.policy.documents import Document, InvalidPolicy
from rootless.policy.kinds import Constraint
from rootless.policy.matching import Excuse, Layer, Match
from rootless.policy.policy import Policy
from rootless.policy.schema import validate
from rootless.units import human_size, parse_size


def _match(value: Any) -> Match:
    found = value or {}
    names = ("images", "names", "labels", "identities", "roles")
    return Match(**{name: frozenset(found.get(name, ())) for name in names})


def _excuse(value: dict[str, Any], source: str, name: str) -> Excuse:
    return Excuse(
        id=value.get("id", name),
        rules=frozenset(value["rules"]),
        match=_match(value.get("match")),
        allow=frozenset(value.get("allow", ())),
        reason=value["reason"],
        approved_by=value["approvedBy"],
        expires=date.fromisoformat(value["expires"]),
        source=source,
    )


def read_excuses(main: Document, others: Sequence[Document]) -> tuple[Excuse, ...]:
    """The exceptions of a policy document and of the Exception documents in its file."""
    value = cast("dict[str, Any]", main.value)
    found = []
    for index, item in enumerate(value.get("exceptions") or ()):
        source = main.where(("exceptions", index))
        name = f"{value['metadata']['name']}-{index + 1}"
        found.append(_excuse(item, source, name))
    for document in others:
        other = validate(document, "Exception")
        found.append(_excuse(other["spec"], document.where(()), other["metadata"]["name"]))
    seen: set[str] = set()
    for excuse in found:
        if excuse.id in seen:
            raise InvalidPolicy([f"{excuse.source}: another exception is called {excuse.id!r}"])
        seen.add(excuse.id)
    return tuple(found)


def layered(policy: Policy, main: Document, excuses: tuple[Excuse, ...]) -> Policy:
    """The policy itself, or, when it is for some only or has exceptions, a layer of one."""
    value = cast("dict[str, Any]", main.value)
    selector = _match(value.get("selector"))
    if selector == Match() and not excuses:
        return policy
    alone = replace(policy, layers=())
    return Policy(
        names=policy.names,
        sources=policy.sources,
        layers=(*policy.layers, Layer(alone, selector, excuses)),
    )


def read_landlock(
    value: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """The area as fields, and where each is written: what can be read is both lists together.

    So two policies are met exactly: what both let read, and what both let write.
    """
    found = {k: v for k, v in value.items() if k in {"connectTcp", "bindTcp", "allowWithout"}}
    places: dict[str, tuple[str, ...]] = {}
    if "readOnly" in value or "readWrite" in value:
        written = value.get("readWrite", [])
        found["read"] = [*value.get("readOnly", []), *written]
        found["write"] = written
        places["read"] = ("readOnly",) if "readOnly" in value else ("readWrite",)
        places["write"] = ("readWrite",) if "readWrite" in value else ("readOnly",)
    return found, places


def read_defaults(value: dict[str, Any]) -> dict[str, Constraint]:
    """Sizes in bytes, CPUs in billionths."""
    found: dict[str, Constraint] = {}
    for name, setting in value.items():
        if name == "memory":
            found[name] = parse_size(setting) if isinstance(setting, str) else setting
        elif name == "cpus":
            found[name] = int(float(setting) * 10**9)
        elif isinstance(setting, list):
            found[name] = frozenset(setting)
        elif isinstance(setting, int):
            found[name] = setting
        else:
            found[name] = frozenset({setting})
    return found


def word(value: Constraint) -> str:
    """The one word of a default that is text."""
    assert isinstance(value, frozenset)
    return next(iter(value))


def _broken(policy: Policy) -> Iterator[tuple[str, str, str]]:
    """Defaults that the policy itself would deny: the default, the field, why."""
    for name, key, shown in (
        ("memory", "resources.maximumMemory", lambda n: human_size(n, base=1024)),
        ("cpus", "resources.maximumCpus", lambda n: f"{n / 10**9:g}"),
        ("pids", "resources.maximumPids", str),
    ):
        most, value = policy.number(key), policy.defaults.get(name)
        scale = 10**9 if name == "cpus" else 1
        if most is not None and isinstance(value, int) and value > most * scale:
            yield name, key, f"{shown(value)} is above {shown(most * scale)}"
    for name, key in (("userns", "userns.allowModes"), ("network", "network.allowModes")):
        allow, found = policy.names_of(key), policy.defaults.get(name)
        if allow is not None and found is not None and word(found) not in allow:
            yield name, key, f"{word(found)} is not allowed"
    allow, found = policy.names_of("network.egress"), policy.defaults.get("egress")
    if allow is not None and isinstance(found, frozenset):
        for item in egress.beyond(sorted(found), allow):
            yield "egress", "network.egress", f"{item} is not allowed"


def check_defaults(policy: Policy) -> None:
    """A default that breaks a rule makes every request fail: an error that cites both."""
    complaints = []
    parts = [policy, *(layer.policy for layer in policy.layers)]
    for part in parts:
        merged = replace(part, defaults={**policy.defaults, **part.defaults})
        for name, key, why in _broken(merged):
            places = merged.sources.get(f"defaults.{name}") or policy.sources.get(
                f"defaults.{name}"
            )
            where = ", ".join(sorted(places or ("defaults",)))
            complaints.append(
                f"{where}: the default for {name}: {why} by {key} ({part.source_of(key)})"
            )
    if complaints:
        raise InvalidPolicy(sorted(set(complaints)))
