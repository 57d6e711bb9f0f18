"""A change of labels alone writes rows again and runs no model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from penstock.assets import asset_uri
from penstock.broker.given_vectors import given_vector
from penstock.errors import UnavailableError
from penstock.ingest.delivery import Delivery
from penstock.ingest.executor.pool import LocalPool
from penstock.ingest.executor.proxies import WriterPool
from penstock.records import (
    Access,
    AssetRow,
    Checkpoint,
    ClaimCheck,
    Collection,
    Decoded,
    EncoderInput,
    Entry,
    Event,
    Inline,
    MediaPosition,
    Modality,
    Outcome,
    Settled,
    WriteResult,
    entry_id,
)
from penstock.store.memory import MemoryStore
from penstock.store.writer import WriteRequest, shard_of
from tests.ingest.builders import batch, delivery, event, outcomes
from tests.ingest.doubles import RecordingSink, ScriptedMedia, memory_store, pipeline_on
from tests.store.recording import OWNED, RecordingStore, started
from tests.store.recording import outcomes as results_by_offset


class Media(ScriptedMedia):
    """Decodes as the bytes script it, keeps media under their hash, and counts the events."""

    def __init__(self) -> None:
        self.decoded = 0

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Decoded, EncoderInput]:
        self.decoded += sum(not source.is_tombstone for source in events)
        uris = {
            source.asset: asset_uri(hashlib.sha256(source.payload.data).hexdigest())
            for source in events
            if isinstance(source.payload, Inline)
        }
        decoded, inputs = super().fetch_and_decode(events, roles)
        indexable = tuple(replace(event, payload=ClaimCheck(uris[event.asset])) for event in decoded.indexable)
        return replace(decoded, indexable=indexable), inputs


def labelled(offset: int, *acl: str, data: bytes = b"parts:3", title: str = "") -> Delivery:
    plain = delivery(offset, "a", data=data)
    named = replace(plain.event, acl=acl, names_acl=True, title=title)
    return replace(plain, parsed=named)


def with_vector(plain: Delivery, values: Sequence[float]) -> Delivery:
    return replace(plain, parsed=replace(plain.event, vectors=(given_vector("an encoder", values),)))


def entries(store: MemoryStore, parts: int = 3) -> list[Entry]:
    return list(store.get(Collection.TEXT, [entry_id(event(0, "a").asset, Collection.TEXT, n) for n in range(parts)]))


def row(store: MemoryStore) -> AssetRow:
    (row,) = store.asset_rows([event(0, "a").asset.id]).values()
    return row


def test_acl_change_encodes_nothing() -> None:
    store, media = memory_store(), Media()
    pipeline = pipeline_on(store, RecordingSink(), media=media)
    pipeline.run(batch(labelled(0, "group:a")))
    before = entries(store)
    report = pipeline.run(batch(labelled(1, "group:b", "group:c")))
    assert outcomes(report) == {1: Outcome.INDEXED}
    assert media.decoded == 1
    after = entries(store)
    assert [entry.acl for entry in after] == [("group:b", "group:c")] * 3
    assert {entry.origin.offset for entry in after} == {1}
    for old, new in zip(before, after, strict=True):
        assert replace(old, acl=new.acl, origin=new.origin, vectors={}) == replace(new, vectors={})
        for field, vector in old.vectors.items():
            np.testing.assert_array_equal(vector, new.vectors[field])
    assert (row(store).version.offset, row(store).acl) == (1, ("group:b", "group:c"))
    ids = [entry.id for entry in after]
    assert not store.entries(ids, access=Access("default", frozenset({"group:a"})), timeout_s=5)
    assert len(store.entries(ids, access=Access("default", frozenset({"group:c"})), timeout_s=5)) == 3


@pytest.mark.parametrize(
    "other",
    [
        labelled(1, "group:b", data=b"parts:2"),
        labelled(1, "group:b", title="another"),
        delivery(1, "a", data=b"parts:3"),
        with_vector(labelled(1, "group:b"), [0.5]),
    ],
    ids=["media", "title", "no labels", "vector"],
)
def test_another_content_and_an_event_without_labels_are_encoded(other: Delivery) -> None:
    store, media = memory_store(), Media()
    pipeline = pipeline_on(store, RecordingSink(), media=media)
    pipeline.run(batch(labelled(0, "group:a")))
    assert outcomes(pipeline.run(batch(other))) == {1: Outcome.INDEXED}
    assert media.decoded == 2
    assert {entry.acl for entry in entries(store)} == {other.event.acl}


def test_a_corrected_vector_is_encoded_and_the_same_one_is_not() -> None:
    store, media = memory_store(), Media()
    pipeline = pipeline_on(store, RecordingSink(), media=media)
    for offset, value in enumerate([0.5, 0.5, 0.25]):
        pipeline.run(batch(with_vector(labelled(offset, f"group:{offset}"), [value])))
    assert media.decoded == 2
    assert {entry.acl for entry in entries(store)} == {("group:2",)}


def test_an_asset_that_lacks_an_entry_or_was_deleted_is_encoded() -> None:
    store, media = memory_store(), Media()
    pipeline = pipeline_on(store, RecordingSink(), media=media)
    pipeline.run(batch(labelled(0, "group:a")))
    store.delete(Collection.TEXT, [entries(store)[1].id])
    pipeline.run(batch(labelled(1, "group:b")))
    assert (media.decoded, len(entries(store))) == (2, 3)
    pipeline.run(batch(delivery(2, "a", data=None)))
    pipeline.run(batch(labelled(3, "group:c")))
    assert (media.decoded, {entry.acl for entry in entries(store)}) == (3, {("group:c",)})


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("request_", ["upsert", "rows"])
def test_a_crash_between_entries_and_row_is_repaired_by_the_next_delivery(request_: str, when: str) -> None:
    store, media = RecordingStore(), Media()
    pipeline_on(store, RecordingSink(), media=media).run(batch(labelled(0, "group:a")))
    store.failing = (request_, when)
    stored = asset_uri(hashlib.sha256(b"parts:3").hexdigest())
    again = replace(labelled(1, "group:b").event, payload=ClaimCheck(stored))
    with pytest.raises(UnavailableError):
        started(store, [OWNED]).relabel(WriteRequest("lane", (OWNED,)), [again])
    store.failing = None
    (result,) = started(store, [OWNED]).relabel(WriteRequest("lane", (OWNED,)), [again])
    assert results_by_offset([result]) == {1: Outcome.INDEXED}
    assert {entry.acl for entry in entries(store)} == {("group:b",)}
    assert row(store).version.offset == 1


def test_a_settled_event_leaves_no_checkpoint_of_its_version_or_an_older_one() -> None:
    """Nothing looks up timed media that are settled here: a writer that died after the row left the checkpoint."""
    store = memory_store()
    writer = started(store, [OWNED])
    timed = replace(event(3, "a", claim=asset_uri("0" * 64)), modality=Modality.VIDEO, acl=("g",), names_acl=True)
    asset = timed.asset
    store.put_checkpoints([Checkpoint(asset, timed.version, MediaPosition(), {}, "h", "u", slot=1, updated_ms=1)])
    store.put_asset_rows([AssetRow(asset, timed.version, Outcome.INDEXED, {}, "", 1, acl=("g",))])
    (result,) = writer.relabel(WriteRequest("lane", (OWNED,)), [timed])
    assert results_by_offset([result]) == {3: Outcome.INDEXED}
    assert not store.checkpoints([asset.id])


def test_only_writers_of_the_assets_are_called() -> None:
    called: list[int] = []

    class Shard:
        def __init__(self, number: int) -> None:
            self.number = number

        def relabel(self, _request: WriteRequest, events: Sequence[Event]) -> tuple[WriteResult, ...]:
            called.append(self.number)
            return tuple(
                Settled(event.position, Outcome.INDEXED)
                for event in events
                if shard_of(event.asset.id, 8) == self.number
            )

    pool = LocalPool(Shard, 8)
    try:
        events = [event(offset, key) for offset, key in enumerate("ab")]
        results = WriterPool(pool).relabel(WriteRequest("lane", (OWNED,)), events)
    finally:
        pool.close()
    assert results_by_offset(results) == {0: Outcome.INDEXED, 1: Outcome.INDEXED}
    assert sorted(called) == sorted({shard_of(event.asset.id, 8) for event in events})
    assert len(called) < 8


class Unread(Media):
    """Fails at whatever it is given."""

    def fetch(self, events: Sequence[Event]) -> tuple[Event, ...]:
        raise AssertionError("a replay of what is stored was fetched")


@pytest.mark.parametrize("claim", ["https://example.org/a.txt", "asset:" + "a" * 64])
def test_a_replay_of_what_is_stored_already_is_settled_before_anything_is_fetched(claim: str) -> None:
    store = memory_store()
    first = delivery(0, "a", data=b"parts:3")
    pipeline_on(store, RecordingSink(), media=Media()).run(batch(first))
    replay = delivery(9, "a", claim=claim)
    again = replace(replay.event, origin=first.event.origin, timestamp_ms=first.event.timestamp_ms)
    report = pipeline_on(store, RecordingSink(), media=Unread()).run(batch(replace(replay, parsed=again)))
    assert outcomes(report) == {9: Outcome.INDEXED}
    assert len(entries(store)) == 3
