"""Publishes what a batch changed in the index, between its write and its report.

Not published is what is removed of rejected events (`WriteStep.retract`), also where segments of long media were
announced before a later one was rejected: those stay announced as incomplete. Neither are replays of a re-index: they
change nothing in the version that has them already, and the other one is not served yet.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from penstock.ingest.changes import ChangeSink
from penstock.ingest.delivery import Delivery
from penstock.ingest.pipeline.types import BatchReport
from penstock.observability import tracing
from penstock.records import Continues, Event, IndexChange, Outcome, Settled, WriteResult, Written


class AnnounceStep:
    """Publishes changes of the index.

    Args:
        feed: takes them; None: there is no change feed.
    """

    def __init__(self, feed: ChangeSink | None) -> None:
        self._feed = feed

    def announce(self, deliveries: Sequence[Delivery], results: Sequence[WriteResult], report: BatchReport) -> None:
        """Publishes the changes of a batch, also those that an earlier delivery of it has stored."""
        if self._feed is None:
            return
        events = {delivery.record.position: delivery.event for delivery in deliveries}
        changes = [
            _change(events[result.position], result, result.written)
            for result in results
            if isinstance(result, Settled | Continues)
            and result.written is not None
            and not events[result.position].refills
        ]
        if not changes:
            return
        started_s = time.perf_counter()
        with tracing.current().span("announce", changes=len(changes)):
            self._feed.publish(changes)
        report.add_step_time("announce", time.perf_counter() - started_s)

    def close(self, timeout_s: float) -> None:
        """Gives the changes that the feed has not taken yet this long to reach it."""
        if self._feed is not None:
            self._feed.close(timeout_s)


def _change(event: Event, result: Settled | Continues, written: Written) -> IndexChange:
    return IndexChange(
        tenant=event.asset.tenant,
        topic=event.asset.topic,
        key=event.asset.key,
        origin=event.origin,
        deleted=isinstance(result, Settled) and result.outcome in (Outcome.DELETED, Outcome.EXPIRED),
        counts=written.counts,
        indexed_at_ms=written.indexed_at_ms,
        timestamp_ms=event.timestamp_ms,
        slot=written.slot,
        since=written.since,
        complete=isinstance(result, Settled),
        acl=written.acl,
    )
