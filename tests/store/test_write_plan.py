"""Media too long to be written at once: slice after slice, beside an older version that stays whole until the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from penstock.encoders.base import Fingerprint, Space
from penstock.errors import UnavailableError
from penstock.records import (
    Assignment,
    Checkpoint,
    ClaimCheck,
    Collection,
    Continues,
    Decoded,
    Encoded,
    Event,
    Fenced,
    Field,
    MediaPosition,
    Modality,
    Outcome,
    PendingEntry,
    Settled,
    WriteResult,
    part_id,
)
from penstock.store.base import IndexSpec, VectorSpec
from penstock.store.memory import MemoryStore
from penstock.store.write_plan import ABANDONED_AFTER_MS
from penstock.store.writer import Writer, WriteRequest
from tests.ingest.builders import event
from tests.store.scans import all_entries

TOPIC, ROLE, SPEECH = "media.audio", "passage.text", Collection.SPEECH
SPEC = IndexSpec(
    {SPEECH: {Field.PASSAGE: VectorSpec(Space("test", 2), Fingerprint("test", "0" * 16, "0" * 16))}},
    {SPEECH: "test"},
    version=1,
    num_shards=1,
)
REQUEST = WriteRequest("lane", (Assignment(TOPIC, 0, 5),))


class House:
    """A store and a writer, restarted at will."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.ensure(SPEC)
        self.now_ms = 5_000
        self.restart()

    def restart(self) -> None:
        self.writer = Writer(self.store, wall_ms=lambda: self.now_ms)
        self.writer.start(())

    def write(self, one: Event, texts: Sequence[str], *, before: int = 0, last: bool = True) -> WriteResult:
        """A slice: so many entries come before it. Of the whole of a short medium no progress is told."""
        begins = self._place(one) if before else MediaPosition()
        decoded, vectors = self.slice_of(one, texts, before=before, begins=begins, last=last)
        if not before and last:
            decoded = replace(decoded, checkpoints=())
        [settled] = self.writer.write(BOTH, decoded, vectors)
        return settled

    def slice_of(
        self, one: Event, texts: Sequence[str], *, begins: MediaPosition, before: int = 0, last: bool = False
    ) -> tuple[Decoded, Encoded]:
        uri = f"asset:{one.position.offset}"
        plain = replace(one, payload=ClaimCheck(uri))
        drafts = tuple(
            PendingEntry(
                plain, SPEECH, before + number, "audio/mpeg", uri, text, vectors=((Field.PASSAGE, ROLE, number),)
            )
            for number, text in enumerate(texts)
        )
        count = before + len(texts)
        place = MediaPosition(10 * count, 0, 20 * count + 1)
        counts = {SPEECH: count}
        told = Checkpoint(one.asset, one.version, place, counts, "settings", uri, start=begins, finished=last)
        vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (len(texts), 1))
        return Decoded((plain,), (), drafts, (), (told,)), Encoded(ROLE, vectors)

    def _place(self, one: Event) -> MediaPosition:
        """Where the slices of an event are, as its owner was told."""
        [known] = self.writer.lookup(BOTH, [one])[1]
        return known.position

    def found(self) -> list[tuple[int, int, str]]:
        """(offset of the event, part, text) of all entries."""
        return sorted((one.origin.offset, one.part, one.text) for one in all_entries(self.store, SPEECH))


def film(offset: int) -> Event:
    return replace(event(offset, "film", topic=TOPIC), modality=Modality.AUDIO)


@pytest.fixture
def house() -> House:
    return House()


def test_slices_make_one_asset_whose_row_comes_with_the_last(house: House) -> None:
    one = film(3)
    assert house.write(one, ["a", "b"], last=False) == Continues(one.position, MediaPosition(20, 0, 41))
    assert not house.store.asset_rows([one.asset.id])
    assert isinstance(house.write(one, ["c"], before=2, last=False), Continues)
    assert house.write(one, ["d"], before=3) == Settled(one.position, Outcome.INDEXED)
    row = house.store.asset_rows([one.asset.id])[one.asset.id]
    assert (row.version, row.counts, row.slot) == (one.version, {SPEECH: 4}, 0)
    assert house.found() == [(3, 0, "a"), (3, 1, "b"), (3, 2, "c"), (3, 3, "d")]
    assert not house.store.checkpoints([one.asset.id])


def test_an_older_version_stays_whole_until_the_last_slice(house: House) -> None:
    old, new = film(3), film(8)
    house.write(old, ["old a", "old b", "old c"])
    house.write(new, ["a"], last=False)
    house.write(new, ["b"], before=1, last=False)
    assert [text for offset, _, text in house.found() if offset == 3] == ["old a", "old b", "old c"]
    house.write(new, [], before=2)
    assert house.found() == [(8, 0, "a"), (8, 1, "b")]
    row = house.store.asset_rows([new.asset.id])[new.asset.id]
    assert (row.version, row.slot) == (new.version, 1)
    ids = house.store.entry_ids(SPEECH, [new.asset.id])[new.asset.id]
    assert ids == {part_id(new.asset.id, SPEECH, part, 1) for part in range(2)}


def test_a_third_version_takes_the_first_space_again_and_a_short_one_always(house: House) -> None:
    for offset in (3, 8, 9):
        house.write(film(offset), ["a"], last=False)
        house.write(film(offset), ["b"], before=1)
    assert house.store.asset_rows([film(9).asset.id])[film(9).asset.id].slot == 0
    house.write(film(11), ["a"], last=False)
    house.write(film(11), ["b"], before=1)
    house.write(film(12), ["short"])
    assert house.store.asset_rows([film(12).asset.id])[film(12).asset.id].slot == 0
    assert house.found() == [(12, 0, "short")]


def test_a_restarted_writer_goes_on_in_the_same_space(house: House) -> None:
    house.write(film(3), ["old"])
    house.write(film(8), ["a"], last=False)
    house.restart()
    settled, known = house.writer.lookup(REQUEST, [film(8)])
    assert settled == ()
    assert [(one.version, one.counts, one.slot, one.settings_hash) for one in known] == [
        (film(8).version, {SPEECH: 1}, 1, "settings")
    ]
    house.write(film(8), ["b"], before=1)
    assert house.found() == [(8, 0, "a"), (8, 1, "b")]


def test_what_a_writer_that_died_at_the_very_end_left_is_dropped_when_the_film_comes_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(asset_ids: object) -> None:
        raise UnavailableError("the writer died")

    house.write(film(8), ["a"], last=False)
    with monkeypatch.context() as patched:
        patched.setattr(house.store, "drop_checkpoints", dies)
        with pytest.raises(UnavailableError):
            house.write(film(8), ["b"], before=1)
    assert house.store.checkpoints([film(8).asset.id])
    [settled] = house.writer.lookup(REQUEST, [film(8)])[0]
    assert settled == Settled(settled.position, Outcome.INDEXED)
    assert not house.store.checkpoints([film(8).asset.id])


def test_a_newer_film_under_way_is_not_forgotten_when_an_older_one_comes_again(house: House) -> None:
    house.write(film(3), ["old"])
    house.write(film(8), ["a"], last=False)
    [settled] = house.writer.lookup(REQUEST, [film(3)])[0]
    assert settled == Settled(settled.position, Outcome.INDEXED)
    assert house.store.checkpoints([film(8).asset.id])


def test_a_slice_that_was_written_but_not_noted_is_written_again_with_the_same_ids(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(progress: object) -> None:
        raise UnavailableError("the answer was lost")

    house.write(film(8), ["a"], last=False)
    with monkeypatch.context() as patched:
        patched.setattr(house.store, "put_checkpoints", fails)
        with pytest.raises(UnavailableError):
            house.write(film(8), ["b", "c", "d"], before=1, last=False)
    house.write(film(8), ["b", "c"], before=1, last=False)
    house.write(film(8), ["e"], before=3)
    assert [text for _, _, text in house.found()] == ["a", "b", "c", "e"]


def test_a_slice_whose_entries_were_not_written_is_not_noted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(collection: object, entries: object) -> None:
        raise UnavailableError("away")

    house.write(film(8), ["a"], last=False)
    with monkeypatch.context() as patched:
        patched.setattr(house.store, "upsert", fails)
        with pytest.raises(UnavailableError):
            house.write(film(8), ["b"], before=1, last=False)
    house.restart()
    [known] = house.writer.lookup(REQUEST, [film(8)])[1]
    assert known.counts == {SPEECH: 1}


def test_entries_of_an_attempt_that_cut_otherwise_are_gone_in_the_end(house: House) -> None:
    house.write(film(8), ["a", "b", "c", "d"], last=False)
    house.write(film(8), ["A"], last=False)  # begun anew, under other settings
    house.write(film(8), ["B"], before=1)
    assert house.found() == [(8, 0, "A"), (8, 1, "B")]


@pytest.mark.parametrize("newer", ["tombstone", "short version"])
def test_a_newer_event_takes_the_place_of_one_left_in_the_midst(newer: str, house: House) -> None:
    house.write(film(3), ["old"])
    house.write(film(8), ["a", "b"], last=False)
    house.restart()
    if newer == "tombstone":
        gone = replace(film(9), payload=None)
        [settled] = house.writer.write(REQUEST, Decoded((), (gone,), (), ()))
        assert settled == Settled(settled.position, Outcome.DELETED)
        assert house.found() == []
    else:
        house.write(film(9), ["new"])
        assert house.found() == [(9, 0, "new")]
    assert not house.store.checkpoints([film(9).asset.id])


def test_what_is_settled_already_is_known_before_anything_is_done(house: House) -> None:
    house.write(film(8), ["a"])
    other = replace(event(2, "other", topic=TOPIC), modality=Modality.AUDIO)
    settled, known = house.writer.lookup(REQUEST, [film(8), other])
    assert settled == (Settled(film(8).position, Outcome.INDEXED),)
    assert not known
    settled, _ = house.writer.lookup(REQUEST, [film(3)])
    assert settled == (Settled(film(3).position, Outcome.SUPERSEDED),)


def test_progress_of_another_version_is_not_gone_on_from(house: House) -> None:
    house.write(film(8), ["a"], last=False)
    assert house.writer.lookup(REQUEST, [film(9)]) == ((), ())


def test_who_lost_the_partition_is_told_nothing_else(house: House) -> None:
    house.writer.start([Assignment(TOPIC, 0, 6)])
    assert house.writer.lookup(REQUEST, [film(8)]) == ((Fenced(film(8).position),), ())


def test_a_rejected_film_leaves_nothing_behind(house: House) -> None:
    house.write(film(8), ["a"], last=False)
    house.writer.retract(REQUEST, [film(8)])
    assert house.found() == []
    assert not house.store.checkpoints([film(8).asset.id])


def test_a_rejected_film_leaves_its_older_version_as_it_was(house: House) -> None:
    house.write(film(3), ["old a", "old b"])
    house.write(film(8), ["a"], last=False)
    house.write(film(8), ["b", "c"], before=1, last=False)
    house.writer.retract(REQUEST, [film(8)])
    assert house.found() == [(3, 0, "old a"), (3, 1, "old b")]
    assert not house.store.checkpoints([film(8).asset.id])
    house.write(film(9), ["new"], last=False)
    assert house.found() == [(3, 0, "old a"), (3, 1, "old b"), (9, 0, "new")]


def test_media_of_a_film_under_way_are_referred_to(house: House) -> None:
    house.write(film(3), ["old"])
    house.write(film(8), ["a"], last=False)
    assert {uri for page in house.store.scan_media() for uri in page} == {"asset:3", "asset:8"}


# --- two versions at once ---------------------------------------------------------------------------------------------
# Of one partition the older one is delivered first, and is settled when the newer is begun, but for a redelivery where
# it is rejected; of two partitions either may be first. The timestamps of `film` rise with the offset.


def elsewhere(offset: int) -> Event:
    """A version of the same asset from another partition, older or newer by its timestamp."""
    one = film(offset)
    position = replace(one.position, partition=1)
    return replace(one, position=position, origin=position)


BOTH = WriteRequest("lane", (Assignment(TOPIC, 0, 5), Assignment(TOPIC, 1, 5)))


def test_an_older_event_that_is_rejected_takes_nothing_of_a_film_under_way(house: House) -> None:
    house.write(film(8), ["a"], last=False)
    house.write(film(8), ["b"], before=1, last=False)
    house.writer.retract(BOTH, [film(3)])
    house.writer.retract(BOTH, [elsewhere(4)])
    house.write(film(8), ["c"], before=2)
    assert house.found() == [(8, 0, "a"), (8, 1, "b"), (8, 2, "c")]


@pytest.mark.parametrize("gone", [True, False])
def test_an_older_event_is_written_beside_a_film_under_way(gone: bool, house: House) -> None:
    house.write(film(8), ["a"], last=False)
    house.write(film(8), ["b"], before=1, last=False)
    if gone:
        tombstone = replace(elsewhere(4), payload=None)
        [settled] = house.writer.write(BOTH, Decoded((), (tombstone,), (), ()))
        assert settled == Settled(settled.position, Outcome.DELETED)
    else:
        assert house.write(elsewhere(4), ["older"]) == Settled(elsewhere(4).position, Outcome.INDEXED)
        assert (4, 0, "older") in house.found()
    house.write(film(8), ["c"], before=2)
    assert house.found() == [(8, 0, "a"), (8, 1, "b"), (8, 2, "c")]
    row = house.store.asset_rows([film(8).asset.id])[film(8).asset.id]
    assert (row.version, row.counts) == (film(8).version, {SPEECH: 3})


def test_an_older_film_waits_for_the_newer_and_is_superseded(house: House) -> None:
    house.write(elsewhere(4), ["old a"], last=False)
    house.write(film(8), ["a"], last=False)
    assert house.writer.lookup(BOTH, [elsewhere(4)]) == (
        (Continues(elsewhere(4).position, MediaPosition()),),
        (),
    )
    house.write(film(8), ["b"], before=1)
    settled, _ = house.writer.lookup(BOTH, [elsewhere(4)])
    assert settled == (Settled(elsewhere(4).position, Outcome.SUPERSEDED),)
    assert house.found() == [(8, 0, "a"), (8, 1, "b")]


def test_a_slice_made_before_a_newer_version_came_is_not_written(house: House) -> None:
    house.write(elsewhere(4), ["old a"], last=False)
    place = house.store.checkpoints([film(8).asset.id])[film(8).asset.id].position
    house.write(film(8), ["a"], last=False)
    late = house.slice_of(elsewhere(4), ["old b"], begins=place)
    [settled] = house.writer.write(BOTH, *late)
    assert settled == Continues(elsewhere(4).position, MediaPosition())
    house.write(film(8), ["b"], before=1)
    assert house.found() == [(8, 0, "a"), (8, 1, "b")]


def test_an_older_film_is_begun_anew_once_the_newer_is_rejected(house: House) -> None:
    house.write(elsewhere(4), ["old a"], last=False)
    house.write(film(8), ["a", "b"], last=False)
    house.writer.retract(BOTH, [film(8)])
    assert house.writer.lookup(BOTH, [elsewhere(4)]) == ((), ())
    house.write(elsewhere(4), ["old a"], last=False)
    house.write(elsewhere(4), ["old b"], before=1)
    assert house.found() == [(4, 0, "old a"), (4, 1, "old b")]


def test_a_newer_version_that_is_abandoned_keeps_nobody_waiting(house: House) -> None:
    house.write(film(8), ["a"], last=False)
    house.now_ms += ABANDONED_AFTER_MS
    assert house.writer.lookup(BOTH, [elsewhere(4)]) == ((), ())
    house.write(elsewhere(4), ["old a"], last=False)
    house.write(elsewhere(4), ["old b"], before=1)
    assert house.found() == [(4, 0, "old a"), (4, 1, "old b")]


def test_a_slice_goes_on_from_what_is_there_or_not_at_all(house: House) -> None:
    house.write(film(8), ["a"], last=False)
    stands = house.store.checkpoints([film(8).asset.id])[film(8).asset.id].position
    [settled] = house.writer.write(BOTH, *house.slice_of(film(8), ["x", "y"], begins=MediaPosition(7, 7, 7)))
    assert settled == Continues(film(8).position, stands)
    assert house.found() == [(8, 0, "a")]


def test_slices_that_were_not_noted_go_with_their_rejected_film(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(progress: object) -> None:
        raise UnavailableError("the writer died")

    house.write(film(3), ["old"])
    with monkeypatch.context() as patched:
        patched.setattr(house.store, "put_checkpoints", fails)
        with pytest.raises(UnavailableError):
            house.write(film(8), ["a", "b"], last=False)
    house.writer.retract(REQUEST, [film(8)])
    assert house.found() == [(3, 0, "old")]
