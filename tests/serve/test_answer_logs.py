"""Logs of answers: what they keep, for how long, and for whom."""

from __future__ import annotations

import asyncio

from penstock.serve.answer_logs import AnswerOwner, LogPage, MemoryAnswerLogs
from penstock.serve.event_stream import ServerEvent
from tests.clock import Clock

OWNER = AnswerOwner("default", "anonymous")
ACME = AnswerOwner("acme", "key:ci")


def events(first: int, last: int, size: int = 1) -> list[ServerEvent]:
    return [ServerEvent("x" * size, "token", number) for number in range(first, last + 1)]


def test_a_reader_waits_for_the_next_events_and_misses_none() -> None:
    async def scenario() -> None:
        logs = MemoryAnswerLogs()
        await logs.append("a", OWNER, events(1, 2), complete=False)
        reading = asyncio.create_task(logs.read("a", OWNER, after=2, wait_s=10))
        await asyncio.sleep(0)
        assert not reading.done()
        await logs.append("a", OWNER, events(3, 4), complete=True)
        assert await reading == LogPage(tuple(events(3, 4)), complete=True)
        assert await logs.read("a", OWNER, after=0, wait_s=0) == LogPage(tuple(events(1, 4)), complete=True)

    asyncio.run(scenario())


def test_a_reader_that_waited_in_vain_reads_again() -> None:
    async def scenario() -> None:
        logs = MemoryAnswerLogs()
        await logs.append("a", OWNER, events(1, 1), complete=False)
        assert await logs.read("a", OWNER, after=1, wait_s=0) == LogPage((), complete=False)

    asyncio.run(scenario())


def test_a_log_is_kept_for_a_minute_after_its_last_event() -> None:
    async def scenario() -> None:
        clock = Clock()
        logs = MemoryAnswerLogs(clock=clock)
        await logs.append("a", OWNER, events(1, 1), complete=False)
        clock.now_s = 50
        await logs.append("a", OWNER, [], complete=True)
        clock.now_s = 110
        assert await logs.read("a", OWNER, after=0, wait_s=0) is not None
        clock.now_s = 110.1
        assert await logs.read("a", OWNER, after=0, wait_s=0) is None

    asyncio.run(scenario())


def test_only_its_owner_reads_or_cancels_a_log() -> None:
    async def scenario() -> None:
        logs = MemoryAnswerLogs()
        await logs.append("a", ACME, events(1, 1), complete=False)
        others = (
            OWNER,
            AnswerOwner("acme", "key:other"),
            AnswerOwner("default", "key:ci"),
            AnswerOwner("acme", "key:ci", frozenset({"tenant"})),
        )
        for other in others:
            assert await logs.read("a", other, after=0, wait_s=0) is None
            assert not await logs.cancel("a", other)
        assert not await logs.append("a", ACME, [], complete=False)
        assert await logs.cancel("a", ACME)
        assert await logs.append("a", ACME, [], complete=False)

    asyncio.run(scenario())


def test_a_complete_answer_cannot_be_cancelled() -> None:
    async def scenario() -> None:
        logs = MemoryAnswerLogs()
        await logs.append("a", OWNER, events(1, 1), complete=True)
        assert not await logs.cancel("a", OWNER)

    asyncio.run(scenario())


def test_bytes_and_number_are_bounded_and_complete_answers_go_first() -> None:
    async def scenario() -> None:
        clock = Clock()
        logs = MemoryAnswerLogs(max_bytes=10_000, max_answers=3, clock=clock)

        async def known() -> str:
            return "".join([name for name in "abcde" if await logs.read(name, OWNER, after=0, wait_s=0) is not None])

        for name, complete in (("a", False), ("b", True), ("c", True)):
            clock.now_s += 1
            await logs.append(name, OWNER, events(1, 1, 100), complete=complete)
        clock.now_s += 1
        await logs.append("d", OWNER, events(1, 1, 100), complete=False)
        assert await known() == "acd"
        await logs.append("d", OWNER, events(2, 2, 9_000), complete=False)
        assert await known() == "ad"
        await logs.append("d", OWNER, events(3, 3, 9_900), complete=False)
        assert await known() == ""
        await logs.append("d", OWNER, events(4, 4, 1), complete=True)
        assert await known() == ""
        await logs.append("e", OWNER, events(1, 9, 900), complete=True)
        assert await known() == "e"

    asyncio.run(scenario())


def test_a_forgotten_log_does_not_come_back_without_its_beginning() -> None:
    async def scenario() -> None:
        logs = MemoryAnswerLogs()
        await logs.append("a", OWNER, events(1, 8), complete=False)
        await logs.forget("a")
        await logs.append("a", OWNER, [], complete=False)
        await logs.append("a", OWNER, events(9, 10), complete=True)
        assert await logs.read("a", OWNER, after=8, wait_s=0) is None

    asyncio.run(scenario())


def test_a_forgotten_log_ends_its_readers() -> None:
    async def scenario() -> None:
        logs = MemoryAnswerLogs()
        await logs.append("a", OWNER, events(1, 1), complete=False)
        reading = asyncio.create_task(logs.read("a", OWNER, after=1, wait_s=10))
        await asyncio.sleep(0)
        await logs.forget("a")
        assert await reading is None
        await logs.forget("a")

    asyncio.run(scenario())
