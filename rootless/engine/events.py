"""The engine's events: a bounded history and live subscribers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from rootless.engine.filters import Filters, check_filters, match_labels
from rootless.model.event import Event

HISTORY = 1024
"""Events kept for ``--since``; moby keeps 256."""
BACKLOG = 4096
"""Events a slow subscriber may be behind before its stream is ended."""

_KNOWN = frozenset(
    "config container daemon event image label network node plugin scope secret service type "
    "volume".split()
)
_END = Event(type="", action="", actor_id="", attributes=(), time_ns=0)


class EventBus:
    """Publishes events to every subscriber of this process; used from one event loop."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._queues: set[asyncio.Queue[Event]] = set()
        self._last_ns = 0

    @property
    def listeners(self) -> int:
        """How many subscriptions are open."""
        return len(self._queues)

    def publish(
        self,
        kind: str,
        action: str,
        actor_id: str,
        attributes: Mapping[str, str] | None = None,
        *,
        owners: Iterable[str] | None = None,
    ) -> Event:
        """Record an event now. Times strictly increase, so ``since`` never repeats one."""
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        event = Event(
            kind,
            action,
            actor_id,
            tuple((attributes or {}).items()),
            self._last_ns,
            None if owners is None else tuple(owners),
        )
        self._history.append(event)
        for queue in tuple(self._queues):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                # A reader that stopped reading must not hold the engine's memory.
                self._drop(queue)
        return event

    def subscribe(
        self,
        filters: Filters,
        *,
        since_ns: int = 0,
        until_ns: int = 0,
        seen: Callable[[Event], bool] = lambda _: True,
    ) -> AsyncIterator[Event]:
        """Past events from ``since_ns`` on, then live ones up to ``until_ns``; 0 for no bound.

        Of all that happens what ``seen`` says this subscriber may hear of.

        Without any bound there are no past ones, as in Docker.
        """
        check_filters(filters, _KNOWN)
        queue: asyncio.Queue[Event] = asyncio.Queue(BACKLOG)
        past = [e for e in self._history if (since_ns or until_ns) and e.time_ns >= since_ns]
        self._queues.add(queue)
        return self._stream(
            queue, past, lambda event: seen(event) and matches(event, filters), until_ns
        )

    async def _stream(
        self,
        queue: asyncio.Queue[Event],
        past: list[Event],
        wanted: Callable[[Event], bool],
        until_ns: int,
    ) -> AsyncIterator[Event]:
        try:
            for event in past:
                if until_ns and event.time_ns > until_ns:
                    return
                if wanted(event):
                    yield event
            while (live := await self._next(queue, until_ns)) is not None:
                if wanted(live):
                    yield live
        finally:
            self._queues.discard(queue)

    async def _next(self, queue: asyncio.Queue[Event], until_ns: int) -> Event | None:
        if not until_ns:
            event = await queue.get()
            return None if event is _END else event
        left = (until_ns - time.time_ns()) / 1e9
        try:
            async with asyncio.timeout(max(left, 0)):
                event = await queue.get()
        except TimeoutError:
            return None
        return None if event is _END or event.time_ns > until_ns else event

    def _drop(self, queue: asyncio.Queue[Event]) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(_END)

    def close(self) -> None:
        """End every subscription."""
        for queue in tuple(self._queues):
            self._drop(queue)


def matches(event: Event, filters: Filters) -> bool:
    """Docker's event filters: values of one key are alternatives, keys all must hold."""
    attributes = dict(event.attributes)
    # exec_create, health_status and the like carry a detail behind a colon.
    action = event.action.partition(":")[0]
    for key, values in filters.items():
        if not values:
            continue
        if key == "type":
            hit = event.type in values
        elif key == "event":
            hit = event.action in values or action in values
        elif key == "label":
            hit = match_labels(attributes, values)
        elif key == "scope":
            hit = "local" in values
        elif key == "image":
            hit = _image(event, attributes, values)
        else:
            hit = event.type == key and _begins(event.actor_id, attributes, values)
        if not hit:
            return False
    return True


def _begins(actor_id: str, attributes: Mapping[str, str], values: Sequence[str]) -> bool:
    """An id or a name, or the beginning of one."""
    name = attributes.get("name", "")
    return any(actor_id.startswith(value) or name.startswith(value) for value in values)


def _image(event: Event, attributes: Mapping[str, str], values: Sequence[str]) -> bool:
    """An image's events and those of its containers, by its name with or without the tag."""
    if event.type not in ("image", "container"):
        return False
    named = attributes.get("name" if event.type == "image" else "image", "")
    names = {event.actor_id, named}
    return any(value in names or value in map(_without_tag, names) for value in values)


def _without_tag(name: str) -> str:
    head, _, tag = name.partition("@")[0].rpartition(":")
    return head if head and "/" not in tag else name
