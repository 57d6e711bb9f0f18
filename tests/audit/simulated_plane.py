"""A plane to audit: topics in memory, a store in memory, and a trivial ingest plane that keeps every rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from penstock.audit import AuditProblem, AuditProgress, AuditReport, AuditScope, audit
from penstock.broker.base import Message, Partition
from penstock.broker.deadletters import to_message
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.reader import MemoryReader
from penstock.broker.wire import parse_record
from penstock.errors import Reason
from penstock.records import (
    AssetRef,
    AssetRow,
    Collection,
    Entry,
    Event,
    Inline,
    Modality,
    Outcome,
    Position,
    Record,
    Rejected,
    entry_id,
)
from penstock.store.memory import MemoryStore
from tests.replays import KEYS, as_replay
from tests.store.builders import entry, spec
from tests.store.scans import all_asset_rows, all_entries

GROUP = "group"
TEXT, IMAGE, DEAD = "media.text", "media.image", "media.dlq"
TOPICS = {TEXT: Modality.TEXT, IMAGE: Modality.IMAGE}
COLLECTION_OF = {TEXT: Collection.TEXT, IMAGE: Collection.IMAGE}


def parse(record: Record) -> Event | Rejected:
    modality = TOPICS[record.position.topic]
    return parse_record(record, modality=modality, default_tenant="default", max_inline_bytes=1_000, replays=KEYS)


class SimulatedPlane:
    """Settles events by their value: `bad` is rejected, a number is the count of entries, null deletes."""

    def __init__(self, partitions: int = 2) -> None:
        self.time_ms = 1_000
        self.broker = MemoryBroker(now_ms=self._now)
        for topic in TOPICS:
            self.broker.create_topic(topic, partitions)
        self.broker.create_topic(DEAD, 2)
        self.store = MemoryStore()
        self.store.ensure(spec())
        self.compacted: frozenset[str] = frozenset()

    def _now(self) -> int:
        self.time_ms += 1
        return self.time_ms

    # --- what a producer does ---------------------------------------------------------------------------------------

    def produce(
        self, key: str, value: bytes | None = b"1", *, topic: str = TEXT, partition: int = 0, **headers: bytes
    ) -> Position:
        return self.broker.append(Message(topic, key.encode(), value, tuple(headers.items()), partition=partition))

    def replay(self, origin: Position, value: bytes | None = b"1", *, key: str = "k") -> Position:
        """Produces the message of a dead letter again."""
        (record,) = (record for record in self.broker.records(origin.topic) if record.position == origin)
        message = Message(origin.topic, key.encode(), value, partition=origin.partition)
        return self.broker.append(as_replay(message, origin, record.timestamp_ms))

    # --- what the ingest plane does ---------------------------------------------------------------------------------

    def ingest(self, *, up_to: Position | None = None, commit: bool = True) -> None:
        """Settles every event of every topic in order; in the partition of `up_to` only those below it."""
        for topic in TOPICS:
            for partition in self.broker.partitions(topic):
                _, end = self.broker.log_range(partition)
                if up_to is not None and partition == Partition(up_to.topic, up_to.partition):
                    end = up_to.offset
                committed = self.broker.committed(GROUP).get(partition, 0)
                for record in list(self.broker.read(partition, committed, end)):
                    if record.position.offset < end:
                        self.settle(record)
                if commit:
                    self.commit(partition, end)

    def commit(self, partition: Partition, offset: int) -> None:
        self.broker.group(GROUP).committed[partition] = offset

    def settle(self, record: Record) -> None:
        event = parse(record)
        if isinstance(event, Rejected):
            self.reject(record, event)
            return
        row = self.row(event.asset)
        if row is not None and (row.version == event.version or row.version.newer_than(event.version)):
            return
        if isinstance(event.payload, Inline) and event.payload.data == b"bad":
            self.reject(record, Rejected(record.position, "decode", Reason.CORRUPT, "it is bad"))
            return
        count = int(event.payload.data) if isinstance(event.payload, Inline) else 0
        self.write_entries(event, count)
        self.remove_entries(event.asset, beyond=count)
        counts = {COLLECTION_OF[event.asset.topic]: count} if count else {}
        outcome = Outcome.DELETED if event.is_tombstone else Outcome.INDEXED
        self.put(AssetRow(event.asset, event.version, outcome, counts, "", 0))

    def reject(self, record: Record, rejected: Rejected) -> None:
        self.broker.append(to_message(record, rejected, topic=DEAD, failed_at_ms=1, replays=KEYS))

    # --- its parts, for half-done work ------------------------------------------------------------------------------

    def event(self, position: Position) -> Event:
        (record,) = (record for record in self.broker.records(position.topic) if record.position == position)
        event = parse(record)
        assert isinstance(event, Event)
        return event

    def write_entries(self, event: Event, count: int, first: int = 0, *, space: int = 0) -> None:
        collection = COLLECTION_OF[event.asset.topic]
        entries = [entry(event.asset, part, collection=collection) for part in range(first, count)]
        ids = [entry_id(event.asset, collection, part, space) for part in range(first, count)]
        self.store.upsert(
            collection, [replace(new, id=id_, origin=event.origin) for new, id_ in zip(entries, ids, strict=True)]
        )

    def remove_entries(self, asset: AssetRef, *, beyond: int) -> None:
        collection = COLLECTION_OF[asset.topic]
        kept = {entry_id(asset, collection, part) for part in range(beyond)}
        present = self.store.entry_ids(collection, [asset.id]).get(asset.id, frozenset())
        self.store.delete(collection, sorted(present - kept))

    def row(self, asset: AssetRef) -> AssetRow | None:
        return self.store.asset_rows([asset.id]).get(asset.id)

    def put(self, row: AssetRow) -> None:
        self.store.put_asset_rows([row])

    def drop_row(self, asset: AssetRef) -> None:
        """Removes an asset row, as no writer ever does."""
        del self.store._asset_table().assets[asset.id]

    def entries(self, collection: Collection = Collection.TEXT) -> list[Entry]:
        return all_entries(self.store, collection)

    def rows(self) -> list[AssetRow]:
        return all_asset_rows(self.store)

    # --- the audit --------------------------------------------------------------------------------------------------

    def reader(self) -> MemoryReader:
        return MemoryReader(self.broker, GROUP, compacted=self.compacted)

    def audit(
        self,
        *,
        sample: float | None = None,
        reader: MemoryReader | None = None,
        progress: list[AuditProgress] | None = None,
        on_problem: Callable[[AuditProblem], None] | None = None,
    ) -> AuditReport:
        scope = AuditScope(TOPICS, DEAD, parse, KEYS, sample)
        return audit(
            reader or self.reader(),
            self.store,
            scope,
            on_progress=None if progress is None else progress.append,
            on_problem=on_problem,
        )


def kinds(report: AuditReport) -> dict[str, int]:
    return {kind.value: count for kind, count in report.problem_counts.items()}


def asset(key: str, topic: str = TEXT) -> AssetRef:
    return AssetRef("default", topic, key)


def balance(report: AuditReport) -> Sequence[int]:
    """Returns produced, indexed, deleted, superseded, dead-lettered and in flight."""
    return (
        report.produced,
        report.indexed,
        report.deleted,
        report.superseded,
        report.dead_lettered,
        report.in_flight,
    )
