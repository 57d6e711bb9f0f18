"""Tests what a request with an idempotency key is, what waits for Kafka, and what is remembered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from penstock.auth import Permission, Principal
from penstock.broker.base import Message, MessageTooLargeError
from penstock.config import MIB, Settings
from penstock.errors import OverloadedError, QueryError, UnavailableError
from penstock.records import Position
from penstock.serve.use_cases import events as events_module
from penstock.serve.use_cases.events import AcceptedEvent, EventService, NewEvent
from tests.clock import Clock

CALLER = Principal("key:ci", frozenset({"acme"}), frozenset({Permission.EVENTS}), frozenset({"tenant"}))
OTHER = Principal("key:other", frozenset({"acme"}), frozenset({Permission.EVENTS}), frozenset({"tenant"}))


class HeldProducer:
    """A producer whose messages the test settles."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.futures: list[Future[Position]] = []
        self.error: Exception | None = None
        self.holds = False
        self.sent = threading.Event()

    def send(self, message: Message) -> Future[Position]:
        future: Future[Position] = Future()
        self.messages.append(message)
        self.futures.append(future)
        if self.error is not None:
            future.set_exception(self.error)
        elif not self.holds:
            future.set_result(Position(message.topic, 0, len(self.messages) - 1))
        self.sent.set()
        return future

    def flush(self, timeout_s: float) -> None: ...

    def close(self, timeout_s: float) -> None: ...


@pytest.fixture
def producer() -> HeldProducer:
    return HeldProducer()


def service_of(producer: HeldProducer, tmp_path: Path, clock: Clock | None = None) -> EventService:
    return EventService(Settings(data_dir=tmp_path), lambda: producer, clock=clock or Clock())


async def send(
    service: EventService, *texts: str, key: str | None = "k", caller: Principal = CALLER
) -> Sequence[AcceptedEvent]:
    events = [NewEvent(text=text) for text in texts]
    return await service.send(caller, "acme", events, idempotency_key=key)


def test_a_repeated_request_has_the_first_answer(producer: HeldProducer, tmp_path: Path) -> None:
    service = service_of(producer, tmp_path)

    async def twice() -> None:
        first = await send(service, "a", "b")
        assert await send(service, "a", "b") == first
        assert len(producer.messages) == 2
        await send(service, "a", "b", key="other")
        await send(service, "a", "b", caller=OTHER)
        await send(service, "a", "b", key=None)
        assert len(producer.messages) == 8
        with pytest.raises(QueryError, match="other events"):
            await send(service, "a", "c")

    asyncio.run(twice())


def test_the_ids_of_a_repeated_request_are_the_same_on_every_replica(producer: HeldProducer, tmp_path: Path) -> None:
    async def once(key: str | None) -> None:
        await send(service_of(producer, tmp_path), "a", "b", key=key)

    for key in ("k", "k", "other", None):
        asyncio.run(once(key))
    ids = [dict(message.headers)["ce_id"] for message in producer.messages]
    assert ids[:2] == ids[2:4]
    assert len(set(ids)) == 6
    keys = [message.key for message in producer.messages]
    assert keys[:2] == keys[2:4]


def test_a_request_that_is_in_progress_is_waited_for(producer: HeldProducer, tmp_path: Path) -> None:
    service, producer.holds = service_of(producer, tmp_path), True

    async def concurrently() -> None:
        first = asyncio.create_task(send(service, "a"))
        await asyncio.to_thread(producer.sent.wait, 10)
        second = asyncio.create_task(send(service, "a"))
        await asyncio.sleep(0)
        producer.futures[0].set_result(Position("media.text", 0, 7))
        assert await first == await second == [AcceptedEvent((await first)[0].key, Position("media.text", 0, 7))]
        assert len(producer.messages) == 1

    asyncio.run(concurrently())


def test_a_request_that_failed_is_tried_again(producer: HeldProducer, tmp_path: Path) -> None:
    service = service_of(producer, tmp_path)

    async def retried() -> None:
        producer.error = UnavailableError("away")
        with pytest.raises(UnavailableError, match="0 of 2 events"):
            await send(service, "a", "b")
        assert len(producer.messages) == 1  # the others would each wait as long
        producer.error = None
        assert len(await send(service, "a", "b")) == 2

    asyncio.run(retried())


def test_old_requests_are_forgotten(producer: HeldProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    service = service_of(producer, tmp_path, clock)

    async def later() -> None:
        await send(service, "a")
        clock.now_s = 3_601.0
        await send(service, "a")
        assert len(producer.messages) == 2
        monkeypatch.setattr(events_module, "_MAX_REMEMBERED", 2)
        for number in range(5):
            await send(service, "a", key=str(number))
        assert len(service._remembered) <= 3
        monkeypatch.setattr(events_module, "_MAX_REMEMBERED", 100)
        monkeypatch.setattr(events_module, "_MAX_REMEMBERED_EVENTS", 5)
        for number in range(5):
            await send(service, "a", "b", "c", key=f"three {number}")
        assert sum(known.events for known in service._remembered.values()) <= 8

    asyncio.run(later())


def test_what_waits_for_kafka_is_bounded(
    producer: HeldProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "_MAX_OPEN_BYTES", MIB)
    service, producer.holds = service_of(producer, tmp_path), True
    large = "a word " * 100_000

    async def concurrently() -> None:
        first = asyncio.create_task(send(service, large, key=None))
        await asyncio.to_thread(producer.sent.wait, 10)
        with pytest.raises(OverloadedError):
            await send(service, f"{large} more", key=None)
        producer.futures[0].set_result(Position("media.text", 0, 0))
        await first
        producer.holds = False
        await send(service, f"{large} more", key=None)

    asyncio.run(concurrently())


def test_an_event_larger_than_its_topic_allows_is_the_callers_fault(producer: HeldProducer, tmp_path: Path) -> None:
    producer.error = MessageTooLargeError("more than the topic allows")
    with pytest.raises(QueryError, match="topic allows") as failure:
        asyncio.run(send(service_of(producer, tmp_path), "a"))
    assert failure.value.status == 413


def test_the_connection_is_opened_once_and_again_after_a_failure(producer: HeldProducer, tmp_path: Path) -> None:
    attempts: list[int] = []

    def connect() -> HeldProducer:
        attempts.append(1)
        if len(attempts) == 1:
            raise UnavailableError("no broker answers")
        return producer

    service = EventService(Settings(data_dir=tmp_path), connect)

    async def thrice() -> None:
        with pytest.raises(UnavailableError):
            await send(service, "a")
        await send(service, "a")
        await send(service, "b", key="other")

    asyncio.run(thrice())
    assert len(attempts) == 2
    service.close()
