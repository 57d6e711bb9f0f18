"""A copy through a transform has every row and entry of the old version; what came since follows from the topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.broker.base import Partition
from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.transform import linear_transform
from penstock.ingest.reindex import copying
from penstock.ingest.reindex.copying import Copier, read_offsets
from penstock.ingest.reindex.filling import StoppedFillError
from penstock.records import AssetRow, Collection, Entry, Field, Outcome
from penstock.store.base import VectorSpec
from penstock.store.memory import MemoryStore
from tests.ingest.doubles import DIM, SPEC
from tests.ingest.lane.harness import running
from tests.ingest.reindex.twin import NEW_GROUP, TwinPlant

TURN = linear_transform(np.roll(np.eye(DIM, dtype=np.float32), 1, axis=1))
VECTORS = {
    Collection.TEXT: {Field.PASSAGE: VectorSpec(Space("turned", DIM), Fingerprint("turned", "0" * 16, "0" * 16))}
}


@pytest.fixture
def plant(tmp_path: Path) -> TwinPlant:
    plant = TwinPlant(tmp_path / "assets")
    plant.new = MemoryStore()
    plant.new.ensure(replace(SPEC, version=2, vectors=VECTORS))
    return plant


def copier(plant: TwinPlant, *, old: object = None, stops_after: int | None = None) -> Copier:
    pages = iter(range(1_000_000))

    def begin(offsets: Mapping[Partition, int]) -> None:
        plant.broker.group(NEW_GROUP).committed.update(offsets)

    return Copier(
        old=old or plant.store,  # type: ignore[arg-type]
        new=plant.new,
        collections=[Collection.TEXT],
        transform_of=lambda _collection, field: TURN if field is Field.PASSAGE else None,
        live_lag=plant.lag,
        begin_at=begin,
        notes=plant.assets,
        pause=lambda _: next(pages) == stops_after,
        wall_ms=lambda: 7,
    )


def check_same(plant: TwinPlant) -> None:
    """Checks that both versions have the same rows and entries, with the vectors turned."""
    assert plant.rows_new() == plant.rows_old()
    for key, entries in plant.entries_new().items():
        for entry in entries:
            (before,) = plant.store.get(Collection.TEXT, [entry.id])
            assert replace(entry, vectors={}) == replace(before, vectors={}), key
            turned = TURN.apply(before.vectors[Field.PASSAGE][None])[0]
            np.testing.assert_allclose(entry.vectors[Field.PASSAGE], turned, atol=1e-6)
    assert plant.store.count(Collection.TEXT) == plant.new.count(Collection.TEXT)


def fill_old(plant: TwinPlant) -> None:
    for number in range(30):
        plant.append(f"k{number}", f"parts:{1 + number % 3}".encode())
    plant.append("deleted", b"v")
    plant.append("bad", b"bad")
    with running(plant.started()):
        plant.settled()
        plant.append("deleted", None)
        plant.settled()


def test_rows_and_entries_are_copied_with_their_vectors_turned_and_no_media_are_read(plant: TwinPlant) -> None:
    fill_old(plant)
    decoded = list(plant.media.decoded)
    copier(plant).copy()
    check_same(plant)
    assert plant.rows_new()["deleted"].outcome is Outcome.DELETED
    assert (plant.media.decoded, plant.new_media.decoded) == (decoded, [])
    with running(plant.started_new()):
        plant.settled_new()
    assert plant.new_media.decoded == []  # nothing is below the noted offsets that the group has not
    assert plant.audit_new().balanced


def test_events_that_come_during_the_copy_follow_from_the_topics(plant: TwinPlant) -> None:
    fill_old(plant)

    class Meanwhile(MemoryStore):
        """Has events settled in the old version between the note of the offsets and the first page."""

        def scan_asset_rows(self, **options: object) -> object:  # type: ignore[override]
            with running(plant.started()):
                plant.append("k1", b"parts:1")
                plant.append("k2", None)
                plant.append("since", b"v")
                plant.settled()
            return plant.store.scan_asset_rows(**options)  # type: ignore[arg-type]

        def __getattribute__(self, name: str) -> object:
            own = name in ("scan_asset_rows", "__class__")
            return object.__getattribute__(self, name) if own else getattr(plant.store, name)

    copier(plant, old=Meanwhile()).copy()
    with running(plant.started_new()):
        plant.settled_new()
        plant.filler().fill()
    assert {key: row.version for key, row in plant.rows_new().items()} == {
        key: row.version for key, row in plant.rows_old().items()
    }
    assert plant.audit_new().balanced


@pytest.mark.parametrize("stops_after", range(7))
def test_a_copy_that_ended_anywhere_is_continued_although_assets_change(
    plant: TwinPlant, stops_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_PAGE", 5)
    fill_old(plant)
    with pytest.raises(StoppedFillError):
        copier(plant, stops_after=stops_after).copy()
    offsets = read_offsets(plant.assets)
    with running(plant.started()):
        for number in range(0, 30, 3):
            plant.append(f"k{number}", b"parts:1")
        plant.settled()
    copier(plant).copy()
    assert plant.broker.committed(NEW_GROUP) == offsets  # those of before the first page
    assert read_offsets(plant.assets) == {}
    copier(plant).copy()  # changes nothing any more
    with running(plant.started_new()):
        plant.settled_new()
    assert {key: row.version for key, row in plant.rows_new().items()} == {
        key: row.version for key, row in plant.rows_old().items()
    }
    assert plant.store.count(Collection.TEXT) == plant.new.count(Collection.TEXT)
    assert plant.audit_new().balanced


def test_no_more_than_two_thousand_entries_are_held_at_a_time(plant: TwinPlant) -> None:
    for number in range(8):
        plant.append(f"k{number}", b"parts:300")
    with running(plant.started()):
        plant.settled()
    written: list[int] = []

    class Counted(MemoryStore):
        def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
            written.append(len(entries))
            super().upsert(collection, entries)

    plant.new = Counted()
    plant.new.ensure(replace(SPEC, version=2, vectors=VECTORS))
    copier(plant).copy()
    assert written == [1_800, 600]
    check_same(plant)


def test_an_asset_whose_entries_are_being_replaced_is_left_to_its_event(plant: TwinPlant) -> None:
    fill_old(plant)
    row = plant.rows_old()["k1"]

    class Torn:
        """Shows the entries of a newer event under the row of the older one."""

        def scan_asset_rows(self, *, batch: int) -> Sequence[Sequence[AssetRow]]:
            del batch
            return [[row]]

        def get(self, collection: Collection, ids: Sequence[str]) -> object:
            newer = replace(row.origin, offset=row.origin.offset + 1)
            return [replace(entry, origin=newer) for entry in plant.store.get(collection, ids)]

        def count_assets(self) -> int:
            return 1

    copier(plant, old=Torn()).copy()
    assert plant.rows_new() == {}
    assert plant.new.count(Collection.TEXT) == 0
