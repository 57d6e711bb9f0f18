"""Watches are kept in a compacted topic, and known to every replica."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from penstock.broker.base import Message
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.tail import MemoryTail
from penstock.broker.tail import TailPoll
from penstock.broker.watch_messages import watch_message
from penstock.errors import QueryError, UnavailableError
from penstock.query.watches.registry import WatchRegistry
from penstock.records import Access, Watch

TOPIC = "penstock.watches"


def watch(number: int, tenant: str = "acme") -> Watch:
    return Watch(f"{number:032x}", f"watch {number}", tenant, 0.5, number, {"text": "heron", "min_relevance": 0.5})


@pytest.fixture
def broker() -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic(TOPIC, 2)
    return broker


@pytest.fixture
def make(broker: MemoryBroker) -> Iterator[Callable[[], WatchRegistry]]:
    opened: list[WatchRegistry] = []

    def make() -> WatchRegistry:
        tail = MemoryTail(broker, TOPIC, from_start=True)
        opened.append(WatchRegistry(tail, TOPIC, broker.producer, max_watches=3, retry_s=0.01))
        opened[-1].start()
        return opened[-1]

    yield make
    for registry in opened:
        registry.close()


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.002)


def test_watches_are_read_back_by_the_next_process_and_by_others(make: Callable[[], WatchRegistry]) -> None:
    first = make()
    assert first.wait_until_ready(10)
    first.add(watch(2))
    first.add(watch(1))
    assert first.of(Access.to_all_of("acme")) == [watch(1), watch(2)]
    second = make()
    assert second.wait_until_ready(10)
    assert second.of(Access.to_all_of("acme")) == [watch(1), watch(2)]
    assert second.delete(Access.to_all_of("acme"), watch(1).id)
    until(lambda: first.of(Access.to_all_of("acme")) == [watch(2)])


def test_a_tenant_does_not_see_or_delete_the_watches_of_another(make: Callable[[], WatchRegistry]) -> None:
    registry = make()
    assert registry.wait_until_ready(10)
    registry.add(watch(1))
    assert registry.of(Access.to_all_of("globex")) == []
    assert not registry.delete(Access.to_all_of("globex"), watch(1).id)
    assert registry.of(Access.to_all_of("acme")) == [watch(1)]


def test_the_number_of_watches_is_bounded_by_tenant(make: Callable[[], WatchRegistry]) -> None:
    registry = make()
    assert registry.wait_until_ready(10)
    for number in range(3):
        registry.add(watch(number))
    with pytest.raises(QueryError, match="max_watches"):
        registry.add(watch(3))
    registry.add(watch(4, "globex"))


def test_nothing_is_said_before_the_topic_was_read(broker: MemoryBroker, make: Callable[[], WatchRegistry]) -> None:
    broker.available = False
    registry = make()
    assert not registry.wait_until_ready(0.05)
    with pytest.raises(UnavailableError, match=r"penstock\.watches"):
        registry.of(Access.to_all_of("acme"))
    broker.available = True
    assert registry.wait_until_ready(10)
    assert registry.of(Access.to_all_of("acme")) == []


def test_messages_of_another_version_are_passed_over(broker: MemoryBroker, make: Callable[[], WatchRegistry]) -> None:
    broker.append(Message(TOPIC, b"x", b'{"version":2}'))
    registry = make()
    assert registry.wait_until_ready(10)
    assert registry.of(Access.to_all_of("acme")) == []


def test_the_registry_outlives_records_and_errors_that_nobody_expected(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll, failed = MemoryTail.poll, threading.Event()

    def fail_once(tail: MemoryTail, timeout_s: float) -> TailPoll:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("broken in an unexpected way")
        return poll(tail, timeout_s)

    monkeypatch.setattr(MemoryTail, "poll", fail_once)
    value = watch_message(TOPIC, watch(1)).value or b""
    for bad in (b"[" * 100_000, value.replace(b'"created_ms":1', b'"created_ms":Infinity')):
        broker.append(Message(TOPIC, b"bad", bad))
    broker.append(watch_message(TOPIC, watch(2)))
    registry = WatchRegistry(
        MemoryTail(broker, TOPIC, from_start=True), TOPIC, broker.producer, max_watches=3, retry_s=0.01
    )
    registry.start()
    try:
        assert registry.wait_until_ready(10)
        assert registry.of(Access.to_all_of("acme")) == [watch(2)]
    finally:
        registry.close()


@pytest.mark.parametrize(
    ("labels", "caller", "shown"),
    [
        (None, None, True),
        (None, {"tenant"}, False),
        ({"a"}, None, True),
        ({"a"}, {"a", "b"}, True),
        ({"a", "b"}, {"a"}, False),
    ],
)
def test_a_watch_is_shown_to_those_who_read_all_that_matches(
    make: Callable[[], WatchRegistry], labels: set[str] | None, caller: set[str] | None, shown: bool
) -> None:
    registry = make()
    assert registry.wait_until_ready(10)
    kept = replace(watch(1), labels=None if labels is None else frozenset(labels))
    registry.add(kept)
    access = Access("acme", None if caller is None else frozenset(caller))
    assert registry.of(access) == ([kept] if shown else [])
    another = make()
    assert another.wait_until_ready(10)
    assert another.of(access) == ([kept] if shown else [])
    assert registry.delete(access, kept.id) is shown
