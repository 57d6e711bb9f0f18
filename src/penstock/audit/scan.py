"""Fills the ledger: from the topics, from the dead letters, from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import TypeVar

from penstock.audit.ledger import Ledger
from penstock.audit.ledger_rows import ScannedEvent
from penstock.audit.report import AuditProgress, Exclusions
from penstock.broker.base import LogRange, Partition, TopicReader, partition_of
from penstock.broker.deadletters import parse_dead_letter
from penstock.broker.replay_keys import NO_KEYS, ReplayKeys
from penstock.records import (
    COLLECTIONS_OF,
    AssetRow,
    Collection,
    Entry,
    Event,
    Modality,
    Outcome,
    Position,
    Record,
    Rejected,
)
from penstock.store.base import AssetState, EntryKey, EntryScan

T = TypeVar("T")

# Asset states and entry keys take about 150 bytes each on the wire, and 700 here until they are in the ledger.
PAGE_ROWS = 50_000
LOOKUP_ASSETS = 500  # in one round of direct look-ups
_REPORT_EVERY = 1_000


@dataclass(frozen=True)
class AuditScope:
    """The extent of an audit.

    Attributes:
        topics: the modality of each audited topic.
        dead_letter_topic: the topic of the dead letters.
        parse: parses a record as a lane does.
        replays: the keys by which a replay is known.
        sample: the share of the assets that is checked; None: all.
    """

    topics: Mapping[str, Modality]
    dead_letter_topic: str
    parse: Callable[[Record], Event | Rejected]
    replays: ReplayKeys = NO_KEYS
    sample: float | None = None

    @property
    def collections(self) -> tuple[Collection, ...]:
        """The collections that hold entries of these topics."""
        collections = [collection for modality in self.topics.values() for collection in COLLECTIONS_OF[modality]]
        return tuple(dict.fromkeys(collections))

    def covers(self, digest: str) -> bool:
        """Returns whether the sample has the asset of this id. Ids are hashes, so their first digits are random."""
        return self.sample is None or int(digest[:8], 16) < self.sample * 2**32


class Scanner:
    """Reads topics, dead letters and store into the ledger. For one thread.

    Args:
        reader: reads the topics.
        store: holds entries and asset rows.
        scope: the extent of the audit.
        ledger: the destination.
        exclusions: counted during the scan.
        on_progress: called every now and then.

    Attributes:
        in_flight: records at and above the committed offset, by partition.
        entries, rows: the number of entries and asset rows that were scanned.
    """

    def __init__(
        self,
        reader: TopicReader,
        store: EntryScan,
        scope: AuditScope,
        ledger: Ledger,
        *,
        exclusions: Exclusions,
        on_progress: Callable[[AuditProgress], None],
    ) -> None:
        self._reader = reader
        self._store = store
        self._scope = scope
        self._ledger = ledger
        self._exclusions = exclusions
        self._on_progress = on_progress
        self.in_flight: Counter[Partition] = Counter()
        self.entries = 0
        self.rows = 0
        self._letters = 0

    # --- Kafka -------------------------------------------------------------------------------------------------------

    def scan_events(
        self, logs: Mapping[Partition, LogRange], committed: Mapping[Partition, int], *, stage: str = "events"
    ) -> None:
        """Reads these ranges of the topics. Events below the committed offset are settled."""
        counted = self._counting(stage, sum(log.end - log.start for log in logs.values()))
        for partition, log in logs.items():
            records = counted(self._reader.read(partition, log.start, log.end))
            self._ledger.add_events(self._sampled_events(records, committed.get(partition, 0)))

    def scan_dead_letters(self) -> None:
        """Reads the present dead letters."""
        logs = self._reader.bounds([self._scope.dead_letter_topic])
        counted = self._counting("dead letters", sum(log.end - log.start for log in logs.values()))
        for partition, log in logs.items():
            before = self._letters
            records = counted(self._reader.read(partition, log.start, log.end))
            new = self._ledger.add_letters(self._audited_letters(records))
            self._exclusions.repeated_dead_letters += self._letters - before - new

    def _sampled_events(self, records: Iterable[Record], committed: int) -> Iterator[ScannedEvent]:
        for record in records:
            settled = record.position.offset < committed
            event = self._parse(record, settled=settled)
            if self._scope.covers(event.asset_id or blake2b(str(event.origin).encode(), digest_size=16).hexdigest()):
                self._exclusions.replays += event.origin != record.position
                if not settled:
                    self.in_flight[partition_of(record.position)] += 1
                yield event

    def _parse(self, record: Record, *, settled: bool) -> ScannedEvent:
        parsed = self._scope.parse(record)
        if isinstance(parsed, Rejected):
            origin, timestamp_ms = self._scope.replays.first_seen(record)
            return ScannedEvent(origin, "", timestamp_ms, False, settled)
        return ScannedEvent(parsed.origin, parsed.asset.id, parsed.timestamp_ms, parsed.is_tombstone, settled)

    def _audited_letters(self, records: Iterable[Record]) -> Iterator[tuple[Position, Position]]:
        """Yields the dead letters of audited topics, by origin and own position."""
        for record in records:
            letter = parse_dead_letter(record)
            if letter is None:
                self._exclusions.foreign_records += 1
            elif letter.origin.topic not in self._scope.topics:
                self._exclusions.other_topics += 1
            else:
                self._letters += 1
                yield letter.origin, letter.position

    # --- the store ---------------------------------------------------------------------------------------------------

    def scan_store(self) -> None:
        """Reads all asset rows, then all entries; for a sample those of its assets, looked up by id."""
        if self._scope.sample is not None:
            self._look_up_sample()
            return
        counted = self._counting("asset rows", self._store.count_assets())
        for page in self._store.scan_asset_states(batch=PAGE_ROWS):
            self._add_rows(counted(page))
        for collection in self._scope.collections:
            counted = self._counting(f"entries in {collection}", self._store.count(collection))
            for keys in self._store.scan_entry_keys(collection, batch=PAGE_ROWS):
                self._add_entries(collection, counted(keys))

    def _look_up_sample(self) -> None:
        counted = self._counting("assets of the sample", None)
        for asset_ids in _chunks(counted(self._ledger.asset_ids()), LOOKUP_ASSETS):
            self._add_rows(map(state_of, self._store.asset_rows(asset_ids).values()))
            for collection in self._scope.collections:
                self._add_entries(collection, map(key_of, look_up_entries(self._store, collection, asset_ids)))

    def _add_rows(self, rows: Iterable[AssetState]) -> None:
        audited = list(self._audited(rows, lambda row: row.origin.topic))
        self._ledger.add_rows(audited)
        self.rows += len(audited)

    def _add_entries(self, collection: Collection, keys: Iterable[EntryKey]) -> None:
        audited = list(self._audited(keys, lambda key: key.origin.topic))
        self._ledger.add_entries(collection, audited)
        self.entries += len(audited)

    def _audited(self, items: Iterable[T], topic_of: Callable[[T], str]) -> Iterator[T]:
        """Yields the items of audited topics, and counts the others."""
        for item in items:
            if topic_of(item) in self._scope.topics:
                yield item
            else:
                self._exclusions.other_topics += 1

    def _counting(self, stage: str, total: int | None) -> Callable[[Iterable[T]], Iterator[T]]:
        """Returns a function that yields items and reports how many passed, in one count for all of its calls."""
        done = 0

        def count(items: Iterable[T]) -> Iterator[T]:
            nonlocal done
            for item in items:
                if done % _REPORT_EVERY == 0:
                    self._on_progress(AuditProgress(stage, done, total))
                done += 1
                yield item
            self._on_progress(AuditProgress(stage, done, total))

        return count


def look_up_entries(
    store: EntryScan, collection: Collection, asset_ids: Sequence[str], more: Sequence[str] = ()
) -> Iterator[Entry]:
    """Yields the entries of these assets, and those of further ids that exist, looked up directly."""
    by_asset = store.entry_ids(collection, asset_ids)
    unique = dict.fromkeys([*(id_ for ids in by_asset.values() for id_ in ids), *more])
    for ids in _chunks(unique, LOOKUP_ASSETS):
        yield from store.get(collection, ids)


def key_of(entry: Entry) -> EntryKey:
    """Returns the key of an entry."""
    return EntryKey(entry.id, entry.asset.id, entry.part, entry.origin)


def state_of(row: AssetRow) -> AssetState:
    """Returns the part of an asset row that the audit compares."""
    deleted, expired = row.outcome is not Outcome.INDEXED, row.outcome is Outcome.EXPIRED
    return AssetState(row.asset.id, row.origin, row.version.timestamp_ms, deleted, row.counts, row.slot, expired)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
