"""Evaluates watches: new entries of the change feed are compared with all watches, and matches go to a topic.

One member of the consumer group `<kafka.group>.watches` evaluates the changes of a partition, so that each is evaluated
once where all goes well, whatever the number of replicas. At least once:

1. The changes of a poll are read, of each asset the newest.
2. Their entries are read from the store, at Strong consistency, with their vectors.
3. The watches of their tenants are prepared (`query.watches.prepared`).
4. The entries are compared with them (`query.watches.matching`).
5. The matches are written, and their acknowledgement is awaited.
6. The offsets of the changes are committed.

Where a step fails because a service does not answer, the changes are read and evaluated again. A crash before 6 repeats
matches; their ids are the same. An entry that a newer version has replaced in the meantime does not match.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from penstock.broker.base import Consumer, Partition, Producer, partition_of
from penstock.broker.change_messages import parse_change_message
from penstock.broker.watch_messages import match_message
from penstock.errors import FencedError, PenstockError, TransientError, UnavailableError
from penstock.observability import metrics
from penstock.query.addresses import Shows, show_all, shown_entry
from penstock.query.changes import changes_of
from penstock.query.fusion.calibration import Calibration
from penstock.query.watches.context import WatchContext
from penstock.query.watches.denied import DeniedChanges
from penstock.query.watches.judging_failures import JudgingFailures
from penstock.query.watches.matching import find_matches
from penstock.query.watches.prepared import Prepare, PreparedWatches
from penstock.query.watches.registry import WatchRegistry
from penstock.records import AssetRef, Collection, Entry, IndexChange, Record, Watch, WatchMatch
from penstock.store.base import EntrySearch, Store

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_POLL_RECORDS = 100
_RETRY_S = 1.0
_COMMIT_TIMEOUT_S = 5.0
_ACK_TIMEOUT_S = 40.0  # above the producer's own delivery timeout
_LEAVE_TIMEOUT_S = 2.0
# Entries that are compared at a time: 4 MB of vectors, and a request to the store.
_MAX_ENTRIES = 1_000


class WatchEvaluator:
    """Evaluates watches on a thread of its own.

    Over the limit because each of its services is an attribute.

    Args:
        consumer: member of the group, of the topic of changes; the evaluator closes it.
        registry: knows the watches.
        prepare: makes their contexts.
        store: read and searched.
        producer: writes the matches; the evaluator closes it.
        topic: of matches.
        calibration: valid for this index.
        shows: whether readers get an address of a tenant's media; that of a match is empty otherwise.
        index_version: changes of other versions of the index are left out; None: none are.
        settle_s: how long changes wait until searches of the store show them in any case.
        clock: monotonic seconds, that of the contexts.
        wall_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        consumer: Consumer,
        registry: WatchRegistry,
        prepare: Prepare,
        store: Store,
        producer: Producer,
        *,
        topic: str,
        calibration: Calibration | None,
        shows: Shows = show_all,
        index_version: int | None = None,
        settle_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._consumer = consumer
        self._registry = registry
        self._store = store
        self._search: EntrySearch = store
        self._calibration = calibration
        self._producer = producer
        self._topic = topic
        self._settle_s = settle_s
        self._shows = shows
        self._index_version = index_version
        self._wall_ms = wall_ms
        self._denied = DeniedChanges(clock)
        self._stop = threading.Event()
        self._prepared = PreparedWatches(prepare, stop=self._stop, clock=clock)
        self._failures = JudgingFailures(clock)
        self._thread = threading.Thread(target=self._run, name="watch-evaluator", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, leaves the group, and closes the producer. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close(_LEAVE_TIMEOUT_S)
        self._producer.close(_LEAVE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.is_set() and not self._registry.wait_until_ready(_POLL_S):
            pass
        while not self._stop.is_set():
            try:
                self.evaluate_once()
            except PenstockError as exc:
                logger.warning("watches cannot be evaluated, trying again: %s", exc)
                self._stop.wait(_RETRY_S)
            except Exception:
                logger.exception("evaluating watches failed unexpectedly, trying again")
                self._stop.wait(_RETRY_S)

    def evaluate_once(self) -> int:
        """Polls once and evaluates what was delivered; returns the number of matches that were written.

        Raises:
            TransientError: a service does not answer; the changes are delivered again.
        """
        polled = self._consumer.poll(_POLL_S, _POLL_RECORDS)
        for partition, offset in self._denied.follow(polled):
            self._seek(partition, offset)
        matches = self._evaluate_records(polled.records) if polled.records else 0
        if polled.revoking:
            self._consumer.release(polled.revoking)
        return matches

    def _evaluate_records(self, records: Sequence[Record]) -> int:
        try:
            matches = self._evaluate(records)
        except Exception:
            self._read_again(records)
            raise
        offsets: dict[Partition, int] = {}
        for record in records:
            partition = partition_of(record.position)
            offsets[partition] = max(offsets.get(partition, 0), record.position.offset + 1)
        try:
            self._consumer.commit(offsets, _COMMIT_TIMEOUT_S)  # 6
        except (FencedError, UnavailableError) as exc:
            logger.info("the offsets of evaluated changes are not committed, matches may repeat: %s", exc)
        return matches

    def _read_again(self, records: Sequence[Record]) -> None:
        first: dict[Partition, int] = {}
        for record in records:
            partition = partition_of(record.position)
            first[partition] = min(first.get(partition, record.position.offset), record.position.offset)
        for partition, offset in first.items():
            self._seek(partition, offset)

    def _seek(self, partition: Partition, offset: int) -> None:
        with suppress(FencedError):  # then another member reads it from the committed offset
            self._consumer.seek_to(partition, offset)

    def _evaluate(self, records: Sequence[Record]) -> int:
        watches = self._registry.snapshot()
        self._prepared.keep(watches)
        oldest_ms: dict[str, int] = {}
        for watch in watches.values():
            oldest_ms[watch.tenant] = min(watch.created_ms, oldest_ms.get(watch.tenant, watch.created_ms))
        changes = [
            change
            for change in _newest(self._changes_of(records))  # 1
            if not change.deleted and change.indexed_at_ms >= oldest_ms.get(change.tenant, math.inf)
        ]
        if changes and self._settle_s:
            newest_ms = max(change.indexed_at_ms for change in changes)
            self._stop.wait(max(0.0, self._settle_s - (self._wall_ms() - newest_ms) / 1000))
        written = 0
        contexts: Sequence[WatchContext] | None = None
        for part in _parts(changes):
            versions = {change.asset: change.version for change in part}
            entries = self._entries(part)  # 2; before 3, so that a store that is down fails no watch
            contexts = self._contexts_for(changes, watches) if contexts is None else contexts  # 3
            matches = [
                WatchMatch(judged.context.watch, judged.entry, versions[judged.entry.asset], judged.relevance)
                for judged in find_matches(contexts, entries, self._search, self._calibration, self._failures)  # 4
            ]
            self._write(matches)  # 5
            written += len(matches)
        self._failures.succeed()
        return written

    def _changes_of(self, records: Iterable[Record]) -> Iterator[IndexChange]:
        for record in records:
            yield from changes_of(self._index_version, parse_change_message(record))

    def _contexts_for(self, changes: Sequence[IndexChange], watches: Mapping[str, Watch]) -> Sequence[WatchContext]:
        """Returns the contexts of the watches that are as old as the newest of their tenant's changes.

        Raises:
            UnavailableError: new ones are not prepared yet.
        """
        newest_ms: dict[str, int] = {}
        for change in changes:
            newest_ms[change.tenant] = max(change.indexed_at_ms, newest_ms.get(change.tenant, 0))
        needed = [watch for watch in watches.values() if watch.created_ms <= newest_ms.get(watch.tenant, -1)]
        contexts = self._prepared.contexts_of(needed)
        self._prepared.keep(watches)
        return contexts

    def _entries(self, changes: Sequence[IndexChange]) -> list[Entry]:
        """Returns the new entries of these changes that are still those of the announced versions."""
        ids: dict[Collection, list[str]] = {}
        for change in changes:
            for collection, new in change.new_entry_ids().items():
                ids.setdefault(collection, []).extend(new)
        origins = {change.asset: change.origin for change in changes}
        return [
            entry
            for collection, new in ids.items()
            for entry in self._store.get(collection, new)
            if origins.get(entry.asset) == entry.origin
        ]

    def _write(self, matches: Sequence[WatchMatch]) -> None:
        shown = [replace(match, entry=shown_entry(match.entry, self._shows)) for match in matches]
        sent = [(match, self._producer.send(match_message(self._topic, match))) for match in shown]
        for match, acknowledged in sent:
            try:
                acknowledged.result(_ACK_TIMEOUT_S)
            except TimeoutError as exc:
                raise UnavailableError(f"{self._topic} did not take a match in {_ACK_TIMEOUT_S:g} s") from exc
            except TransientError:
                raise
            except PenstockError as exc:
                metrics.WATCH_MATCHES.labels("dropped").inc()
                logger.error("the match %s of watch %s cannot be written: %s", match.id, match.watch.id, exc)
                continue
            metrics.WATCH_MATCHES.labels("written").inc()
            delay_s = max(0, self._wall_ms() - match.entry.indexed_at_ms) / 1000
            metrics.WATCH_DELAY.labels(match.entry.collection).observe(delay_s)


def _newest(changes: Iterable[IndexChange]) -> list[IndexChange]:
    """Returns the changes without those that a newer version of their asset follows, and without repeats."""
    newest: dict[AssetRef, list[IndexChange]] = {}
    for change in changes:
        known = newest.setdefault(change.asset, [])
        if known and known[0].version != change.version:
            if not change.version.newer_than(known[0].version):
                continue
            known.clear()
        if change not in known:  # segments of one version follow each other
            known.append(change)
    return [change for known in newest.values() for change in known]


def _parts(changes: Sequence[IndexChange]) -> Iterator[list[IndexChange]]:
    """Yields the changes in parts of up to `_MAX_ENTRIES` entries, or of one change that has more."""
    part: list[IndexChange] = []
    size = 0
    for change in changes:
        entries = sum(count - change.since.get(collection, 0) for collection, count in change.counts.items())
        if part and size + entries > _MAX_ENTRIES:
            yield part
            part, size = [], 0
        part.append(change)
        size += entries
    if part:
        yield part
