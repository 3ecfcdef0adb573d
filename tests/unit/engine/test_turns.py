"""Bursts: others get their turn between two steps, and what is stuck holds up nobody for ever."""

from __future__ import annotations

import asyncio

from rootless.engine.turns import Slots, Turns


def test_others_run_between_two_steps_of_a_burst() -> None:
    done: list[str] = []

    async def step(turns: Turns) -> None:
        await turns.take()
        done.append("step")

    async def other() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
            done.append("other")

    async def burst() -> None:
        turns = Turns()
        await asyncio.gather(*(step(turns) for _ in range(10)), other())

    asyncio.run(burst())
    assert "step step step" not in " ".join(done[:20])
    assert done.count("step") == 10


def test_the_first_of_an_iteration_does_not_wait() -> None:
    async def alone() -> bool:
        taken = asyncio.ensure_future(Turns().take())
        await asyncio.sleep(0)
        return taken.done()

    assert asyncio.run(alone())


def test_who_gives_up_waiting_costs_nobody_the_turn() -> None:
    async def burst() -> None:
        turns = Turns()
        await turns.take()
        first, second = (asyncio.ensure_future(turns.take()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second

    asyncio.run(asyncio.wait_for(burst(), 60))


def test_no_more_than_so_many_at_a_time() -> None:
    most = now = 0

    async def one(slots: Slots) -> None:
        nonlocal most, now
        async with slots.one():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    async def burst() -> None:
        slots = Slots(3, patience=60)
        await asyncio.gather(*(one(slots) for _ in range(20)))

    asyncio.run(burst())
    assert most == 3


def test_one_that_is_stuck_does_not_stop_the_others() -> None:
    async def stuck() -> None:
        slots = Slots(1, patience=0.05)
        never = asyncio.Event()

        async def hold() -> None:
            async with slots.one():
                await never.wait()

        holder = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        async with slots.one():
            assert not holder.done()
        never.set()
        await holder

    asyncio.run(asyncio.wait_for(stuck(), 60))
