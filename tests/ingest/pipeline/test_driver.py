from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from penstock.errors import PermanentError, Reason, UnavailableError, WorkerBrokenError, WorkerLostError
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.pipeline.driver import BatchReport, StoppedError
from penstock.records import (
    AssetRow,
    Collection,
    Encoded,
    EncoderInput,
    Entry,
    Event,
    Inline,
    Outcome,
    Position,
    Record,
    Rejected,
    entry_id,
)
from penstock.store.memory import MemoryStore
from tests.ingest.builders import TOPIC, event, item
from tests.ingest.doubles import SPEC, RecordingSink, ScriptedEncoder, ScriptedMedia, memory_store, pipeline_on, text_of


def batch(*items: Delivery) -> Batch:
    return Batch(1, TOPIC, items)


def outcomes(report: BatchReport) -> dict[int, Outcome | None]:
    found = {one.delivery.record.position.offset: one.outcome for one in report.settlements}
    assert len(found) == len(report.settlements), "an item was settled twice"
    return found


def test_good_events_are_indexed_under_their_own_ids() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(item(0, "a"), item(1, "b", data=b"parts:3")))
    assert outcomes(report) == {0: Outcome.INDEXED, 1: Outcome.INDEXED}
    assert store.count(Collection.TEXT) == 4
    ids = [entry_id(event(1, "b").asset, Collection.TEXT, part) for part in range(3)]
    assert len(store.get(Collection.TEXT, ids)) == 3
    assert sink.letters == []


def test_a_bad_event_becomes_a_dead_letter_and_takes_no_other_along() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(item(0, "a", data=b"bad"), item(1, "b")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED}
    assert [letter.reason for letter in sink.letters] == [Reason.CORRUPT]


def test_an_event_that_the_encoder_fails_on_is_rejected_with_all_its_entries() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(item(0, "a", data=b"poison"), item(1, "b")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED}
    assert sink.letters[0].reason is Reason.ENCODER_FAILED
    assert store.count(Collection.TEXT) == 1


def test_a_record_that_was_not_understood_becomes_a_dead_letter() -> None:
    store, sink = memory_store(), RecordingSink()
    rejected = Rejected(Position(TOPIC, 0, 0), "receive", Reason.MALFORMED, "no CloudEvent")
    report = pipeline_on(store, sink).run(batch(item(0, rejected=rejected), item(1, "b")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED}
    assert sink.letters == [rejected]


def test_of_two_versions_in_one_batch_the_newer_is_indexed_and_the_older_superseded() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(item(0, "a", data=b"old"), item(1, "a", data=b"new")))
    assert outcomes(report) == {0: Outcome.SUPERSEDED, 1: Outcome.INDEXED}
    assert store.get(Collection.TEXT, [entry_id(event(0, "a").asset, Collection.TEXT, 0)])[0].text == "new"


def test_of_two_versions_in_one_batch_the_newer_corrupt_the_older_is_indexed() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink).run(batch(item(0, "a", data=b"old"), item(1, "a", data=b"bad")))
    assert outcomes(report) == {0: Outcome.INDEXED, 1: Outcome.DEAD_LETTERED}
    assert [letter.position.offset for letter in sink.letters] == [1]


def test_older_versions_are_settled_only_after_the_newer_one_is() -> None:
    """While the newer one is under way nothing is known of the older ones: it may still turn out to be bad."""

    class Down(ScriptedMedia):
        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            raise UnavailableError("down")

    store, sink, stop = memory_store(), RecordingSink(), threading.Event()
    versions = batch(item(0, "a", data=b"old"), item(1, "a", data=b"older than bad"), item(2, "a", data=b"bad"))
    stop.set()
    with pytest.raises(StoppedError):
        pipeline_on(store, sink, media=Down(), stop=stop).run(versions)
    assert (store.count_assets(), sink.letters) == (0, [])
    report = pipeline_on(store, sink).run(versions)
    assert [one.delivery.record.position.offset for one in report.settlements] == [2, 1, 0]
    assert outcomes(report) == {2: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED, 0: Outcome.SUPERSEDED}


def test_a_shorter_version_leaves_no_surplus_entries() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(item(0, "a", data=b"parts:5")))
    pipeline.run(batch(item(1, "a", data=b"parts:2")))
    assert store.count(Collection.TEXT) == 2


def test_a_tombstone_removes_the_entries_and_leaves_the_asset_row() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(item(0, "a", data=b"parts:5")))
    report = pipeline.run(batch(item(1, "a", data=None)))
    assert outcomes(report) == {1: Outcome.DELETED}
    assert store.count(Collection.TEXT) == 0
    row = store.asset_rows([event(0, "a").asset.id])[event(0, "a").asset.id]
    assert (row.outcome, row.origin.offset, dict(row.counts)) == (Outcome.DELETED, 1, {})


def test_an_event_that_was_settled_before_a_crash_is_settled_again_without_a_change() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(item(0, "a", data=b"parts:3")))
    assert outcomes(pipeline.run(batch(item(0, "a", data=b"parts:3")))) == {0: Outcome.INDEXED}
    assert store.count(Collection.TEXT) == 3


def test_an_event_older_than_its_asset_row_is_superseded() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(item(7, "a", data=b"new")))
    assert outcomes(pipeline.run(batch(item(3, "a", data=b"old")))) == {3: Outcome.SUPERSEDED}
    assert store.get(Collection.TEXT, [entry_id(event(0, "a").asset, Collection.TEXT, 0)])[0].text == "new"


def test_an_older_event_does_not_bring_a_deleted_asset_back() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(item(7, "a", data=None)))
    assert outcomes(pipeline.run(batch(item(3, "a")))) == {3: Outcome.SUPERSEDED}
    assert store.count(Collection.TEXT) == 0


def test_a_fenced_newer_version_does_not_hold_back_an_older_one_of_another_partition() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(item(0, "other", partition=1, generation=5)))
    older, newer = item(4, "a", partition=0, data=b"old"), item(9, "a", partition=1, generation=4, data=b"new")
    report = pipeline.run(batch(older, newer))
    assert outcomes(report) == {4: Outcome.INDEXED, 9: None}


def test_what_is_encoded_is_kept_while_the_store_is_away() -> None:
    class Counting(ScriptedMedia):
        calls = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.calls += 1
            return super().fetch_and_decode(events, roles)

    store, media = memory_store(), Counting()
    failures = iter([True] * 3)
    put = store.put_asset_rows

    def flaky(rows: Sequence[AssetRow]) -> None:
        if next(failures, False):
            raise UnavailableError("the store is away")
        put(rows)

    store.put_asset_rows = flaky  # type: ignore[method-assign]
    report = pipeline_on(store, RecordingSink(), media=media).run(batch(item(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert media.calls == 1


def test_a_lane_that_lost_its_partition_cannot_write() -> None:
    store, sink = memory_store(), RecordingSink()
    pipeline = pipeline_on(store, sink)
    pipeline.run(batch(item(5, "a", generation=4, data=b"new owner")))
    report = pipeline.run(batch(item(6, "b", generation=3, data=b"late"), item(7, "c", generation=3)))
    assert outcomes(report) == {6: None, 7: None}
    assert store.count(Collection.TEXT) == 1


def test_an_item_that_kills_three_workers_is_found_by_bisection_and_dead_lettered() -> None:
    store, sink = memory_store(), RecordingSink()
    items = [item(offset, f"k{offset}", data=b"kills" if offset == 5 else b"v") for offset in range(8)]
    report = pipeline_on(store, sink).run(batch(*items))
    assert outcomes(report) == {
        offset: Outcome.DEAD_LETTERED if offset == 5 else Outcome.INDEXED for offset in range(8)
    }
    assert [letter.reason for letter in sink.letters] == [Reason.CRASHES_WORKER]


def test_an_item_that_breaks_the_encoders_device_is_found_and_the_others_pass_on_new_workers() -> None:
    class Fragile(ScriptedEncoder):
        """After "breaks" its device takes nothing any more, as CUDA's after a device-side assert."""

        lost = False

        def encode(self, batch: EncoderInput) -> Encoded:
            self.lost = self.lost or "breaks" in batch.texts
            if self.lost:
                raise WorkerBrokenError("CUDA error: device-side assert triggered")
            return super().encode(batch)

    store, sink = memory_store(), RecordingSink()
    items = [item(offset, f"k{offset}", data=b"breaks" if offset == 5 else b"v") for offset in range(8)]
    report = pipeline_on(store, sink, make_encoder=Fragile).run(batch(*items))
    assert outcomes(report) == {
        offset: Outcome.DEAD_LETTERED if offset == 5 else Outcome.INDEXED for offset in range(8)
    }
    assert [letter.reason for letter in sink.letters] == [Reason.CRASHES_WORKER]


def test_a_batch_that_takes_its_worker_too_long_is_halved_at_once_until_it_does_not() -> None:
    class Slow(ScriptedMedia):
        tried: ClassVar[list[int]] = []

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.tried.append(len(events))
            if len(events) > 2:
                raise WorkerLostError("took too long", blamed=True, hung=True)
            return super().fetch_and_decode(events, roles)

    report = pipeline_on(memory_store(), RecordingSink(), media=Slow()).run(
        batch(*(item(n, f"k{n}") for n in range(8)))
    )
    assert outcomes(report) == dict.fromkeys(range(8), Outcome.INDEXED)
    assert Slow.tried == [8, 4, 2, 2, 4, 2, 2]


class BrokenWorkers(ScriptedMedia):
    """Every worker dies of everything, so often; then they are well."""

    def __init__(self, deaths: int, *, blamed: bool = True, starved: bool = False) -> None:
        self.deaths = deaths
        self._blamed = blamed
        self._starved = starved

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
        if self.deaths:
            self.deaths -= 1
            raise WorkerLostError("died", blamed=self._blamed, starved=self._starved)
        return super().fetch_and_decode(events, roles)


def test_while_no_known_good_event_passes_nothing_is_called_a_killer() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink, media=BrokenWorkers(deaths=40)).run(batch(item(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_a_call_that_merely_waited_at_a_dying_worker_is_not_blamed() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink, media=BrokenWorkers(deaths=9, blamed=False)).run(batch(item(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}


def test_a_batch_whose_workers_run_out_of_memory_a_few_times_is_not_to_blame() -> None:
    store, sink = memory_store(), RecordingSink()
    media = BrokenWorkers(deaths=3, blamed=False, starved=True)
    report = pipeline_on(store, sink, media=media).run(batch(*(item(n, f"k{n}") for n in range(4))))
    assert outcomes(report) == dict.fromkeys(range(4), Outcome.INDEXED)


def test_workers_that_starve_blame_no_call_that_dies_of_something_else() -> None:
    class Dying(ScriptedMedia):
        """Four workers are killed because their node is full, and then others while this call waits behind theirs."""

        deaths = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            if text_of(events[0]) != "good" and self.deaths < 12:
                self.deaths += 1
                raise WorkerLostError("died", starved=self.deaths <= 4)
            return super().fetch_and_decode(events, roles)

    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink, media=Dying()).run(batch(item(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_a_batch_too_large_for_a_worker_of_which_nobody_knows_why_it_dies_is_halved_until_it_fits() -> None:
    class Small(ScriptedMedia):
        """As a fetch worker, which notes no calls as it has several at once, has a memory for two claim checks."""

        tried: ClassVar[list[int]] = []

        def fetch(self, events: Sequence[Event]) -> tuple[Event, ...]:
            self.tried.append(len(events))
            assert len(self.tried) < 40
            if len(events) > 2:
                raise WorkerLostError("the fetch worker was killed: OOM")
            return super().fetch(events)

    sink = RecordingSink()
    claims = [item(n, f"k{n}", data=None, claim=f"s3://b/{n}") for n in range(8)]
    report = pipeline_on(memory_store(), sink, media=Small()).run(batch(*claims))
    assert outcomes(report) == dict.fromkeys(range(8), Outcome.INDEXED)
    assert Small.tried == [8, 8, 8, 4, 4, 4, 2, 2, 4, 4, 4, 2, 2]
    assert sink.letters == []


def test_a_batch_too_large_for_the_writer_is_halved_until_it_fits() -> None:
    class Small(MemoryStore):
        tried = 0

        def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
            self.tried += 1
            assert self.tried < 40
            if len(entries) > 2:
                raise WorkerLostError("the writer was killed: OOM", blamed=True)
            super().upsert(collection, entries)

    store, sink = Small(), RecordingSink()
    store.ensure(SPEC)
    report = pipeline_on(store, sink).run(batch(*(item(n, f"k{n}") for n in range(8))))
    assert outcomes(report) == dict.fromkeys(range(8), Outcome.INDEXED)
    assert sink.letters == []


def test_one_event_that_is_blamed_for_no_death_is_tried_for_as_long_as_it_takes() -> None:
    class Dying(MemoryStore):
        deaths = 0

        def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
            self.deaths += 1
            if self.deaths < 50:
                raise WorkerLostError("the writer died", blamed=True)
            super().put_asset_rows(asset_rows)

    store, sink = Dying(), RecordingSink()
    store.ensure(SPEC)
    report = pipeline_on(store, sink).run(batch(item(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_an_item_that_eats_all_memory_is_found_and_the_others_are_indexed() -> None:
    class Hungry(ScriptedMedia):
        calls = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.calls += 1
            if any(text_of(one) == "bomb" for one in events):
                raise WorkerLostError("out of memory", starved=True)
            return super().fetch_and_decode(events, roles)

    sink, media = RecordingSink(), Hungry()
    items = [item(n, f"k{n}", data=b"bomb" if n == 5 else b"good") for n in range(8)]
    report = pipeline_on(memory_store(), sink, media=media).run(batch(*items))
    assert outcomes(report) == {
        **dict.fromkeys(range(8), Outcome.INDEXED), 5: Outcome.DEAD_LETTERED
    }  # fmt: skip
    assert [letter.reason for letter in sink.letters] == [Reason.CRASHES_WORKER]
    assert media.calls < 40


def test_a_batch_outlasts_an_absent_store() -> None:
    store, sink = memory_store(), RecordingSink()
    failures = iter([True] * 5)
    upsert = store.upsert

    def flaky(collection: Collection, entries: Sequence[Entry]) -> None:
        if next(failures, False):
            raise UnavailableError("the store is away")
        upsert(collection, entries)

    store.upsert = flaky  # type: ignore[method-assign]
    report = pipeline_on(store, sink).run(batch(item(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_how_long_the_store_takes_says_nothing_of_how_many_events_a_batch_may_have() -> None:
    """Where it takes several batches at once; one that takes one at a time works all the while."""
    store = memory_store()
    for at_once, slowest in ((4, "decode"), (1, "write")):
        report = pipeline_on(store, RecordingSink(), concurrent_writes=at_once).run(batch(item(0)))
        report.step_s |= {"decode": 0.2, "encode": 0.1, "write": 30.0, "settle": 60.0}
        assert report.slowest_s == report.step_s[slowest]


def test_an_item_that_the_store_refuses_is_found_and_dead_lettered() -> None:
    store, sink = memory_store(), RecordingSink()
    upsert = store.upsert

    def picky(collection: Collection, entries: Sequence[Entry]) -> None:
        if any(entry.text == "refused" for entry in entries):
            raise PermanentError("a field is too long")
        upsert(collection, entries)

    store.upsert = picky  # type: ignore[method-assign]
    items = [item(offset, f"k{offset}", data=b"refused" if offset == 2 else b"v") for offset in range(4)]
    report = pipeline_on(store, sink).run(batch(*items))
    assert outcomes(report)[2] is Outcome.DEAD_LETTERED
    assert sink.letters[0].reason is Reason.REFUSED
    assert store.count(Collection.TEXT) == 3


def test_nothing_is_done_before_its_dead_letter_is_acknowledged() -> None:
    failures = iter([UnavailableError("no broker")] * 3)
    sink = RecordingSink(lambda _: next(failures, None))
    report = pipeline_on(memory_store(), sink).run(batch(item(0, "a", data=b"bad")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED}
    assert len(sink.letters) == 1


def test_a_partition_halts_when_the_dead_letter_topic_can_never_take_it() -> None:
    def refuse(_: Record) -> Exception:
        return PermanentError("larger than the topic's limit")

    report = pipeline_on(memory_store(), RecordingSink(refuse)).run(batch(item(0, "a", data=b"bad"), item(1, "b")))
    assert outcomes(report) == {0: None, 1: Outcome.INDEXED}
    assert [one.halted for one in report.settlements if one.halted] == ["larger than the topic's limit"]


def test_the_same_key_of_two_tenants_is_two_assets() -> None:
    one, other = event(0, "a", tenant="one"), event(1, "a", tenant="other")
    assert one.asset.id != other.asset.id
    assert text_of(one) == "v"


def test_a_write_that_broke_off_leaves_nothing_of_an_event_that_is_then_rejected() -> None:
    """The writer dies before the asset row, and what it was writing is gone when the batch begins again."""

    class Gone(ScriptedMedia):
        seen = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.seen += 1
            return super().fetch_and_decode(
                [replace(one, payload=Inline(b"bad")) for one in events] if self.seen > 1 else events, roles
            )

    class Dying(MemoryStore):
        def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
            raise WorkerLostError("the writer died")

    store, sink = Dying(), RecordingSink()
    store.ensure(SPEC)
    report = pipeline_on(store, sink, media=Gone()).run(batch(item(0, "a", data=b"parts:3")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED}
    assert store.count(Collection.TEXT) == 0


def test_dead_letters_wait_for_a_store_that_is_away() -> None:
    class Away(MemoryStore):
        answers = iter([False, False])

        def asset_rows(self, asset_ids: Sequence[str]) -> Any:
            if next(self.answers, True):
                return super().asset_rows(asset_ids)
            raise UnavailableError("the store is away")

    store, sink = Away(), RecordingSink()
    store.ensure(SPEC)
    report = pipeline_on(store, sink).run(batch(item(0, "a", data=b"bad")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED}
    assert len(sink.letters) == 1
