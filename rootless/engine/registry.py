"""All containers by id and name; memory and state.db move together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from rootless import ids
from rootless.engine.events import EventBus
from rootless.engine.state import State
from rootless.engine.unit import Unit
from rootless.errors import Conflict, Exhausted, InvalidInput, NotFound
from rootless.model.records import ContainerRecord, ContainerState, NetworkState

_log = logging.getLogger(__name__)


def _of_the_same(record: ContainerRecord) -> Callable[[Unit], bool]:
    """Whether a container was made by whoever made this one."""
    return lambda unit: unit.record.identity.key == record.identity.key


class Registry:
    """The containers. Every change is in state.db before anybody sees it.

    But for ends and removals on a disk that is full, which are written later: after a
    crash recovery finds out about them in any case.
    """

    def __init__(self, state: State, events: EventBus) -> None:
        self._state = state
        self._events = events
        self._units: dict[str, Unit] = {}
        self._names: dict[str, str] = {}
        self._late: set[Unit] = set()
        """Containers whose last change or removal is not in state.db yet."""

    def load(self) -> None:
        """Read all records; recovery then finds out which still live."""
        for record in self._state.containers():
            self._units[record.id] = Unit(record)
            self._names[record.name] = record.id

    def __iter__(self) -> Iterator[Unit]:
        return iter(tuple(self._units.values()))

    def __len__(self) -> int:
        return len(self._units)

    def get(self, container_id: str) -> Unit | None:
        """The container with exactly this id."""
        return self._units.get(container_id)

    def find(self, ref: str, seen: Callable[[Unit], bool] = lambda _: True) -> Unit:
        """By id, name (with or without the slash) or unambiguous prefix of the id.

        A prefix is looked for among those only that the caller has ``seen``.
        """
        found = self._units.get(ref) or self._units.get(self._names.get(ref.removeprefix("/"), ""))
        if found is not None:
            return found
        if not ref:
            raise InvalidInput("No container name or ID supplied")
        if ids.is_id_prefix(ref):
            matches = [unit for key, unit in self._units.items() if key.startswith(ref)]
            matches = [unit for unit in matches if seen(unit)]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise InvalidInput(f"Multiple IDs found with provided prefix: {ref}")
        raise NotFound(f"No such container: {ref}")

    def claim_name(self, name: str, seen: Callable[[Unit], bool], *, container_id: str = "") -> str:
        """A valid free name; a random one for ''.

        Which container has a name already is told to those who have ``seen`` it.
        """
        if not name:
            while (made := ids.random_name()) in self._names:
                if len(self._names) > 1000:
                    made += f"_{ids.new_id()[:6]}"
                    break
            return made
        name = ids.check_name(name)
        owner = self._names.get(name)
        if owner is not None and owner != container_id:
            if not seen(self._units[owner]):
                raise Conflict(
                    f'Conflict. The container name "/{name}" is already in use by another '
                    "identity's container. Choose another name."
                )
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{owner}". You have to remove (or rename) that container to be able to reuse '
                "that name."
            )
        return name

    def add(self, record: ContainerRecord) -> Unit:
        """A new container; Conflict when its name was taken meanwhile."""
        self.claim_name(record.name, _of_the_same(record))
        self._state.add_container(record)
        unit = Unit(record)
        self._units[record.id] = unit
        self._names[record.name] = record.id
        return unit

    def remove(self, unit: Unit) -> None:
        """Forget a container."""
        try:
            self._state.remove_container(unit.id)
        except Exhausted as error:
            self._write_later(unit, error)
        self._units.pop(unit.id, None)
        if self._names.get(unit.record.name) == unit.id:
            del self._names[unit.record.name]
        unit.removed = True

    def transition(
        self, unit: Unit, state: ContainerState, network: NetworkState | None = None
    ) -> None:
        """A new run-time state."""
        record = replace(
            unit.record,
            state=state,
            network=unit.record.network if network is None else network,
        )
        try:
            self._state.save_live(record)
        except Exhausted as error:
            if state.running and not unit.record.state.running:
                raise  # recovery would not look for a process that nobody knows of
            self._write_later(unit, error)
        else:
            self._late.discard(unit)
        unit.record = record
        self._catch_up()

    def _write_later(self, unit: Unit, error: Exhausted) -> None:
        if unit not in self._late:
            _log.warning("what became of %s is recorded later: %s", unit.record.name, error.message)
            self._late.add(unit)

    def _catch_up(self) -> None:
        for unit in tuple(self._late):
            try:
                if unit.removed:
                    self._state.remove_container(unit.id)
                else:
                    self._state.save_live(unit.record)
            except Exhausted:
                return
            self._late.discard(unit)

    def rewrite(self, unit: Unit, record: ContainerRecord) -> None:
        """Any change of the record, also of its name."""
        old = unit.record.name
        self.claim_name(record.name, _of_the_same(record), container_id=record.id)
        self._state.update_container(record)
        unit.record = record
        if record.name != old:
            self._names.pop(old, None)
            self._names[record.name] = record.id

    def publish(self, unit: Unit, action: str, **attributes: str) -> None:
        """An event of the container, with Docker's attributes."""
        record = unit.record
        self._events.publish(
            "container",
            action,
            record.id,
            {
                **dict(record.config.labels),
                "image": record.config.image or record.spec.image.reference,
                "name": record.name,
                **attributes,
            },
            owners=[record.identity.key],
        )
