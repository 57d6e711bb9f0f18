"""The write step: waiting for the store, and removing what interrupted writes left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from penstock.errors import UnavailableError, WorkerLostError
from penstock.records import AssetRow, Collection, Entry, Event, Inline, Outcome
from penstock.store.memory import MemoryStore
from tests.ingest.builders import batch, delivery, outcomes
from tests.ingest.doubles import SPEC, RecordingSink, ScriptedMedia, memory_store, pipeline_on


def test_an_encoded_batch_is_kept_while_the_store_is_unavailable() -> None:
    class CountingMedia(ScriptedMedia):
        calls = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.calls += 1
            return super().fetch_and_decode(events, roles)

    store, media = memory_store(), CountingMedia()
    failures = iter([True] * 3)
    put = store.put_asset_rows

    def flaky(rows: Sequence[AssetRow]) -> None:
        if next(failures, False):
            raise UnavailableError("the store is unavailable")
        put(rows)

    store.put_asset_rows = flaky  # type: ignore[method-assign]
    report = pipeline_on(store, RecordingSink(), media=media).run(batch(delivery(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert media.calls == 1


def test_a_batch_waits_for_an_unavailable_store() -> None:
    store, sink = memory_store(), RecordingSink()
    failures = iter([True] * 5)
    upsert = store.upsert

    def flaky(collection: Collection, entries: Sequence[Entry]) -> None:
        if next(failures, False):
            raise UnavailableError("the store is unavailable")
        upsert(collection, entries)

    store.upsert = flaky  # type: ignore[method-assign]
    report = pipeline_on(store, sink).run(batch(delivery(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_an_interrupted_write_leaves_no_entries_of_an_event_that_is_then_rejected() -> None:
    """The writer dies before the asset row, and its media are gone when the batch is processed again."""

    class Vanishing(ScriptedMedia):
        seen = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.seen += 1
            return super().fetch_and_decode(
                [replace(event, payload=Inline(b"bad")) for event in events] if self.seen > 1 else events, roles
            )

    class Dying(MemoryStore):
        def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
            raise WorkerLostError("the writer died")

    store, sink = Dying(), RecordingSink()
    store.ensure(SPEC)
    report = pipeline_on(store, sink, media=Vanishing()).run(batch(delivery(0, "a", data=b"parts:3")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED}
    assert store.count(Collection.TEXT) == 0


def test_a_rejected_event_is_retracted_once_the_store_answers() -> None:
    class Unavailable(MemoryStore):
        answers = iter([False, False])

        def asset_rows(self, asset_ids: Sequence[str]) -> Any:
            if next(self.answers, True):
                return super().asset_rows(asset_ids)
            raise UnavailableError("the store is unavailable")

    store, sink = Unavailable(), RecordingSink()
    store.ensure(SPEC)
    report = pipeline_on(store, sink).run(batch(delivery(0, "a", data=b"bad")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED}
    assert len(sink.letters) == 1
