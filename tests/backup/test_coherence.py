from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.backup.coherence import Coherence, UnfitAsset
from penstock.records import AssetRow, Collection, Entry, Outcome, Position, entry_id
from tests.store.builders import asset, asset_row, entry

ASSET = asset()


@pytest.fixture
def coherence(tmp_path: Path) -> Iterator[Coherence]:
    opened = Coherence(tmp_path / "read.sqlite")
    yield opened
    opened.close()


def row(*, entries: int = 2, slot: int = 0, offset: int = 7) -> AssetRow:
    return replace(asset_row(ASSET, entries=entries, offset=offset), slot=slot)


def part(number: int, *, offset: int = 7, slot: int = 0, partition: int = 1) -> Entry:
    written = entry(ASSET, number)
    return replace(
        written,
        id=entry_id(ASSET, Collection.IMAGE, number, slot),
        origin=Position(ASSET.topic, partition, offset),
    )


def test_an_asset_with_the_entries_that_its_row_counts_fits(coherence: Coherence) -> None:
    coherence.add_rows([row(), replace(asset_row(asset(key="gone"), entries=0), outcome=Outcome.DELETED)])
    coherence.add_entries([part(0), part(1)])
    coherence.complete()
    assert list(coherence.unfit()) == []
    assert list(coherence.strangers()) == []


def test_an_asset_of_which_a_later_event_has_changed_entries_is_unfit(coherence: Coherence) -> None:
    coherence.add_rows([row()])
    coherence.add_entries([part(0, offset=9), part(1)])
    coherence.complete()
    assert list(coherence.unfit()) == [UnfitAsset(ASSET.id, 1, 7, has_newer=True)]
    assert list(coherence.strangers()) == [part(0).id]


def test_an_older_entry_in_its_place_is_no_sign_of_a_later_event(coherence: Coherence) -> None:
    coherence.add_rows([row()])
    coherence.add_entries([part(0), part(1, offset=3)])
    coherence.complete()
    assert [asset.has_newer for asset in coherence.unfit()] == [False]


def test_an_event_of_another_partition_counts_as_later(coherence: Coherence) -> None:
    coherence.add_rows([row()])
    coherence.add_entries([part(0), part(1, offset=3, partition=0)])
    coherence.complete()
    assert [asset.has_newer for asset in coherence.unfit()] == [True]


def test_segments_of_a_later_event_leave_the_asset_fit(coherence: Coherence) -> None:
    coherence.add_rows([row()])
    coherence.add_entries([part(0), part(1), part(0, offset=9, slot=1), part(1, offset=9, slot=1)])
    coherence.complete()
    assert list(coherence.unfit()) == []
    assert set(coherence.strangers()) == {entry_id(ASSET, Collection.IMAGE, number, 1) for number in (0, 1)}


def test_entries_in_the_other_slot_than_their_row_says_do_not_count(coherence: Coherence) -> None:
    coherence.add_rows([row(slot=1)])
    coherence.add_entries([part(0), part(1)])
    coherence.complete()
    assert [asset.asset_id for asset in coherence.unfit()] == [ASSET.id]


def test_entries_without_a_row_are_strangers(coherence: Coherence) -> None:
    coherence.add_entries([part(0)])
    coherence.complete()
    assert list(coherence.unfit()) == []
    assert list(coherence.strangers()) == [part(0).id]
