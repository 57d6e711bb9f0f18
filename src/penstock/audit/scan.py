"""Fills the ledger: from the topics, from the dead letters, from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import TypeVar

from penstock.audit.ledger import Ledger, ScannedEvent, partition_of
from penstock.audit.report import AuditProgress, Exclusions
from penstock.broker.base import LogRange, Partition, TopicReader
from penstock.broker.deadletters import parse_dead_letter
from penstock.broker.headers import first_seen
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

ROWS_A_PAGE = 50_000
"""Standings and parts take about 150 bytes each on the wire, and 700 here until they are in the ledger."""
LOOKED_UP = 500
"""Assets in one round of direct look-ups."""
_TELL_EVERY = 1_000


@dataclass(frozen=True)
class AuditScope:
    """What is audited.

    Attributes:
        topics: with the modality of each.
        dead_letter_topic: where dead letters go.
        parse: as a lane understands a record.
        sample: share of the assets that is looked at; None: all.
    """

    topics: Mapping[str, Modality]
    dead_letter_topic: str
    parse: Callable[[Record, Modality], Event | Rejected]
    sample: float | None = None

    @property
    def collections(self) -> tuple[Collection, ...]:
        """Those that entries of these topics can be in."""
        found = [collection for modality in self.topics.values() for collection in COLLECTIONS_OF[modality]]
        return tuple(dict.fromkeys(found))

    def covers(self, digest: str) -> bool:
        """Whether the sample has the asset of this id; ids are hashes, their first digits as good as dice."""
        return self.sample is None or int(digest[:8], 16) < self.sample * 2**32


class Scanner:
    """One audit's eyes. For one thread.

    Args:
        reader: of the topics.
        store: holds entries and asset rows.
        scope: what is audited.
        ledger: where to.
        exclusions: counted on the way.
        on_progress: told now and then.
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

    # ---- Kafka ----

    def scan_events(
        self, held: Mapping[Partition, LogRange], committed: Mapping[Partition, int], *, stage: str = "events"
    ) -> None:
        """Reads these ranges of the topics. What lies below the committed offset is settled."""
        told = self._telling(stage, sum(found.end - found.start for found in held.values()))
        for partition, found in held.items():
            records = told(self._reader.read(partition, found.start, found.end))
            self._ledger.add_events(self._seen(records, committed.get(partition, 0)))

    def scan_dead_letters(self) -> None:
        """Reads the dead letters that there are now."""
        held = self._reader.bounds([self._scope.dead_letter_topic])
        told = self._telling("dead letters", sum(found.end - found.start for found in held.values()))
        for partition, found in held.items():
            before = self._letters
            new = self._ledger.add_letters(self._told_of(told(self._reader.read(partition, found.start, found.end))))
            self._exclusions.repeated_dead_letters += self._letters - before - new

    def _seen(self, records: Iterable[Record], committed: int) -> Iterator[ScannedEvent]:
        for record in records:
            settled = record.position.offset < committed
            seen = self._understood(record, settled=settled)
            if self._scope.covers(seen.asset_id or blake2b(str(seen.origin).encode(), digest_size=16).hexdigest()):
                self._exclusions.replays += seen.origin != record.position
                if not settled:
                    self.in_flight[partition_of(record.position)] += 1
                yield seen

    def _understood(self, record: Record, *, settled: bool) -> ScannedEvent:
        parsed = self._scope.parse(record, self._scope.topics[record.position.topic])
        if isinstance(parsed, Rejected):
            origin, timestamp_ms = first_seen(record)
            return ScannedEvent(origin, "", timestamp_ms, False, settled)
        return ScannedEvent(parsed.origin, parsed.asset.id, parsed.timestamp_ms, parsed.is_tombstone, settled)

    def _told_of(self, records: Iterable[Record]) -> Iterator[tuple[Position, Position]]:
        for record in records:
            letter = parse_dead_letter(record)
            if letter is None:
                self._exclusions.foreign_records += 1
            elif letter.origin.topic not in self._scope.topics:
                self._exclusions.other_topics += 1
            else:
                self._letters += 1
                yield letter.origin, letter.position

    # ---- the store ----

    def scan_store(self) -> None:
        """Reads all asset rows, then all entries; of a sample those of its assets, looked up one by one."""
        if self._scope.sample is not None:
            self._look_up_sample()
            return
        told = self._telling("asset rows", self._store.count_assets())
        for page in self._store.scan_asset_states(batch=ROWS_A_PAGE):
            self._add_rows(told(page))
        for collection in self._scope.collections:
            told = self._telling(f"entries in {collection}", self._store.count(collection))
            for parts in self._store.scan_entry_keys(collection, batch=ROWS_A_PAGE):
                self._add_parts(collection, told(parts))

    def _look_up_sample(self) -> None:
        told = self._telling("assets of the sample", None)
        for asset_ids in _chunks(told(self._ledger.asset_ids()), LOOKED_UP):
            self._add_rows(map(standing, self._store.asset_rows(asset_ids).values()))
            for collection in self._scope.collections:
                self._add_parts(collection, map(part_of, entries_of(self._store, collection, asset_ids)))

    def _add_rows(self, rows: Iterable[AssetState]) -> None:
        ours = list(self._ours(rows, lambda row: row.origin.topic))
        self._ledger.add_rows(ours)
        self.rows += len(ours)

    def _add_parts(self, collection: Collection, parts: Iterable[EntryKey]) -> None:
        ours = list(self._ours(parts, lambda part: part.origin.topic))
        self._ledger.add_parts(collection, ours)
        self.entries += len(ours)

    def _ours(self, items: Iterable[T], topic_of: Callable[[T], str]) -> Iterator[T]:
        for item in items:
            if topic_of(item) in self._scope.topics:
                yield item
            else:
                self._exclusions.other_topics += 1

    def _telling(self, stage: str, total: int | None) -> Callable[[Iterable[T]], Iterator[T]]:
        """Passes items through and tells how many came by; one count for all that it is called with."""
        done = 0

        def through(items: Iterable[T]) -> Iterator[T]:
            nonlocal done
            for item in items:
                if done % _TELL_EVERY == 0:
                    self._on_progress(AuditProgress(stage, done, total))
                done += 1
                yield item
            self._on_progress(AuditProgress(stage, done, total))

        return through


def entries_of(
    store: EntryScan, collection: Collection, asset_ids: Sequence[str], more: Sequence[str] = ()
) -> Iterator[Entry]:
    """The entries of these assets, and those of further ids that exist, looked up directly."""
    found = store.entry_ids(collection, asset_ids)
    wanted = dict.fromkeys([*(id_ for ids in found.values() for id_ in ids), *more])
    for chunk in _chunks(wanted, LOOKED_UP):
        yield from store.get(collection, chunk)


def part_of(entry: Entry) -> EntryKey:
    return EntryKey(entry.id, entry.asset.id, entry.part, entry.origin)


def standing(row: AssetRow) -> AssetState:
    return AssetState(
        row.asset.id, row.origin, row.version.timestamp_ms, row.outcome is Outcome.DELETED, row.counts, row.slot
    )


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    found = iter(items)
    while chunk := list(islice(found, size)):
        yield chunk
