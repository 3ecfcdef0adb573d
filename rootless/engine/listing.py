"""Which containers a list or prune means (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from rootless.engine.filters import Filters, check_filters, match_labels, single_bool
from rootless.errors import InvalidInput
from rootless.model.records import ContainerRecord
from rootless.network.predefined import PREDEFINED, network_id
from rootless.units import whole_number

LIST_FILTERS = frozenset(
    "ancestor before expose exited health id is-task isolation label name network publish since "
    "status volume".split()
)
PRUNE_FILTERS = frozenset(("until", "label", "label!"))
_STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTH = ("starting", "healthy", "unhealthy", "none")


def select(
    records: Iterable[ContainerRecord],
    filters: Filters,
    *,
    all_states: bool,
    limit: int,
    find: Callable[[str], ContainerRecord],
    descendants: Callable[[str], frozenset[str]],
) -> Sequence[ContainerRecord]:
    """Newest first. Naming a status, or a limit, includes containers that do not run.

    ``descendants`` gives the ids of the image of that name and of all made from it.
    """
    check_filters(filters, LIST_FILTERS)
    for status in filters.get("status", ()):
        if status not in _STATUSES:
            raise InvalidInput(
                f"invalid filter 'status={status}'", hint=f"one of {', '.join(_STATUSES)}"
            )
    everything = all_states or limit > 0 or bool(filters.get("status") or filters.get("exited"))
    before = [find(ref).spec.created_ns for ref in filters.get("before", ())]
    since = [find(ref).spec.created_ns for ref in filters.get("since", ())]
    ancestors = filters.get("ancestor", ())
    made_from = frozenset[str]().union(*map(descendants, ancestors))
    found = [
        record
        for record in sorted(records, key=lambda r: r.spec.created_ns, reverse=True)
        if (everything or record.state.running or record.state.status == "restarting")
        and all(record.spec.created_ns < bound for bound in before)
        and all(record.spec.created_ns > bound for bound in since)
        and (not ancestors or record.spec.image.id in made_from)
        and matches(record, filters)
    ]
    return found[:limit] if limit > 0 else found


def matches(record: ContainerRecord, filters: Filters) -> bool:
    """True when the record passes every filter that looks at it alone."""
    if not filters:
        return True
    checks: dict[str, Callable[[ContainerRecord, Sequence[str]], bool]] = {
        "expose": _expose,
        "exited": _exited,
        "health": _health,
        "id": lambda r, values: any(r.id.startswith(v) for v in values),
        "label": lambda r, values: match_labels(dict(r.config.labels), values),
        "name": _name,
        "network": _network,
        "publish": _publish,
        "status": lambda r, values: r.state.status in values,
        "volume": _volume,
        "is-task": lambda _r, values: (
            not single_bool({"is-task": values}, "is-task", default=False)
        ),
    }
    return all(
        checks[key](record, values) for key, values in filters.items() if values and key in checks
    )


def _name(record: ContainerRecord, values: Sequence[str]) -> bool:
    """A regular expression, with or without the slash in front (Docker)."""
    for value in values:
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise InvalidInput(f"invalid filter 'name={value}': {error}") from None
        if pattern.search(f"/{record.name}") or pattern.search(record.name):
            return True
    return False


def _exited(record: ContainerRecord, values: Sequence[str]) -> bool:
    codes = []
    for value in values:
        code = whole_number(value.removeprefix("-"))
        if code is None:
            raise InvalidInput(f"invalid filter 'exited={value}'")
        codes.append(-code if value.startswith("-") else code)
    state = record.state
    return state.status == "exited" and state.exit_code in codes


def _health(record: ContainerRecord, values: Sequence[str]) -> bool:
    for value in values:
        if value not in _HEALTH:
            raise InvalidInput(
                f"invalid filter 'health={value}'", hint=f"one of {', '.join(_HEALTH)}"
            )
    health = record.state.health
    return ("none" if health is None else health.status) in values


def _network(record: ContainerRecord, values: Sequence[str]) -> bool:
    spec = record.spec.network
    full = {a.network_id for a in spec.attachments}
    names = {a.network for a in spec.attachments}
    if spec.mode in PREDEFINED:
        names.add(spec.mode)
        full.add(network_id(spec.mode))
    return any(v in names or (v and any(f.startswith(v) for f in full)) for v in values)


def _volume(record: ContainerRecord, values: Sequence[str]) -> bool:
    names = {m.volume_name or m.source for m in record.spec.mounts}
    names |= {m.target for m in record.spec.mounts}
    return any(value in names for value in values)


def _port(text: str) -> tuple[int, int, str]:
    numbers, _, protocol = text.partition("/")
    low, _, high = numbers.partition("-")
    first, last = whole_number(low), whole_number(high or low)
    if first is None or last is None:
        raise InvalidInput(f"invalid port in filter: {text}")
    return first, last, protocol or "tcp"


def _publish(record: ContainerRecord, values: Sequence[str]) -> bool:
    """By either side's port: Docker's manual shows the container's, its daemon takes the host's."""
    ports = record.network.ports
    for first, last, protocol in map(_port, values):
        for port in ports:
            sides = (port.container_port, port.host_port)
            if port.protocol == protocol and any(first <= side <= last for side in sides):
                return True
    return False


def _expose(record: ContainerRecord, values: Sequence[str]) -> bool:
    exposed = [_port(text) for text in record.config.exposed_ports]
    exposed += [(p.container_port, p.container_port, p.protocol) for p in record.network.ports]
    for first, last, protocol in map(_port, values):
        if any(first <= e[0] <= last and e[2] == protocol for e in exposed):
            return True
    return False


def prunable(record: ContainerRecord, filters: Filters, *, until_ns: int) -> bool:
    """True for a container that does not run and that the prune filters let go."""
    if record.state.running or record.state.status in ("restarting", "removing"):
        return False
    if until_ns and record.spec.created_ns > until_ns:
        return False
    labels = dict(record.config.labels)
    if not match_labels(labels, filters.get("label", ())):
        return False
    return not any(match_labels(labels, [text]) for text in filters.get("label!", ()))
