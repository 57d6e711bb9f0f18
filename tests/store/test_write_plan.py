"""Timed media that take several segments, beside an older version that stays whole until the last segment."""

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


class Harness:
    """A store and a writer, which can be restarted."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.ensure(SPEC)
        self.now_ms = 5_000
        self.restart()

    def restart(self) -> None:
        self.writer = Writer(self.store, wall_ms=lambda: self.now_ms)
        self.writer.start(())

    def write(self, timed: Event, texts: Sequence[str], *, before: int = 0, last: bool = True) -> WriteResult:
        """Writes a segment after `before` entries. Short media, a single segment, have no checkpoint."""
        start = self._position(timed) if before else MediaPosition()
        decoded, vectors = self.segment(timed, texts, before=before, start=start, last=last)
        if not before and last:
            decoded = replace(decoded, checkpoints=())
        [result] = self.writer.write(BOTH, decoded, vectors)
        return result

    def segment(
        self, timed: Event, texts: Sequence[str], *, start: MediaPosition, before: int = 0, last: bool = False
    ) -> tuple[Decoded, Encoded]:
        uri = f"asset:{timed.position.offset}"
        stripped = replace(timed, payload=ClaimCheck(uri))
        pending = tuple(
            PendingEntry(
                stripped, SPEECH, before + number, "audio/mpeg", uri, text, vectors=((Field.PASSAGE, ROLE, number),)
            )
            for number, text in enumerate(texts)
        )
        count = before + len(texts)
        end = MediaPosition(10 * count, 0, 20 * count + 1)
        counts = {SPEECH: count}
        checkpoint = Checkpoint(timed.asset, timed.version, end, counts, "settings", uri, start=start, finished=last)
        vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (len(texts), 1))
        return Decoded((stripped,), (), pending, (), (checkpoint,)), Encoded(ROLE, vectors)

    def _position(self, timed: Event) -> MediaPosition:
        """Returns the position of an event's checkpoint, as its lane looks it up."""
        [checkpoint] = self.writer.lookup(BOTH, [timed])[1]
        return checkpoint.position

    def entries(self) -> list[tuple[int, int, str]]:
        """Returns (offset of the event, part, text) of all entries."""
        return sorted((entry.origin.offset, entry.part, entry.text) for entry in all_entries(self.store, SPEECH))


def talk(offset: int) -> Event:
    return replace(event(offset, "talk", topic=TOPIC), modality=Modality.AUDIO)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_segments_make_one_asset_whose_row_is_written_with_the_last(harness: Harness) -> None:
    timed = talk(3)
    assert harness.write(timed, ["a", "b"], last=False) == Continues(timed.position, MediaPosition(20, 0, 41))
    assert not harness.store.asset_rows([timed.asset.id])
    assert isinstance(harness.write(timed, ["c"], before=2, last=False), Continues)
    assert harness.write(timed, ["d"], before=3) == Settled(timed.position, Outcome.INDEXED)
    row = harness.store.asset_rows([timed.asset.id])[timed.asset.id]
    assert (row.version, row.counts, row.slot) == (timed.version, {SPEECH: 4}, 0)
    assert harness.entries() == [(3, 0, "a"), (3, 1, "b"), (3, 2, "c"), (3, 3, "d")]
    assert not harness.store.checkpoints([timed.asset.id])


def test_an_older_version_stays_whole_until_the_last_segment(harness: Harness) -> None:
    old, new = talk(3), talk(8)
    harness.write(old, ["old a", "old b", "old c"])
    harness.write(new, ["a"], last=False)
    harness.write(new, ["b"], before=1, last=False)
    assert [text for offset, _, text in harness.entries() if offset == 3] == ["old a", "old b", "old c"]
    harness.write(new, [], before=2)
    assert harness.entries() == [(8, 0, "a"), (8, 1, "b")]
    row = harness.store.asset_rows([new.asset.id])[new.asset.id]
    assert (row.version, row.slot) == (new.version, 1)
    ids = harness.store.entry_ids(SPEECH, [new.asset.id])[new.asset.id]
    assert ids == {part_id(new.asset.id, SPEECH, part, 1) for part in range(2)}


def test_a_third_version_takes_the_first_slot_again_and_a_short_one_always(harness: Harness) -> None:
    for offset in (3, 8, 9):
        harness.write(talk(offset), ["a"], last=False)
        harness.write(talk(offset), ["b"], before=1)
    assert harness.store.asset_rows([talk(9).asset.id])[talk(9).asset.id].slot == 0
    harness.write(talk(11), ["a"], last=False)
    harness.write(talk(11), ["b"], before=1)
    harness.write(talk(12), ["short"])
    assert harness.store.asset_rows([talk(12).asset.id])[talk(12).asset.id].slot == 0
    assert harness.entries() == [(12, 0, "short")]


def test_a_restarted_writer_continues_in_the_same_slot(harness: Harness) -> None:
    harness.write(talk(3), ["old"])
    harness.write(talk(8), ["a"], last=False)
    harness.restart()
    results, checkpoints = harness.writer.lookup(REQUEST, [talk(8)])
    assert results == ()
    assert [(known.version, known.counts, known.slot, known.settings_hash) for known in checkpoints] == [
        (talk(8).version, {SPEECH: 1}, 1, "settings")
    ]
    harness.write(talk(8), ["b"], before=1)
    assert harness.entries() == [(8, 0, "a"), (8, 1, "b")]


def test_a_checkpoint_left_by_a_writer_that_died_last_is_dropped_when_the_event_is_redelivered(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(asset_ids: object) -> None:
        raise UnavailableError("the writer died")

    harness.write(talk(8), ["a"], last=False)
    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "drop_checkpoints", dies)
        with pytest.raises(UnavailableError):
            harness.write(talk(8), ["b"], before=1)
    assert harness.store.checkpoints([talk(8).asset.id])
    [result] = harness.writer.lookup(REQUEST, [talk(8)])[0]
    assert result == Settled(result.position, Outcome.INDEXED)
    assert not harness.store.checkpoints([talk(8).asset.id])


def test_the_checkpoint_of_a_newer_version_survives_the_redelivery_of_an_older_one(harness: Harness) -> None:
    harness.write(talk(3), ["old"])
    harness.write(talk(8), ["a"], last=False)
    [result] = harness.writer.lookup(REQUEST, [talk(3)])[0]
    assert result == Settled(result.position, Outcome.INDEXED)
    assert harness.store.checkpoints([talk(8).asset.id])


def test_a_segment_written_without_its_checkpoint_is_written_again_with_the_same_ids(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(checkpoints: object) -> None:
        raise UnavailableError("the answer was lost")

    harness.write(talk(8), ["a"], last=False)
    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "put_checkpoints", fails)
        with pytest.raises(UnavailableError):
            harness.write(talk(8), ["b", "c", "d"], before=1, last=False)
    harness.write(talk(8), ["b", "c"], before=1, last=False)
    harness.write(talk(8), ["e"], before=3)
    assert [text for _, _, text in harness.entries()] == ["a", "b", "c", "e"]


def test_a_segment_whose_entries_were_not_written_has_no_checkpoint(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(collection: object, entries: object) -> None:
        raise UnavailableError("no answer")

    harness.write(talk(8), ["a"], last=False)
    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "upsert", fails)
        with pytest.raises(UnavailableError):
            harness.write(talk(8), ["b"], before=1, last=False)
    harness.restart()
    [checkpoint] = harness.writer.lookup(REQUEST, [talk(8)])[1]
    assert checkpoint.counts == {SPEECH: 1}


def test_entries_of_an_attempt_with_other_segments_are_deleted_in_the_end(harness: Harness) -> None:
    harness.write(talk(8), ["a", "b", "c", "d"], last=False)
    harness.write(talk(8), ["A"], last=False)  # starts again, under other settings
    harness.write(talk(8), ["B"], before=1)
    assert harness.entries() == [(8, 0, "A"), (8, 1, "B")]


@pytest.mark.parametrize("newer", ["tombstone", "short version"])
def test_a_newer_event_replaces_one_that_is_partly_written(newer: str, harness: Harness) -> None:
    harness.write(talk(3), ["old"])
    harness.write(talk(8), ["a", "b"], last=False)
    harness.restart()
    if newer == "tombstone":
        tombstone = replace(talk(9), payload=None)
        [result] = harness.writer.write(REQUEST, Decoded((), (tombstone,), (), ()))
        assert result == Settled(result.position, Outcome.DELETED)
        assert harness.entries() == []
    else:
        harness.write(talk(9), ["new"])
        assert harness.entries() == [(9, 0, "new")]
    assert not harness.store.checkpoints([talk(9).asset.id])


def test_lookup_returns_the_results_of_settled_events(harness: Harness) -> None:
    harness.write(talk(8), ["a"])
    other = replace(event(2, "other", topic=TOPIC), modality=Modality.AUDIO)
    results, checkpoints = harness.writer.lookup(REQUEST, [talk(8), other])
    assert results == (Settled(talk(8).position, Outcome.INDEXED),)
    assert not checkpoints
    results, _ = harness.writer.lookup(REQUEST, [talk(3)])
    assert results == (Settled(talk(3).position, Outcome.SUPERSEDED),)


def test_the_checkpoint_of_another_version_is_not_continued(harness: Harness) -> None:
    harness.write(talk(8), ["a"], last=False)
    assert harness.writer.lookup(REQUEST, [talk(9)]) == ((), ())


def test_lookup_of_a_lane_that_lost_its_partition_is_fenced(harness: Harness) -> None:
    harness.writer.start([Assignment(TOPIC, 0, 6)])
    assert harness.writer.lookup(REQUEST, [talk(8)]) == ((Fenced(talk(8).position),), ())


def test_a_rejected_event_leaves_nothing_behind(harness: Harness) -> None:
    harness.write(talk(8), ["a"], last=False)
    harness.writer.retract(REQUEST, [talk(8)])
    assert harness.entries() == []
    assert not harness.store.checkpoints([talk(8).asset.id])


def test_a_rejected_event_leaves_its_older_version_as_it_was(harness: Harness) -> None:
    harness.write(talk(3), ["old a", "old b"])
    harness.write(talk(8), ["a"], last=False)
    harness.write(talk(8), ["b", "c"], before=1, last=False)
    harness.writer.retract(REQUEST, [talk(8)])
    assert harness.entries() == [(3, 0, "old a"), (3, 1, "old b")]
    assert not harness.store.checkpoints([talk(8).asset.id])
    harness.write(talk(9), ["new"], last=False)
    assert harness.entries() == [(3, 0, "old a"), (3, 1, "old b"), (9, 0, "new")]


def test_scan_media_includes_media_that_are_partly_written(harness: Harness) -> None:
    harness.write(talk(3), ["old"])
    harness.write(talk(8), ["a"], last=False)
    assert {uri for page in harness.store.scan_media() for uri in page} == {"asset:3", "asset:8"}


# --- two versions concurrently ---------------------------------------------------------------------------------------
# From one partition the older version is delivered first, and is settled before the newer is started, except for a
# redelivery in which it is rejected. From two partitions either may be first. The timestamps of `talk` rise with the
# offset.


def elsewhere(offset: int) -> Event:
    """Returns a version of the same asset from another partition, older or newer by its timestamp."""
    timed = talk(offset)
    position = replace(timed.position, partition=1)
    return replace(timed, position=position, origin=position)


BOTH = WriteRequest("lane", (Assignment(TOPIC, 0, 5), Assignment(TOPIC, 1, 5)))


def test_an_older_event_that_is_rejected_deletes_nothing_of_a_newer_one_partly_written(harness: Harness) -> None:
    harness.write(talk(8), ["a"], last=False)
    harness.write(talk(8), ["b"], before=1, last=False)
    harness.writer.retract(BOTH, [talk(3)])
    harness.writer.retract(BOTH, [elsewhere(4)])
    harness.write(talk(8), ["c"], before=2)
    assert harness.entries() == [(8, 0, "a"), (8, 1, "b"), (8, 2, "c")]


@pytest.mark.parametrize("deleted", [True, False])
def test_an_older_event_is_written_beside_a_newer_one_partly_written(deleted: bool, harness: Harness) -> None:
    harness.write(talk(8), ["a"], last=False)
    harness.write(talk(8), ["b"], before=1, last=False)
    if deleted:
        tombstone = replace(elsewhere(4), payload=None)
        [result] = harness.writer.write(BOTH, Decoded((), (tombstone,), (), ()))
        assert result == Settled(result.position, Outcome.DELETED)
    else:
        assert harness.write(elsewhere(4), ["older"]) == Settled(elsewhere(4).position, Outcome.INDEXED)
        assert (4, 0, "older") in harness.entries()
    harness.write(talk(8), ["c"], before=2)
    assert harness.entries() == [(8, 0, "a"), (8, 1, "b"), (8, 2, "c")]
    row = harness.store.asset_rows([talk(8).asset.id])[talk(8).asset.id]
    assert (row.version, row.counts) == (talk(8).version, {SPEECH: 3})


def test_an_older_version_waits_for_the_newer_and_is_superseded(harness: Harness) -> None:
    harness.write(elsewhere(4), ["old a"], last=False)
    harness.write(talk(8), ["a"], last=False)
    assert harness.writer.lookup(BOTH, [elsewhere(4)]) == (
        (Continues(elsewhere(4).position, MediaPosition()),),
        (),
    )
    harness.write(talk(8), ["b"], before=1)
    results, _ = harness.writer.lookup(BOTH, [elsewhere(4)])
    assert results == (Settled(elsewhere(4).position, Outcome.SUPERSEDED),)
    assert harness.entries() == [(8, 0, "a"), (8, 1, "b")]


def test_a_segment_decoded_before_a_newer_version_arrived_is_not_written(harness: Harness) -> None:
    harness.write(elsewhere(4), ["old a"], last=False)
    position = harness.store.checkpoints([talk(8).asset.id])[talk(8).asset.id].position
    harness.write(talk(8), ["a"], last=False)
    late = harness.segment(elsewhere(4), ["old b"], start=position)
    [result] = harness.writer.write(BOTH, *late)
    assert result == Continues(elsewhere(4).position, MediaPosition())
    harness.write(talk(8), ["b"], before=1)
    assert harness.entries() == [(8, 0, "a"), (8, 1, "b")]


def test_an_older_version_starts_again_once_the_newer_is_rejected(harness: Harness) -> None:
    harness.write(elsewhere(4), ["old a"], last=False)
    harness.write(talk(8), ["a", "b"], last=False)
    harness.writer.retract(BOTH, [talk(8)])
    assert harness.writer.lookup(BOTH, [elsewhere(4)]) == ((), ())
    harness.write(elsewhere(4), ["old a"], last=False)
    harness.write(elsewhere(4), ["old b"], before=1)
    assert harness.entries() == [(4, 0, "old a"), (4, 1, "old b")]


def test_an_abandoned_newer_version_does_not_block_an_older_one(harness: Harness) -> None:
    harness.write(talk(8), ["a"], last=False)
    harness.now_ms += ABANDONED_AFTER_MS
    assert harness.writer.lookup(BOTH, [elsewhere(4)]) == ((), ())
    harness.write(elsewhere(4), ["old a"], last=False)
    harness.write(elsewhere(4), ["old b"], before=1)
    assert harness.entries() == [(4, 0, "old a"), (4, 1, "old b")]


def test_a_segment_continues_at_the_stored_position_or_is_not_written(harness: Harness) -> None:
    harness.write(talk(8), ["a"], last=False)
    stored = harness.store.checkpoints([talk(8).asset.id])[talk(8).asset.id].position
    [result] = harness.writer.write(BOTH, *harness.segment(talk(8), ["x", "y"], start=MediaPosition(7, 7, 7)))
    assert result == Continues(talk(8).position, stored)
    assert harness.entries() == [(8, 0, "a")]


def test_segments_without_a_checkpoint_are_deleted_with_their_rejected_event(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(checkpoints: object) -> None:
        raise UnavailableError("the writer died")

    harness.write(talk(3), ["old"])
    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "put_checkpoints", fails)
        with pytest.raises(UnavailableError):
            harness.write(talk(8), ["a", "b"], last=False)
    harness.writer.retract(REQUEST, [talk(8)])
    assert harness.entries() == [(3, 0, "old")]
