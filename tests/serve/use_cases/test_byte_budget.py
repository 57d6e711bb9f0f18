"""Bytes that large answers hold together."""

from __future__ import annotations

import asyncio

import pytest

from penstock.errors import OverloadedError
from penstock.serve.use_cases.byte_budget import ByteBudget


async def hold(budget: ByteBudget, size: int, held: list[int], leave: asyncio.Event) -> None:
    async with budget.held(size):
        held.append(size)
        await leave.wait()


def test_answers_wait_in_order_until_their_bytes_are_free() -> None:
    async def scenario() -> None:
        budget, held = ByteBudget(10, patience_s=30), list[int]()
        doors = [asyncio.Event() for _ in range(4)]
        tasks = []
        for size, door in zip((6, 99, 5, 4), doors, strict=True):  # the second one is larger than all
            tasks.append(asyncio.create_task(hold(budget, size, held, door)))
            await asyncio.sleep(0)
        assert held == [6]
        doors[0].set()
        await tasks[0]
        await asyncio.sleep(0)
        assert held == [6, 99]
        tasks[1].cancel()  # its client has gone
        await asyncio.wait([tasks[1]])
        await asyncio.sleep(0)
        assert held == [6, 99, 5, 4]
        for door in doors:
            door.set()
        await asyncio.gather(*tasks[2:])
        async with budget.held(10):
            pass

    asyncio.run(scenario())


def test_what_waits_too_long_is_refused_and_holds_nothing() -> None:
    async def scenario() -> None:
        budget, held, leave = ByteBudget(10, patience_s=0.01), list[int](), asyncio.Event()
        first = asyncio.create_task(hold(budget, 8, held, leave))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="for ranges of them"):
            async with budget.held(3):
                pass
        leaver = asyncio.create_task(hold(budget, 10, held, leave))
        small = asyncio.create_task(hold(budget, 2, held, leave))
        await asyncio.sleep(0)
        leaver.cancel()  # before its turn: the one behind it fits
        await asyncio.wait([leaver])
        await asyncio.sleep(0)
        assert held == [8, 2]
        leave.set()
        await asyncio.gather(first, small)
        async with budget.held(10):
            pass

    asyncio.run(scenario())
