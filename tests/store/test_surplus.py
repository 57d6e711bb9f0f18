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


class Watched(MemoryStore):
    """Notes what it was asked for by asset."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[Collection] = []

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        self.looked_up.append(collection)
        return super().entry_ids(collection, asset_ids)


@pytest.fixture
def store() -> Watched:
    made = Watched()
    made.ensure(spec())
    return made


@pytest.fixture
def writer(store: Watched) -> Writer:
    made = Writer(store, wall_ms=lambda: 1_700_000_000_000)
    made.start(REQUEST.assignments)
    return made


def event(offset: int, modality: Modality = Modality.IMAGE, *, key: str = "k", deleted: bool = False) -> Event:
    position = Position(TOPIC, 0, offset)
    payload = None if deleted else ClaimCheck("asset:00ff")
    return Event(AssetRef("default", TOPIC, key), position, position, 1_000 + offset, modality, payload)


def with_parts(one: Event, collection: Collection, parts: int) -> tuple[Decoded, Encoded]:
    vectors = np.eye(parts, DIM, dtype=np.float32)
    drafts = [
        PendingEntry(one, collection, part, "image/png", "asset:00ff", vectors=((Field.JOINT, "joint.image", part),))
        for part in range(parts)
    ]
    return Decoded((one,), (), tuple(drafts), ()), Encoded("joint.image", vectors)


def test_what_can_have_one_entry_only_is_never_looked_up(store: Watched, writer: Writer) -> None:
    for offset in range(3):
        (settled,) = writer.write(REQUEST, *with_parts(event(offset), Collection.IMAGE, 1))
        assert settled == Settled(settled.position, Outcome.INDEXED)
    assert store.count(Collection.IMAGE) == 1
    assert store.looked_up == []


def test_what_can_have_several_is(store: Watched, writer: Writer) -> None:
    writer.write(REQUEST, *with_parts(event(0, Modality.TEXT), Collection.TEXT, 3))
    writer.write(REQUEST, *with_parts(event(1, Modality.TEXT), Collection.TEXT, 1))
    assert store.count(Collection.TEXT) == 1
    assert store.looked_up == [Collection.TEXT, Collection.TEXT]


def test_a_tombstone_removes_an_entry_that_a_crash_left_without_a_row(store: Watched, writer: Writer) -> None:
    gone = event(5, deleted=True)
    store.upsert(Collection.IMAGE, [entry(gone.asset)])

    (settled,) = writer.write(REQUEST, Decoded((), (gone,), (), ()))

    assert settled == Settled(settled.position, Outcome.DELETED)
    assert store.count(Collection.IMAGE) == 0


def test_a_second_entry_where_there_can_be_one_is_refused_before_anything_is_written(
    store: Watched, writer: Writer
) -> None:
    with pytest.raises(PermanentError, match="more than one entry in image"):
        writer.write(REQUEST, *with_parts(event(0), Collection.IMAGE, 2))
    assert store.count(Collection.IMAGE) == 0
