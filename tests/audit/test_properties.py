"""Random histories that an ingest plane settled balance; any one corruption of the store is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.records import AssetRow, Collection, Entry, Outcome, Position
from tests.audit.simulated_plane import COLLECTION_OF, IMAGE, TEXT, SimulatedPlane, kinds

KEYS, PARTITIONS = "abc", 2
VALUES = (b"0", b"1", b"3", None, b"bad")


@dataclass(frozen=True)
class Produced:
    """One message, or a hole of one offset where `key` is empty."""

    topic: str
    key: str
    partition: int
    value: bytes | None


MESSAGES = st.builds(
    Produced,
    st.sampled_from([TEXT, IMAGE]),
    st.sampled_from(["", *KEYS]),
    st.integers(0, PARTITIONS - 1),
    st.sampled_from(VALUES),
)
HISTORIES = st.lists(MESSAGES, max_size=25)


def simulated(history: list[Produced], *, settle_every: int = 4) -> SimulatedPlane:
    """Returns a plane that settled and committed these messages, and replayed every second dead letter."""
    plane = SimulatedPlane(PARTITIONS)
    rejected: list[tuple[Position, str]] = []
    for number, produced in enumerate(history):
        if not produced.key:
            plane.broker.leave_gap(plane.broker.partitions(produced.topic)[produced.partition], 1)
            continue
        position = plane.produce(produced.key, produced.value, topic=produced.topic, partition=produced.partition)
        if produced.value == b"bad":
            rejected.append((position, produced.key))
        if number % settle_every == 0:
            plane.ingest()
    plane.ingest()
    for position, key in rejected[::2]:
        plane.replay(position, b"2", key=key)
        plane.ingest()
    return plane


@given(HISTORIES)
@settings(max_examples=30, deadline=None)
def test_a_history_settled_by_the_rules_balances(history: list[Produced]) -> None:
    plane = simulated(history)
    report = plane.audit()
    assert kinds(report) == {}
    assert report.produced == sum(bool(produced.key) for produced in history)
    outcomes = report.indexed + report.deleted + report.superseded + report.dead_lettered
    assert (outcomes, report.in_flight) == (report.produced, 0)
    assert report.assets == report.indexed + report.deleted == len(plane.rows())


@given(HISTORIES, st.data())
@settings(max_examples=30, deadline=None)
def test_an_unfinished_write_above_the_committed_offset_is_no_problem(
    history: list[Produced], data: st.DataObject
) -> None:
    """A writer may die after any of its steps, with any number of parts written or deleted."""
    plane = simulated(history)
    key, topic = data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from([TEXT, IMAGE]))
    count = data.draw(st.integers(0, 4))
    value = None if count == 0 else b"%d" % count
    event = plane.event(plane.produce(key, value, topic=topic, partition=data.draw(st.integers(0, PARTITIONS - 1))))
    row = plane.row(event.asset)
    if row is not None and row.version.newer_than(event.version):
        return
    written = data.draw(st.integers(0, count))
    plane.write_entries(event, written)
    if written == count:
        before = row.counts.get(COLLECTION_OF[topic], 0) if row else 0
        plane.remove_entries(event.asset, beyond=data.draw(st.integers(count, max(count, before))))
    report = plane.audit()
    assert kinds(report) == {}
    assert report.in_flight == 1


# --- corruptions of one entry or asset row -------------------------------------------------------------------------


def entry_is_removed(plane: SimulatedPlane, entry: Entry) -> None:
    plane.store.delete(entry.collection, [entry.id])


def entry_is_doubled(plane: SimulatedPlane, entry: Entry) -> None:
    plane.store.upsert(entry.collection, [replace(entry, id="f" * 32)])


def entry_gets_another_id(plane: SimulatedPlane, entry: Entry) -> None:
    entry_is_removed(plane, entry)
    entry_is_doubled(plane, entry)


def entry_is_of_another_event(plane: SimulatedPlane, entry: Entry) -> None:
    plane.store.upsert(entry.collection, [replace(entry, origin=replace(entry.origin, offset=entry.origin.offset + 1))])


def entry_is_of_another_asset(plane: SimulatedPlane, entry: Entry) -> None:
    entry_is_removed(plane, entry)
    plane.store.upsert(entry.collection, [replace(entry, asset=replace(entry.asset, key="nobody"))])


def entry_is_of_another_tenant(plane: SimulatedPlane, entry: Entry) -> None:
    plane.store.upsert(entry.collection, [replace(entry, asset=replace(entry.asset, tenant="other"))])


def entry_is_another_part(plane: SimulatedPlane, entry: Entry) -> None:
    plane.store.upsert(entry.collection, [replace(entry, part=entry.part + 7)])


def row_is_removed(plane: SimulatedPlane, row: AssetRow) -> None:
    plane.drop_row(row.asset)


def row_is_of_a_later_event(plane: SimulatedPlane, row: AssetRow) -> None:
    plane.put(replace(row, version=replace(row.version, offset=row.version.offset + 50)))


def row_is_of_an_earlier_event(plane: SimulatedPlane, row: AssetRow) -> None:
    plane.put(replace(row, version=replace(row.version, offset=row.version.offset - 1)))


def row_has_another_time(plane: SimulatedPlane, row: AssetRow) -> None:
    plane.put(replace(row, version=replace(row.version, timestamp_ms=row.version.timestamp_ms + 1)))


def row_counts_too_many(plane: SimulatedPlane, row: AssetRow) -> None:
    collection = COLLECTION_OF[row.asset.topic]
    plane.put(replace(row, counts={collection: row.counts.get(collection, 0) + 1}))


def row_counts_too_few(plane: SimulatedPlane, row: AssetRow) -> None:
    plane.put(replace(row, counts={collection: count - 1 for collection, count in row.counts.items() if count > 1}))


def row_has_another_outcome(plane: SimulatedPlane, row: AssetRow) -> None:
    other = Outcome.INDEXED if row.outcome is Outcome.DELETED else Outcome.DELETED
    plane.put(replace(row, outcome=other))


def row_has_no_event(plane: SimulatedPlane, row: AssetRow) -> None:
    plane.put(replace(row, asset=replace(row.asset, key="nobody"), counts={}))


OF_ENTRIES: tuple[Callable[[SimulatedPlane, Entry], None], ...] = (
    entry_is_removed,
    entry_is_doubled,
    entry_gets_another_id,
    entry_is_of_another_event,
    entry_is_of_another_asset,
    entry_is_of_another_tenant,
    entry_is_another_part,
)
OF_ROWS: tuple[Callable[[SimulatedPlane, AssetRow], None], ...] = (
    row_is_removed,
    row_is_of_a_later_event,
    row_is_of_an_earlier_event,
    row_has_another_time,
    row_counts_too_many,
    row_counts_too_few,
    row_has_another_outcome,
    row_has_no_event,
)


@given(HISTORIES, st.sampled_from(OF_ENTRIES), st.data())
@settings(max_examples=75, deadline=None)
def test_any_corruption_of_one_entry_is_found(
    history: list[Produced], corrupt: Callable[[SimulatedPlane, Entry], None], data: st.DataObject
) -> None:
    plane = simulated([*history, Produced(TEXT, "a", 0, b"3")])
    entries = [*plane.entries(Collection.TEXT), *plane.entries(Collection.IMAGE)]
    corrupt(plane, data.draw(st.sampled_from(entries)))
    assert not plane.audit().balanced


@given(HISTORIES, st.sampled_from(OF_ROWS), st.data())
@settings(max_examples=75, deadline=None)
def test_any_corruption_of_one_asset_row_is_found(
    history: list[Produced], corrupt: Callable[[SimulatedPlane, AssetRow], None], data: st.DataObject
) -> None:
    plane = simulated([*history, Produced(TEXT, "a", 0, b"3")])
    row = data.draw(st.sampled_from(plane.rows()))
    before = plane.rows()
    corrupt(plane, row)
    assert (plane.rows() == before) == plane.audit().balanced
