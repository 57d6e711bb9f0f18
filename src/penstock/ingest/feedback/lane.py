"""The lane of feedback: one member of the consumer group `<kafka.group>.feedback`, in the driver of the ingest plane.

    1 poll      events of feedback, and the change feed
    2 settle    events of feedback (`ingest.feedback.settle`)
    3 forget    the choices of assets that the change feed reports deleted, unless they are indexed again by now
    4 commit    the offsets of both topics

Where a service does not answer, the records are read and settled again. Every hour it sweeps (`ingest.feedback.sweep`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from penstock.broker.base import Consumer, Partition, partition_of
from penstock.broker.change_messages import parse_change_message
from penstock.errors import FencedError, PenstockError, UnavailableError
from penstock.ingest.feedback.settle import AssetRows, FeedbackSettler
from penstock.ingest.feedback.sweep import sweep_clicks
from penstock.observability import metrics
from penstock.records import Outcome, Record
from penstock.store.clicks import ClickTable

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_POLL_RECORDS = 500
_RETRY_S = 1.0
_COMMIT_TIMEOUT_S = 5.0
_LEAVE_TIMEOUT_S = 2.0
SWEEP_S = 3_600.0


class FeedbackLane:
    """Follows feedback on the thread that calls `run`.

    Args:
        consumer: member of the group, of both topics; closed by `run`.
        settler: settles events.
        clicks: the click memory.
        assets: of the index.
        topic: of feedback; every other record is one of the change feed.
        half_life_days: of choices.
        clock: monotonic seconds.
        wall_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        consumer: Consumer,
        settler: FeedbackSettler,
        clicks: ClickTable,
        assets: AssetRows,
        topic: str,
        *,
        half_life_days: float,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._consumer = consumer
        self._settler = settler
        self._clicks = clicks
        self._assets = assets
        self._topic = topic
        self._half_life_days = half_life_days
        self._clock = clock
        self._wall_ms = wall_ms
        self._swept_s = clock()

    def run(self, stop: threading.Event) -> None:
        """Follows feedback until `stop` is set, whatever fails."""
        while not stop.is_set():
            try:
                self.follow_once()
                if self._clock() - self._swept_s >= SWEEP_S:
                    self.sweep()
            except PenstockError as exc:
                logger.warning("feedback cannot be remembered, trying again: %s", exc)
                stop.wait(_RETRY_S)
            except Exception:  # whatever it is, choices must not be lost by a thread that ended
                logger.exception("following feedback failed unexpectedly, trying again")
                stop.wait(_RETRY_S)
        self._consumer.close(_LEAVE_TIMEOUT_S)

    def follow_once(self) -> None:
        """Polls once, and carries out the steps for what was delivered.

        Raises:
            UnavailableError: a service does not answer; the records are delivered again.
        """
        polled = self._consumer.poll(_POLL_S, _POLL_RECORDS)  # 1
        if polled.records:
            try:
                self._apply(polled.records)
            except Exception:
                self._read_again(polled.records)
                raise
            self._commit(polled.records)  # 4
        for stopped in polled.unreadable:
            logger.warning("feedback is not read further: %s", stopped)
        if polled.revoking:
            self._consumer.release(polled.revoking)

    def sweep(self) -> None:
        """Removes the choices that count for nothing any more."""
        removed = sweep_clicks(self._clicks, self._assets, now_ms=self._wall_ms(), half_life_days=self._half_life_days)
        self._swept_s = self._clock()
        if removed:
            logger.info("%d choices are too old or of deleted assets, and were removed", removed)

    def _apply(self, records: Sequence[Record]) -> None:
        feedback = [record for record in records if record.position.topic == self._topic]
        if feedback:
            for outcome, count in self._settler.settle(feedback).items():  # 2
                metrics.FEEDBACK_EVENTS.labels(outcome.value).inc(count)
        deleted = {
            change.asset.id
            for record in records
            if record.position.topic != self._topic
            for change in parse_change_message(record)
            if change.deleted
        }
        rows = self._assets.asset_rows(sorted(deleted)) if deleted else {}
        indexed = {id_ for id_, row in rows.items() if row.outcome is Outcome.INDEXED}
        if forgotten := deleted - indexed:
            self._clicks.drop_assets(forgotten)  # 3

    def _commit(self, records: Sequence[Record]) -> None:
        offsets: dict[Partition, int] = {}
        for record in records:
            partition = partition_of(record.position)
            offsets[partition] = max(offsets.get(partition, 0), record.position.offset + 1)
        try:
            self._consumer.commit(offsets, _COMMIT_TIMEOUT_S)
        except (FencedError, UnavailableError) as exc:
            logger.info("the offsets of feedback are not committed, and are settled again: %s", exc)

    def _read_again(self, records: Sequence[Record]) -> None:
        first: dict[Partition, int] = {}
        for record in records:
            partition = partition_of(record.position)
            first[partition] = min(first.get(partition, record.position.offset), record.position.offset)
        for partition, offset in first.items():
            with suppress(FencedError):  # then another member reads it from the committed offset
                self._consumer.seek_to(partition, offset)
