from __future__ import annotations

from dataclasses import replace

import numpy as np

from penstock.records import Checkpoint, Collection, Decoded, Encoded, Field, MediaPosition, PendingEntry
from penstock.store.lost_sounds import without_lost_sounds
from tests.ingest.builders import event

SOUND = "sound.audio"


def pending(key: str, part: int, row: int, collection: Collection = Collection.SOUND) -> PendingEntry:
    return PendingEntry(event(0, key), collection, part, "audio/wav", "u", vectors=((Field.JOINT, SOUND, row),))


def failed(*rows: int) -> Encoded:
    return Encoded(SOUND, np.zeros((9, 4), np.float32), tuple((row, "too loud") for row in rows))


def test_later_parts_of_the_same_asset_move_up() -> None:
    entries = (*(pending("a", part, part) for part in range(4, 8)), pending("b", 0, 8))
    kept = without_lost_sounds(Decoded((), (), entries, ()), [failed(5, 6)], frozenset()).pending
    assert [(entry.event.asset.key, entry.part, entry.vectors[0][2]) for entry in kept] == [
        ("a", 4, 4),
        ("a", 5, 7),
        ("b", 0, 8),
    ]


def test_the_checkpoint_counts_the_entries_that_are_left() -> None:
    first = event(0, "a")
    checkpoint = Checkpoint(
        asset=first.asset,
        version=first.version,
        position=MediaPosition(),
        counts={Collection.SOUND: 3, Collection.SPEECH: 2},
        settings_hash="h",
        uri="u",
        media_sha256="s",
        start=MediaPosition(),
        finished=False,
    )
    other = replace(checkpoint, asset=event(0, "b").asset)
    entries = tuple(pending("a", part, part) for part in range(3))
    decoded = Decoded((first,), (), entries, (), (checkpoint, other))
    left = without_lost_sounds(decoded, [failed(0)], frozenset()).checkpoints
    assert [checkpoint.counts for checkpoint in left] == [
        {Collection.SOUND: 2, Collection.SPEECH: 2},
        {Collection.SOUND: 3, Collection.SPEECH: 2},
    ]


def test_failures_of_other_collections_stay() -> None:
    decoded = Decoded((), (), (pending("a", 0, 0, Collection.FRAME),), ())
    assert without_lost_sounds(decoded, [failed(0)], frozenset()) == decoded
