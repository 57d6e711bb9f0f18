"""Tests which entries a writer deletes, and what it looks up to find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from penstock.errors import PermanentError
from penstock.records import (
    AssetRef,
    Assignment,
    ClaimCheck,
    Collection,
    Decoded,
    Encoded,
    Event,
    Field,
    Modality,
    Outcome,
    PendingEntry,
    Position,
    Settled,
)
from penstock.store.memory import MemoryStore
from penstock.store.writer import Writer, WriteRequest
from tests.store.builders import DIM, entry, spec

TOPIC = "media.image"
REQUEST = WriteRequest("lane-0", (Assignment(TOPIC, 0, 1),))


class RecordingStore(MemoryStore):
    """Records the collections in which entries are looked up by asset."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[Collection] = []

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        self.looked_up.append(collection)
        return super().entry_ids(collection, asset_ids)


@pytest.fixture
def store() -> RecordingStore:
    memory = RecordingStore()
    memory.ensure(spec())
    return memory


@pytest.fixture
def writer(store: RecordingStore) -> Writer:
    started = Writer(store, wall_ms=lambda: 1_700_000_000_000)
    started.start(REQUEST.assignments)
    return started


def event(offset: int, modality: Modality = Modality.IMAGE, *, key: str = "k", deleted: bool = False) -> Event:
    position = Position(TOPIC, 0, offset)
    payload = None if deleted else ClaimCheck("asset:00ff")
    return Event(AssetRef("default", TOPIC, key), position, position, 1_000 + offset, modality, payload)


def with_parts(source: Event, collection: Collection, parts: int) -> tuple[Decoded, Encoded]:
    vectors = np.eye(parts, DIM, dtype=np.float32)
    pending = [
        PendingEntry(source, collection, part, "image/png", "asset:00ff", vectors=((Field.JOINT, "joint.image", part),))
        for part in range(parts)
    ]
    return Decoded((source,), (), tuple(pending), ()), Encoded("joint.image", vectors)


def test_a_collection_with_one_entry_per_asset_is_never_looked_up(store: RecordingStore, writer: Writer) -> None:
    for offset in range(3):
        (settled,) = writer.write(REQUEST, *with_parts(event(offset), Collection.IMAGE, 1))
        assert settled == Settled(settled.position, Outcome.INDEXED)
    assert store.count(Collection.IMAGE) == 1
    assert store.looked_up == []


def test_a_collection_with_several_entries_per_asset_is_looked_up(store: RecordingStore, writer: Writer) -> None:
    writer.write(REQUEST, *with_parts(event(0, Modality.TEXT), Collection.TEXT, 3))
    writer.write(REQUEST, *with_parts(event(1, Modality.TEXT), Collection.TEXT, 1))
    assert store.count(Collection.TEXT) == 1
    assert store.looked_up == [Collection.TEXT, Collection.TEXT]


def test_a_tombstone_removes_an_entry_that_a_crash_left_without_a_row(store: RecordingStore, writer: Writer) -> None:
    tombstone = event(5, deleted=True)
    store.upsert(Collection.IMAGE, [entry(tombstone.asset)])

    (settled,) = writer.write(REQUEST, Decoded((), (tombstone,), (), ()))

    assert settled == Settled(settled.position, Outcome.DELETED)
    assert store.count(Collection.IMAGE) == 0


def test_a_second_entry_in_a_single_entry_collection_is_refused_before_any_write(
    store: RecordingStore, writer: Writer
) -> None:
    with pytest.raises(PermanentError, match="more than one entry in image"):
        writer.write(REQUEST, *with_parts(event(0), Collection.IMAGE, 2))
    assert store.count(Collection.IMAGE) == 0
