from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from penstock.broker.base import Message
from penstock.broker.change_messages import change_messages
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.tail import MemoryTail
from penstock.broker.tail import TailPoll
from penstock.query.changes import ChangeFollower, IndexChanges
from penstock.records import IndexChange, Position

TOPIC = "penstock.changes"


def change(tenant: str, key: str = "k") -> IndexChange:
    return IndexChange(tenant, "media.text", key, Position("media.text", 0, 0), False, {}, 0)


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Received:
    """A listener that can be waited for."""

    def __init__(self) -> None:
        self.calls: list[Sequence[IndexChange]] = []
        self._changed = threading.Condition()

    def __call__(self, changes: Sequence[IndexChange]) -> None:
        with self._changed:
            self.calls.append(changes)
            self._changed.notify_all()

    def wait_for(self, calls: int) -> list[Sequence[IndexChange]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= calls, 10), self.calls
            return self.calls


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.002)


def test_a_change_moves_the_generation_of_its_tenant_alone() -> None:
    changes = IndexChanges(available=True)
    before = {tenant: changes.generation(tenant) for tenant in ("acme", "globex")}
    changes.receive([change("acme"), change("acme", "l")])
    after = changes.generation("acme")
    assert after is not None
    assert after > (before["acme"] or 0)
    assert changes.generation("globex") == before["globex"]


def test_there_is_no_generation_while_changes_are_not_received_and_a_new_one_after() -> None:
    changes = IndexChanges()
    assert changes.generation("acme") is None
    changes.set_available(True)
    first = changes.generation("acme")
    changes.set_available(True)
    assert changes.generation("acme") == first
    changes.set_available(False)
    assert changes.generation("acme") is None
    changes.set_available(True)
    later = changes.generation("acme")
    assert (first or 0) < (later or 0)


def test_the_time_since_a_change_is_known_by_tenant() -> None:
    clock = Seconds()
    changes = IndexChanges(available=True, clock=clock)
    assert changes.changed_s_ago("acme") == float("inf")
    changes.receive([change("acme")])
    clock.now += 3
    assert (changes.changed_s_ago("acme"), changes.changed_s_ago("globex")) == (3, float("inf"))
    changes.set_available(False)
    changes.set_available(True)
    assert (changes.changed_s_ago("acme"), changes.changed_s_ago("globex")) == (0, 0)


def test_listeners_get_the_changes_and_the_failure_of_one_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    changes, received = IndexChanges(available=True), Received()

    def fail(_: Sequence[IndexChange]) -> None:
        raise RuntimeError("broken")

    changes.subscribe(fail)
    changes.subscribe(received)
    with caplog.at_level(logging.ERROR):
        changes.receive([change("acme")])
    assert received.calls == [[change("acme")]]
    assert "broken" in caplog.text


def test_the_follower_hands_on_what_is_published_and_tells_a_gap_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = MemoryBroker()
    changes, received = IndexChanges(), Received()
    changes.subscribe(received)
    follower = ChangeFollower(changes, MemoryTail(broker, TOPIC), retry_s=0.01)
    with caplog.at_level(logging.INFO, "penstock.query.changes"):
        follower.start()
        try:
            broker.create_topic(TOPIC, 2)
            assert received.wait_for(1) == [()]  # the feed appears: anything may have changed before
            for message in change_messages(TOPIC, [change("acme"), change("globex")]):
                broker.append(message)
            broker.append(Message(TOPIC, b"acme", b"not a message of the feed"))
            assert sorted(calls[0].tenant for calls in received.wait_for(3)[1:]) == ["acme", "globex"]
            broker.available = False
            with broker.changed:
                broker.changed.notify_all()
            broker.available = True
            for message in change_messages(TOPIC, [change("acme", "later")]):
                broker.append(message)
            calls = received.wait_for(4)
            assert [change("acme", "later")] in calls[3:] or [change("acme", "later")] in received.wait_for(5)[3:]
        finally:
            follower.close()
    assert changes.generation("acme") is not None


class BrokenTail:
    """A tail that fails in an unexpected way until it is repaired, and then returns nothing new."""

    def __init__(self) -> None:
        self.failed, self.repaired = threading.Event(), threading.Event()

    def poll(self, timeout_s: float) -> TailPoll:
        if not self.repaired.is_set():
            self.failed.set()
            raise RuntimeError("broken in an unexpected way")
        return TailPoll()

    def close(self) -> None: ...


def test_the_follower_outlives_an_unexpected_error_and_tells_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    changes, received, tail = IndexChanges(available=True), Received(), BrokenTail()
    before = changes.generation("acme") or 0
    changes.subscribe(received)
    follower = ChangeFollower(changes, tail, retry_s=0.01)
    follower.start()
    try:
        assert tail.failed.wait(10)
        until(lambda: changes.generation("acme") is None)
        tail.repaired.set()
        assert received.wait_for(1) == [()]
        assert (changes.generation("acme") or 0) > before
    finally:
        follower.close()
    assert caplog.text.count("Traceback") == 1


def test_a_follower_receives_the_changes_of_its_version_and_those_without_one() -> None:
    broker = MemoryBroker()
    broker.create_topic(TOPIC)
    changes, received = IndexChanges(), Received()
    changes.subscribe(received)
    follower = ChangeFollower(changes, MemoryTail(broker, TOPIC), index_version=2)
    follower.start()
    try:
        until(lambda: changes.generation("acme") is not None)
        calls = len(received.calls)
        for key, version in (("old", 1), ("new", 2), ("older Penstock", 0)):
            for message in change_messages(TOPIC, [change("acme", key)], index_version=version):
                broker.append(message)
        seen = received.wait_for(calls + 2)[calls:]
        assert [read.key for call in seen for read in call] == ["new", "older Penstock"]
    finally:
        follower.close()
