"""The event bus: history, filters, slow readers."""

from __future__ import annotations

import asyncio
import time

import pytest

from rootless.engine import events
from rootless.engine.events import EventBus, matches
from rootless.errors import InvalidInput
from rootless.model.event import Event


def _event(kind: str = "container", action: str = "start", **attributes: str) -> Event:
    return Event(kind, action, "a" * 64, tuple(attributes.items()), 1)


async def test_live_events_reach_a_subscriber_in_order() -> None:
    bus = EventBus()
    stream = bus.subscribe({})
    for action in ("create", "start", "die"):
        bus.publish("container", action, "x")
    assert [(await anext(stream)).action for _ in range(3)] == ["create", "start", "die"]


async def test_since_replays_history_and_until_ends_the_stream() -> None:
    bus = EventBus()
    first = bus.publish("container", "create", "x")
    second = bus.publish("container", "start", "x")
    seen = [
        e async for e in bus.subscribe({}, since_ns=second.time_ns, until_ns=second.time_ns + 1)
    ]
    assert seen == [second]
    assert first.time_ns < second.time_ns
    assert bus.listeners == 0


async def test_until_in_the_past_ends_at_once() -> None:
    bus = EventBus()
    stream = bus.subscribe({}, until_ns=time.time_ns() - 10**9)
    assert [e async for e in stream] == []


async def test_a_reader_that_stopped_reading_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BACKLOG", 2)
    bus = EventBus()
    stream = bus.subscribe({})
    for _ in range(5):
        bus.publish("container", "start", "x")
    assert bus.listeners == 0
    assert [e async for e in stream] == []


async def test_close_ends_waiting_readers() -> None:
    bus = EventBus()
    stream = bus.subscribe({})
    waiting = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    bus.close()
    assert await waiting is None


def test_unknown_filter_is_refused() -> None:
    with pytest.raises(InvalidInput, match="invalid filter 'colour'"):
        EventBus().subscribe({"colour": ["red"]})


@pytest.mark.parametrize(
    ("filters", "hit"),
    [
        ({}, True),
        ({"type": ["image"]}, False),
        ({"type": ["image", "container"]}, True),
        ({"event": ["exec_create"]}, True),
        ({"event": ["die"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["aaaa"]}, True),
        ({"container": ["other"]}, False),
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:1"]}, True),
        ({"image": ["alpine"]}, False),
        ({"container": ["we"]}, True),
        ({"volume": ["web"]}, False),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier=back"]}, False),
        ({"type": ["container"], "container": ["other"]}, False),
        ({"scope": ["swarm"]}, False),
    ],
)
def test_filters(filters: dict[str, list[str]], hit: bool) -> None:
    event = _event(action="exec_create: ls", name="web", image="busybox:1", tier="front")
    assert matches(event, filters) is hit
