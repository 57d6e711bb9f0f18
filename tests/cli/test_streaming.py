"""Tests rate, memory and counts of a stream of messages."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import pytest

from penstock.broker.base import Message
from penstock.cli import streaming
from penstock.cli.streaming import ProduceStream
from penstock.errors import PermanentError, UnavailableError
from penstock.produce.items import OutgoingMessage, RefusedSource, SourceMark
from penstock.records import Position


class HeldProducer:
    """A producer whose messages the test acknowledges."""

    def __init__(self) -> None:
        self.open: list[Future[Position]] = []
        self.sent = 0

    def send(self, message: Message) -> Future[Position]:
        future: Future[Position] = Future()
        self.open.append(future)
        self.sent += 1
        return future

    def acknowledge_all(self) -> None:
        for offset, future in enumerate(self.open):
            if not future.done():
                future.set_result(Position("media.text", 0, offset))

    def flush(self, timeout_s: float) -> None:
        raise NotImplementedError

    def close(self, timeout_s: float) -> None:
        raise NotImplementedError


class PromptProducer(HeldProducer):
    """A producer that acknowledges, or fails, immediately."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self._error = error

    def send(self, message: Message) -> Future[Position]:
        future = super().send(message)
        if self._error is None:
            future.set_result(Position(message.topic, 0, self.sent))
        else:
            future.set_exception(self._error)
        return future


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def outgoing(number: int, size: int = 1) -> OutgoingMessage:
    return OutgoingMessage(f"file {number}", Message("media.text", b"", bytes(size)))


def test_acknowledged_messages_are_counted_by_topic() -> None:
    stream = ProduceStream(PromptProducer())
    for number in range(3):
        stream.send(outgoing(number, size=10))
    stream.finish()
    assert stream.tally.acknowledged == 3
    assert stream.tally.acknowledged_bytes == 30
    assert stream.tally.by_topic == {"media.text": 3}
    assert stream.tally.complete


def test_nothing_counts_before_it_is_acknowledged() -> None:
    producer = HeldProducer()
    stream = ProduceStream(producer)
    stream.send(outgoing(1))
    assert stream.tally.acknowledged == 0
    producer.acknowledge_all()
    stream.finish()
    assert stream.tally.acknowledged == 1


def test_bytes_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_WINDOW_BYTES", 100)
    held = HeldProducer()
    stream = ProduceStream(held)
    stream.send(outgoing(1, size=60))
    held.acknowledge_all()  # otherwise the next send would never return
    stream.send(outgoing(2, size=60))
    assert stream.tally.acknowledged == 1  # the first had to be settled before the second fitted


def test_messages_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_WINDOW_MESSAGES", 2)
    held = HeldProducer()
    stream = ProduceStream(held)
    stream.send(outgoing(1))
    stream.send(outgoing(2))
    held.open[0].set_result(Position("media.text", 0, 0))
    stream.send(outgoing(3))
    assert stream.tally.acknowledged == 1


def test_a_rate_is_kept_from_the_first_message_on() -> None:
    clock = Clock()
    stream = ProduceStream(PromptProducer(), rate_per_s=10, clock=clock, sleep=clock.sleep)
    for number in range(21):
        stream.send(outgoing(number))
    assert clock.now_s == pytest.approx(2.0)


def test_a_pause_is_not_made_up_for_by_a_burst() -> None:
    clock = Clock()
    stream = ProduceStream(PromptProducer(), rate_per_s=10, clock=clock, sleep=clock.sleep)
    stream.send(outgoing(0))
    clock.now_s = 60.0
    for number in range(40):
        stream.send(outgoing(number))
    assert clock.now_s >= 60.0 + 2.0  # at most the messages of one second are sent in a burst


def test_a_refusal_and_a_message_too_large_do_not_stop_the_rest() -> None:
    stream = ProduceStream(PromptProducer(PermanentError("too large")))
    stream.send(RefusedSource("file 0", "is empty"))
    stream.send(outgoing(1))
    stream.finish()
    assert [item.label for item in stream.tally.refused] == ["file 0"]
    assert [(item.label, item.reason) for item in stream.tally.failed] == [("file 1", "too large")]
    assert not stream.tally.complete


def test_an_unavailable_broker_ends_the_stream_with_the_number_of_acknowledged_events() -> None:
    held = HeldProducer()
    stream = ProduceStream(held)
    stream.send(outgoing(1))
    stream.send(outgoing(2))
    held.open[0].set_result(Position("media.text", 0, 0))
    held.open[1].set_exception(UnavailableError("no broker."))
    with pytest.raises(UnavailableError, match="1 events were acknowledged"):
        stream.finish()


def marked(number: int) -> OutgoingMessage:
    return replace(outgoing(number), mark=SourceMark("source", number, number))


def test_a_place_is_reached_once_all_before_it_is_acknowledged() -> None:
    held, reached = HeldProducer(), []
    stream = ProduceStream(held, on_settled=lambda mark, _: reached.append(mark.cursor))
    stream.send(marked(1))
    stream.send(RefusedSource("file 2", "is empty", SourceMark("source", 2, 2)))
    stream.send(marked(3))
    held.open[1].set_result(Position("media.text", 0, 1))
    stream.send(outgoing(4))  # has no place of its own
    assert reached == []
    held.open[0].set_result(Position("media.text", 0, 0))
    stream.send(marked(5))
    assert reached == [1, 2, 3]
    held.acknowledge_all()
    stream.finish()
    assert reached == [1, 2, 3, 5]


def test_a_place_behind_a_message_that_no_broker_took_is_not_reached() -> None:
    held, reached = HeldProducer(), []
    stream = ProduceStream(held, on_settled=lambda mark, _: reached.append(mark.cursor))
    for number in range(3):
        stream.send(marked(number))
    held.open[0].set_result(Position("media.text", 0, 0))
    held.open[1].set_exception(UnavailableError("away."))
    held.open[2].set_result(Position("media.text", 0, 2))
    with pytest.raises(UnavailableError):
        stream.finish()
    assert reached == [0]


def test_each_message_waits_for_its_admission_but_no_refusal_does() -> None:
    admitted: list[int] = []
    stream = ProduceStream(PromptProducer())
    stream.wait_for(lambda: admitted.append(1))
    stream.send(outgoing(1))
    stream.send(RefusedSource("file 2", "is empty"))
    stream.send(outgoing(3))
    assert admitted == [1, 1]
    assert stream.in_flight() == 0


def test_the_tally_of_a_place_has_exactly_what_was_refused_up_to_it() -> None:
    held, seen = HeldProducer(), []
    stream = ProduceStream(
        held, on_settled=lambda mark, tally: seen.append((mark.cursor, len(tally.refused), len(tally.failed)))
    )
    stream.send(marked(1))
    stream.send(RefusedSource("file 2", "is empty", SourceMark("source", 2, 2)))
    stream.send(marked(3))
    stream.send(RefusedSource("file 4", "is empty", SourceMark("source", 4, 4)))
    assert stream.tally.refused == [], "before it a message is open, with which it would be read again"
    held.open[1].set_exception(PermanentError("too large"))
    held.open[0].set_result(Position("media.text", 0, 0))
    stream.finish()
    assert seen == [(1, 0, 0), (2, 1, 0), (3, 1, 1), (4, 2, 1)]


class RefusingProducer(HeldProducer):
    """A producer that refuses messages before it sends them."""

    def send(self, message: Message) -> Future[Position]:
        if self.sent:
            raise PermanentError("too large")
        return super().send(message)


def test_a_message_that_is_not_taken_counts_in_its_place() -> None:
    producer, reached = RefusingProducer(), []
    stream = ProduceStream(producer, on_settled=lambda mark, _: reached.append(mark.cursor))
    stream.send(marked(1))
    stream.send(marked(2))
    assert stream.tally.failed == []
    producer.acknowledge_all()
    stream.finish()
    assert [(item.label, item.reason) for item in stream.tally.failed] == [("file 2", "too large")]
    assert reached == [1, 2]
