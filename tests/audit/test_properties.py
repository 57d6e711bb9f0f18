"""Random histories that an ingest plane settled balance; any one corruption of the store is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.records import AssetRow, Collection, Entry, Outcome, Position
from tests.audit.world import COLLECTION_OF, IMAGE, TEXT, World, kinds

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


def lived(history: list[Produced], *, settle_every: int = 4) -> World:
    """A world after these messages, everything settled and committed; every second dead letter is replayed."""
    world = World(PARTITIONS)
    rejected: list[tuple[Position, str]] = []
    for number, one in enumerate(history):
        if not one.key:
            world.broker.leave_gap(world.broker.partitions(one.topic)[one.partition], 1)
            continue
        position = world.produce(one.key, one.value, topic=one.topic, partition=one.partition)
        if one.value == b"bad":
            rejected.append((position, one.key))
        if number % settle_every == 0:
            world.ingest()
    world.ingest()
    for position, key in rejected[::2]:
        world.replay(position, b"2", key=key)
        world.ingest()
    return world


@given(HISTORIES)
@settings(max_examples=30, deadline=None)
def test_what_was_settled_by_the_rules_balances(history: list[Produced]) -> None:
    world = lived(history)
    report = world.audit()
    assert kinds(report) == {}
    assert report.produced == sum(bool(one.key) for one in history)
    ended = report.indexed + report.deleted + report.superseded + report.dead_lettered
    assert (ended, report.in_flight) == (report.produced, 0)
    assert report.assets == report.indexed + report.deleted == len(world.rows())


@given(HISTORIES, st.data())
@settings(max_examples=30, deadline=None)
def test_whatever_is_half_done_above_the_committed_offset_is_no_problem(
    history: list[Produced], data: st.DataObject
) -> None:
    """A writer may die after any of its steps, with any number of parts written or deleted."""
    world = lived(history)
    key, topic = data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from([TEXT, IMAGE]))
    count = data.draw(st.integers(0, 4))
    value = None if count == 0 else b"%d" % count
    event = world.event(world.produce(key, value, topic=topic, partition=data.draw(st.integers(0, PARTITIONS - 1))))
    row = world.row(event.asset)
    if row is not None and row.version.newer_than(event.version):
        return
    written = data.draw(st.integers(0, count))
    world.write_entries(event, written)
    if written == count:
        before = row.counts.get(COLLECTION_OF[topic], 0) if row else 0
        world.remove_entries(event.asset, beyond=data.draw(st.integers(count, max(count, before))))
    report = world.audit()
    assert kinds(report) == {}
    assert report.in_flight == 1


# ---- corruptions: each takes what there is and says whether it changed anything ----


def entry_goes(world: World, one: Entry) -> None:
    world.store.delete(one.collection, [one.id])


def entry_comes_twice(world: World, one: Entry) -> None:
    world.store.upsert(one.collection, [replace(one, id="f" * 32)])


def entry_gets_another_id(world: World, one: Entry) -> None:
    entry_goes(world, one)
    entry_comes_twice(world, one)


def entry_is_of_another_event(world: World, one: Entry) -> None:
    world.store.upsert(one.collection, [replace(one, origin=replace(one.origin, offset=one.origin.offset + 1))])


def entry_is_of_another_asset(world: World, one: Entry) -> None:
    entry_goes(world, one)
    world.store.upsert(one.collection, [replace(one, asset=replace(one.asset, key="nobody"))])


def entry_is_of_another_tenant(world: World, one: Entry) -> None:
    world.store.upsert(one.collection, [replace(one, asset=replace(one.asset, tenant="other"))])


def entry_is_another_part(world: World, one: Entry) -> None:
    world.store.upsert(one.collection, [replace(one, part=one.part + 7)])


def row_goes(world: World, row: AssetRow) -> None:
    world.drop_row(row.asset)


def row_is_of_a_later_event(world: World, row: AssetRow) -> None:
    world.put(replace(row, version=replace(row.version, offset=row.version.offset + 50)))


def row_is_of_an_earlier_event(world: World, row: AssetRow) -> None:
    world.put(replace(row, version=replace(row.version, offset=row.version.offset - 1)))


def row_has_another_time(world: World, row: AssetRow) -> None:
    world.put(replace(row, version=replace(row.version, timestamp_ms=row.version.timestamp_ms + 1)))


def row_tells_of_one_more(world: World, row: AssetRow) -> None:
    collection = COLLECTION_OF[row.asset.topic]
    world.put(replace(row, counts={collection: row.counts.get(collection, 0) + 1}))


def row_tells_of_one_less(world: World, row: AssetRow) -> None:
    world.put(replace(row, counts={found: count - 1 for found, count in row.counts.items() if count > 1}))


def row_has_another_outcome(world: World, row: AssetRow) -> None:
    other = Outcome.INDEXED if row.outcome is Outcome.DELETED else Outcome.DELETED
    world.put(replace(row, outcome=other))


def row_comes_from_nowhere(world: World, row: AssetRow) -> None:
    world.put(replace(row, asset=replace(row.asset, key="nobody"), counts={}))


OF_ENTRIES: tuple[Callable[[World, Entry], None], ...] = (
    entry_goes,
    entry_comes_twice,
    entry_gets_another_id,
    entry_is_of_another_event,
    entry_is_of_another_asset,
    entry_is_of_another_tenant,
    entry_is_another_part,
)
OF_ROWS: tuple[Callable[[World, AssetRow], None], ...] = (
    row_goes,
    row_is_of_a_later_event,
    row_is_of_an_earlier_event,
    row_has_another_time,
    row_tells_of_one_more,
    row_tells_of_one_less,
    row_has_another_outcome,
    row_comes_from_nowhere,
)


@given(HISTORIES, st.sampled_from(OF_ENTRIES), st.data())
@settings(max_examples=75, deadline=None)
def test_any_corruption_of_one_entry_is_found(
    history: list[Produced], corrupt: Callable[[World, Entry], None], data: st.DataObject
) -> None:
    world = lived([*history, Produced(TEXT, "a", 0, b"3")])
    entries = [*world.entries(Collection.TEXT), *world.entries(Collection.IMAGE)]
    corrupt(world, data.draw(st.sampled_from(entries)))
    assert not world.audit().balanced


@given(HISTORIES, st.sampled_from(OF_ROWS), st.data())
@settings(max_examples=75, deadline=None)
def test_any_corruption_of_one_asset_row_is_found(
    history: list[Produced], corrupt: Callable[[World, AssetRow], None], data: st.DataObject
) -> None:
    world = lived([*history, Produced(TEXT, "a", 0, b"3")])
    row = data.draw(st.sampled_from(world.rows()))
    before = world.rows()
    corrupt(world, row)
    assert (world.rows() == before) == world.audit().balanced
