"""Calls in order, behind the work."""

from __future__ import annotations

import asyncio

from rootless.engine.behind import Behind


def test_at_once_without_a_loop() -> None:
    made: list[int] = []
    behind = Behind()
    behind.add(lambda: made.append(1))
    assert made == [1]


async def test_when_the_turn_ends() -> None:
    made: list[int] = []
    behind = Behind()
    for number in range(3):
        behind.add(lambda number=number: made.append(number))  # type: ignore[misc]  # a default is how a loop's value is bound
    assert made == []
    await asyncio.sleep(0)
    assert made == [0, 1, 2]


async def test_settled_before() -> None:
    made: list[int] = []
    behind = Behind()
    behind.add(lambda: made.append(1))
    behind.settle()
    await asyncio.sleep(0)
    assert made == [1]


async def test_one_that_fails_does_not_stop_the_next() -> None:
    told: list[str] = []
    made: list[int] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what["message"]))
    behind = Behind()
    behind.add(lambda: 1 / 0)
    behind.add(lambda: made.append(1))
    await asyncio.sleep(0)
    assert made == [1]
    assert len(told) == 1


async def test_another_thread() -> None:
    made: list[int] = []
    behind = Behind()
    behind.add(lambda: made.append(1))
    await asyncio.to_thread(behind.add, lambda: made.append(2))
    assert made == [1, 2]
