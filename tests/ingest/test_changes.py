"""Changes reach the feed at least once, in order, and never hold up ingest for long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from prometheus_client import Counter

from penstock.broker.base import Message
from penstock.broker.change_messages import parse_change_message
from penstock.broker.memory.broker import MemoryBroker
from penstock.errors import ConfigError, UnavailableError
from penstock.ingest import changes as module
from penstock.ingest.changes import ChangePublisher
from penstock.ingest.pipeline.types import StoppedError
from penstock.observability import metrics
from penstock.records import IndexChange, Position

TOPIC = "penstock.changes"


def change(key: str, tenant: str = "acme") -> IndexChange:
    return IndexChange(tenant, "media.text", key, Position("media.text", 0, 1), False, {}, 5_000)


def keys(broker: MemoryBroker) -> list[str]:
    return [change.key for record in broker.records(TOPIC) for change in parse_change_message(record)]


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.002)


class Clock:
    """A clock that `sleep` moves, until `stopped`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0
        self.stopped = False
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> bool:
        self.now += seconds
        if seconds:
            self.slept += 1
            self.on_sleep()
        return self.stopped


@pytest.fixture
def broker() -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic(TOPIC, 2)
    return broker


def test_changes_are_acknowledged_when_publish_returns(broker: MemoryBroker) -> None:
    publisher = ChangePublisher(broker.producer(), TOPIC, sleep=lambda _: False)
    publisher.publish([change("a"), change("b", "globex"), change("c")])
    publisher.publish([])
    assert sorted(keys(broker)) == ["a", "b", "c"]
    assert len(broker.records(TOPIC)) == 2


def test_a_feed_that_does_not_answer_is_tried_again_within_the_patience(broker: MemoryBroker) -> None:
    clock = Clock()
    broker.available = False

    def recover() -> None:
        broker.available = clock.slept == 3

    clock.on_sleep = recover
    publisher = ChangePublisher(broker.producer(), TOPIC, sleep=clock.sleep, clock=clock)
    publisher.publish([change("a")])
    assert (keys(broker), clock.slept, publisher.backlog) == (["a"], 3, 0)


def test_a_batch_goes_on_after_the_patience_and_its_changes_follow_before_later_ones(
    broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    broker.available = False
    publisher = ChangePublisher(broker.producer(), TOPIC, patience_s=4, sleep=clock.sleep, clock=clock)
    with caplog.at_level(logging.WARNING):
        publisher.publish([change("a")])
    assert clock.now >= 4
    assert "events continue without it" in caplog.text
    publisher.publish([change("b")])  # returns immediately: the older ones come first
    assert publisher.backlog == 2
    broker.available = True
    until(lambda: publisher.backlog == 0)
    publisher.publish([change("c")])
    assert keys(broker) == ["a", "b", "c"]


def test_a_backlog_is_bounded_and_drops_the_oldest(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG", 3)
    clock, gate = Clock(), threading.Event()

    def sleep(seconds: float) -> bool:
        if seconds and threading.current_thread().name == "change-backlog":
            gate.wait(10)
        return clock.sleep(seconds)

    broker.available = False
    publisher = ChangePublisher(broker.producer(), TOPIC, patience_s=1, sleep=sleep, clock=clock)
    for key in "abcde":
        publisher.publish([change(key)])
    assert publisher.backlog == 3
    broker.available = True
    gate.set()
    until(lambda: publisher.backlog == 0)
    assert keys(broker) == ["c", "d", "e"]


def test_a_feed_that_refuses_holds_up_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing:
        def send(self, message: Message) -> Future[Position]:
            future: Future[Position] = Future()
            future.set_exception(ConfigError("not authorised"))
            return future

        def flush(self, timeout_s: float) -> None: ...
        def close(self, timeout_s: float) -> None: ...

    clock = Clock()
    publisher = ChangePublisher(Refusing(), TOPIC, sleep=clock.sleep, clock=clock)
    with caplog.at_level(logging.INFO):
        publisher.publish([change("a")])
        publisher.publish([change("b")])
    assert (clock.slept, publisher.backlog) == (0, 0)
    assert caplog.text.count("not authorised") == 1


def dropped() -> float:
    counter = metrics.INDEX_CHANGES.labels("dropped")
    assert isinstance(counter, Counter)
    return float(counter._value.get())


def test_what_the_feed_takes_before_the_lane_has_stopped_is_published(broker: MemoryBroker) -> None:
    clock = Clock()
    broker.available = False
    publisher = ChangePublisher(broker.producer(), TOPIC, patience_s=1, sleep=clock.sleep, clock=clock)
    publisher.publish([change("a"), change("b")])
    before = dropped()
    broker.available = True
    publisher.close(10)
    assert (keys(broker), publisher.backlog, dropped() - before) == (["a", "b"], 0, 0)


def test_what_the_feed_does_not_take_before_the_lane_has_stopped_counts_as_dropped(
    broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    clock, stop = Clock(), threading.Event()

    def sleep(seconds: float) -> bool:
        return stop.wait(seconds) if threading.current_thread().name == "change-backlog" else clock.sleep(seconds)

    broker.available = False
    publisher = ChangePublisher(broker.producer(), TOPIC, patience_s=1, sleep=sleep, clock=clock)
    publisher.publish([change("a"), change("b")])
    before = dropped()
    publisher.close(0.05)
    stop.set()
    assert (publisher.backlog, dropped() - before) == (0, 2)
    assert "has not taken 2 changes" in caplog.text


def test_a_lane_that_stops_leaves_its_batch_unsettled(broker: MemoryBroker) -> None:
    clock = Clock()
    clock.stopped, broker.available = True, False
    publisher = ChangePublisher(broker.producer(), TOPIC, sleep=clock.sleep, clock=clock)
    with pytest.raises(StoppedError):
        publisher.publish([change("a")])
    assert publisher.backlog == 0


class BlockingProducer:
    """Blocks for 10 s a message on the clock, and then fails, as a producer does whose topic does not exist."""

    def __init__(self, clock: Clock, *, stops_at_s: float = float("inf")) -> None:
        self.clock = clock
        self.stops_at_s = stops_at_s

    def send(self, message: Message) -> Future[Position]:
        self.clock.now += 10.0
        self.clock.stopped = self.clock.now >= self.stops_at_s
        future: Future[Position] = Future()
        future.set_exception(UnavailableError("no such topic"))
        return future

    def flush(self, timeout_s: float) -> None: ...
    def close(self, timeout_s: float) -> None: ...


OF_60_TENANTS = [change("a", f"tenant-{number}") for number in range(60)]


def test_a_topic_that_does_not_exist_holds_up_a_batch_of_many_tenants_for_the_patience_and_one_message() -> None:
    clock = Clock()
    gate = threading.Event()

    def sleep(seconds: float) -> bool:
        return gate.wait(10) if threading.current_thread().name == "change-backlog" else clock.sleep(seconds)

    publisher = ChangePublisher(BlockingProducer(clock), TOPIC, sleep=sleep, clock=clock)
    publisher.publish(OF_60_TENANTS)
    assert 30 <= clock.now <= 41
    assert publisher.backlog == 60
    gate.set()


def test_a_lane_that_stops_waits_for_one_message_of_a_topic_that_does_not_exist() -> None:
    clock = Clock()
    publisher = ChangePublisher(
        BlockingProducer(clock, stops_at_s=20), TOPIC, patience_s=300, sleep=clock.sleep, clock=clock
    )
    with pytest.raises(StoppedError):
        publisher.publish(OF_60_TENANTS)
    assert clock.now <= 32


def test_a_lane_that_stops_does_not_await_an_acknowledgement_any_longer() -> None:
    clock = Clock()

    class Unacknowledged(Future[Position]):
        def result(self, timeout: float | None = None) -> Position:
            assert timeout is not None
            clock.now += timeout
            clock.stopped = clock.now >= 5
            raise TimeoutError

    class Silent(BlockingProducer):
        def send(self, message: Message) -> Future[Position]:
            return Unacknowledged()

    publisher = ChangePublisher(Silent(clock), TOPIC, sleep=clock.sleep, clock=clock)
    with pytest.raises(StoppedError):
        publisher.publish([change("a")])
    assert clock.now < 7
