"""Sends messages to a stack at full speed or at a steady rate, and measures exactly when they are searchable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from penstock.broker.base import Message, Producer
from penstock.errors import UnavailableError
from penstock.records import AssetRef, Outcome, Position
from penstock.store.base import Store

_ACK_TIMEOUT_S = 60.0
_SETTLE_TIMEOUT_S = 240.0
_LEAST_WAIT_S, _MOST_WAIT_S = 0.01, 2.0  # counting each half second was 6 % of what Lite did
# Of the time that what is left should take: few questions while much is left, and the end is known to a twentieth of a
# batch's time. With a fifth it came 0.1 s late, 2 % of a round of 256 images.
_WAIT_SHARE, _WAIT_SHARE_AT_LAST, _AT_LAST_S = 0.2, 0.05, 1.0
_READ_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class LoadGenerator:
    """Sends events to a stack and observes its index.

    Attributes:
        producer: of its Kafka.
        store: its index, read at Strong consistency.
        topic: where messages go.
        tenant: whose they are.
    """

    producer: Producer
    store: Store
    topic: str
    tenant: str

    def send_all(self, payloads: Sequence[bytes], *, first: int) -> float:
        """Sends all messages without a pause.

        Args:
            payloads: what to send, each as a new asset.
            first: number of the first asset; numbers are not used twice.

        Returns:
            seconds from the first message handed to the producer to the moment at which every asset has its row in the
            store, which is written after its entries were acknowledged.
        """
        before = self.store.count_assets()
        began_s = time.perf_counter()
        sent = [self._send(number, payload) for number, payload in enumerate(payloads, first)]
        ended_s = self._await(before, len(sent), began_s)
        _acknowledged(sent)
        return ended_s - began_s

    def send_paced(self, payload: Callable[[int], bytes], *, first: int, count: int, per_s: float) -> list[float]:
        """Sends at an even pace and waits until all are searchable.

        Returns:
            for each event its freshness in seconds: from Kafka's timestamp, set by the producer, to the `indexed_at` of
            its asset row, set by the writer once the store has acknowledged the entries.
        """
        before, began_s = self.store.count_assets(), time.perf_counter()
        sent = []
        for number in range(count):
            time.sleep(max(0.0, began_s + number / per_s - time.perf_counter()))
            sent.append(self._send(first + number, payload(first + number)))
        self._await(before, count, began_s)
        _acknowledged(sent)
        return list(self._freshness_s(range(first, first + count)))

    def _send(self, number: int, payload: bytes) -> Future[Position]:
        return self.producer.send(Message(self.topic, key=_key(number), value=payload))

    def _await(self, before: int, events: int, began_s: float) -> float:
        """Waits until the store holds the rows of all events; returns that time of `time.perf_counter`."""
        deadline_s = began_s + _SETTLE_TIMEOUT_S
        while (done := self.store.count_assets() - before) < events:
            now_s = time.perf_counter()
            if now_s > deadline_s:
                raise UnavailableError(
                    f"after {now_s - began_s:.0f} s {events - done} of {events} events are not searchable: "
                    "`ingest.log` says what held the ingest plane up; if nothing did, measure with fewer events"
                )
            left_s = (events - done) * (now_s - began_s) / max(1, done)
            share = _WAIT_SHARE_AT_LAST if left_s < _AT_LAST_S else _WAIT_SHARE
            time.sleep(min(_MOST_WAIT_S, max(_LEAST_WAIT_S, share * left_s)))
        return time.perf_counter()

    def _freshness_s(self, numbers: range) -> Iterator[float]:
        assets = [AssetRef(self.tenant, self.topic, _key(number).decode()).id for number in numbers]
        for start in range(0, len(assets), _READ_ROWS):
            for row in self.store.asset_rows(assets[start : start + _READ_ROWS]).values():
                if row.outcome is Outcome.INDEXED:
                    yield (row.indexed_at_ms - row.version.timestamp_ms) / 1000


def _key(number: int) -> bytes:
    return f"bench-{number:09d}".encode()


def _acknowledged(sent: Sequence[Future[Position]]) -> None:
    for future in sent:
        future.result(_ACK_TIMEOUT_S)
