"""The conclusions from worker losses, and the isolation of an event that causes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from penstock.errors import PermanentError, Reason, WorkerBrokenError, WorkerLostError
from penstock.ingest.pipeline.recovery import CrashTally, Verdict
from penstock.records import AssetRow, Collection, Encoded, EncoderInput, Entry, Event, Outcome
from penstock.store.memory import MemoryStore
from tests.ingest.builders import batch, delivery, outcomes
from tests.ingest.doubles import SPEC, RecordingSink, ScriptedEncoder, ScriptedMedia, memory_store, pipeline_on, text_of

RETRY, SPLIT, REJECT = Verdict.RETRY, Verdict.SPLIT, Verdict.REJECT
CRASH = WorkerLostError("its call was running", blamed=True)
HANG = WorkerLostError("its call took too long", blamed=True, hung=True)
OOM = WorkerLostError("its call was running when the node was full", starved=True)
UNKNOWN = WorkerLostError("its call was queued")


@pytest.mark.parametrize(
    ("losses", "of_many", "of_half", "of_one"),
    [
        pytest.param([CRASH], RETRY, SPLIT, RETRY, id="one crash may be chance, unless in half of a batch"),
        pytest.param([CRASH] * 2, SPLIT, SPLIT, RETRY, id="two crashes"),
        pytest.param([CRASH] * 3, SPLIT, SPLIT, REJECT, id="three crashes"),
        pytest.param([HANG], SPLIT, SPLIT, RETRY, id="one hang costs enough time"),
        pytest.param([HANG] * 3, SPLIT, SPLIT, REJECT, id="three hangs"),
        pytest.param([OOM] * 2, RETRY, RETRY, RETRY, id="two kills for memory may be due to others"),
        pytest.param([OOM] * 3, SPLIT, SPLIT, RETRY, id="three kills for memory: the batch may be too large"),
        pytest.param([OOM] * 4, SPLIT, SPLIT, RETRY, id="the fourth kill for memory is attributed"),
        pytest.param([OOM] * 6, SPLIT, SPLIT, REJECT, id="three attributed kills for memory"),
        pytest.param([OOM] * 4 + [CRASH] * 2, SPLIT, SPLIT, REJECT, id="attributed kills and crashes add up"),
        pytest.param([OOM] * 4 + [UNKNOWN] * 9, SPLIT, SPLIT, RETRY, id="kills for memory blame no other loss"),
        pytest.param([UNKNOWN] * 2, RETRY, RETRY, RETRY, id="two losses of unknown cause are mostly due to others"),
        pytest.param([UNKNOWN] * 3, SPLIT, SPLIT, RETRY, id="three losses of unknown cause"),
        pytest.param([UNKNOWN] * 99, SPLIT, SPLIT, RETRY, id="no loss of unknown cause ever rejects"),
        pytest.param([UNKNOWN, CRASH, UNKNOWN], RETRY, SPLIT, RETRY, id="causes are counted apart"),
    ],
)
def test_the_verdict_follows_from_the_attributed_losses(
    losses: Sequence[WorkerLostError], of_many: Verdict, of_half: Verdict, of_one: Verdict
) -> None:
    for is_suspect, size, verdict in ((False, 8, of_many), (True, 4, of_half), (True, 1, of_one), (False, 1, of_one)):
        tally = CrashTally(is_suspect)
        for loss in losses:
            tally.record(loss, confirmed=lambda: True)
        assert tally.verdict(losses[-1], size) is verdict, (is_suspect, size)


def test_a_loss_that_is_not_confirmed_counts_for_nothing() -> None:
    tally = CrashTally()
    for _ in range(99):
        tally.record(CRASH, confirmed=lambda: False)
    assert (tally.attributed, tally.unattributed) == (0, 0)
    assert tally.verdict(CRASH, 1) is RETRY


def test_only_losses_that_seem_the_batchs_own_are_confirmed() -> None:
    def confirm() -> bool:
        raise AssertionError("probes the workers")

    tally = CrashTally()
    for loss in (UNKNOWN, OOM, OOM, OOM):
        tally.record(loss, confirmed=confirm)
    assert (tally.attributed, tally.unattributed, tally.oom_kills) == (0, 4, 3)


def test_an_event_that_crashes_three_workers_is_isolated_and_dead_lettered() -> None:
    store, sink = memory_store(), RecordingSink()
    deliveries = [delivery(offset, f"k{offset}", data=b"kills" if offset == 5 else b"v") for offset in range(8)]
    report = pipeline_on(store, sink).run(batch(*deliveries))
    assert outcomes(report) == {
        offset: Outcome.DEAD_LETTERED if offset == 5 else Outcome.INDEXED for offset in range(8)
    }
    assert [letter.reason for letter in sink.letters] == [Reason.CRASHES_WORKER]


def test_an_event_that_breaks_the_encoders_device_is_isolated_and_others_pass_on_new_workers() -> None:
    class Fragile(ScriptedEncoder):
        """Fails permanently after "breaks", as CUDA does after a device-side assert."""

        lost = False

        def encode(self, batch: EncoderInput) -> Encoded:
            self.lost = self.lost or "breaks" in batch.texts
            if self.lost:
                raise WorkerBrokenError("CUDA error: device-side assert triggered")
            return super().encode(batch)

    store, sink = memory_store(), RecordingSink()
    deliveries = [delivery(offset, f"k{offset}", data=b"breaks" if offset == 5 else b"v") for offset in range(8)]
    report = pipeline_on(store, sink, make_encoder=Fragile).run(batch(*deliveries))
    assert outcomes(report) == {
        offset: Outcome.DEAD_LETTERED if offset == 5 else Outcome.INDEXED for offset in range(8)
    }
    assert [letter.reason for letter in sink.letters] == [Reason.CRASHES_WORKER]


def test_a_batch_that_hangs_its_worker_is_split_after_the_first_time() -> None:
    class Slow(ScriptedMedia):
        tried: ClassVar[list[int]] = []

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.tried.append(len(events))
            if len(events) > 2:
                raise WorkerLostError("took too long", blamed=True, hung=True)
            return super().fetch_and_decode(events, roles)

    report = pipeline_on(memory_store(), RecordingSink(), media=Slow()).run(
        batch(*(delivery(n, f"k{n}") for n in range(8)))
    )
    assert outcomes(report) == dict.fromkeys(range(8), Outcome.INDEXED)
    assert Slow.tried == [8, 4, 2, 2, 4, 2, 2]


class BrokenWorkers(ScriptedMedia):
    """Workers that die of every event, `deaths` times in all; after that they are healthy."""

    def __init__(self, deaths: int, *, blamed: bool = True, starved: bool = False) -> None:
        self.deaths = deaths
        self._blamed = blamed
        self._starved = starved

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
        if self.deaths:
            self.deaths -= 1
            raise WorkerLostError("died", blamed=self._blamed, starved=self._starved)
        return super().fetch_and_decode(events, roles)


def test_no_event_is_rejected_while_no_known_good_event_passes() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink, media=BrokenWorkers(deaths=40)).run(batch(delivery(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_a_call_that_was_queued_at_a_crashed_worker_is_not_blamed() -> None:
    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink, media=BrokenWorkers(deaths=9, blamed=False)).run(batch(delivery(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}


def test_a_batch_whose_workers_are_killed_for_memory_a_few_times_is_not_blamed() -> None:
    store, sink = memory_store(), RecordingSink()
    media = BrokenWorkers(deaths=3, blamed=False, starved=True)
    report = pipeline_on(store, sink, media=media).run(batch(*(delivery(n, f"k{n}") for n in range(4))))
    assert outcomes(report) == dict.fromkeys(range(4), Outcome.INDEXED)


def test_kills_for_memory_blame_no_call_that_is_lost_for_another_reason() -> None:
    class Dying(ScriptedMedia):
        """Four workers are killed because their node is full, then others while this call is queued behind theirs."""

        deaths = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            if text_of(events[0]) != "good" and self.deaths < 12:
                self.deaths += 1
                raise WorkerLostError("died", starved=self.deaths <= 4)
            return super().fetch_and_decode(events, roles)

    store, sink = memory_store(), RecordingSink()
    report = pipeline_on(store, sink, media=Dying()).run(batch(delivery(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_a_batch_that_keeps_losing_workers_for_unknown_reasons_is_split_until_it_fits() -> None:
    class Small(ScriptedMedia):
        """A fetch worker with memory for two claim checks; it keeps no journal, as it serves several calls."""

        tried: ClassVar[list[int]] = []

        def fetch(self, events: Sequence[Event]) -> tuple[Event, ...]:
            self.tried.append(len(events))
            assert len(self.tried) < 40
            if len(events) > 2:
                raise WorkerLostError("the fetch worker was killed: OOM")
            return super().fetch(events)

    sink = RecordingSink()
    claims = [delivery(n, f"k{n}", data=None, claim=f"s3://b/{n}") for n in range(8)]
    report = pipeline_on(memory_store(), sink, media=Small()).run(batch(*claims))
    assert outcomes(report) == dict.fromkeys(range(8), Outcome.INDEXED)
    assert Small.tried == [8, 8, 8, 4, 4, 4, 2, 2, 4, 4, 4, 2, 2]
    assert sink.letters == []


def test_a_batch_too_large_for_the_writer_is_split_until_it_fits() -> None:
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
    report = pipeline_on(store, sink).run(batch(*(delivery(n, f"k{n}") for n in range(8))))
    assert outcomes(report) == dict.fromkeys(range(8), Outcome.INDEXED)
    assert sink.letters == []


def test_an_event_to_which_no_loss_is_attributed_is_retried_without_limit() -> None:
    class Dying(MemoryStore):
        deaths = 0

        def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
            self.deaths += 1
            if self.deaths < 50:
                raise WorkerLostError("the writer died", blamed=True)
            super().put_asset_rows(asset_rows)

    store, sink = Dying(), RecordingSink()
    store.ensure(SPEC)
    report = pipeline_on(store, sink).run(batch(delivery(0, "a")))
    assert outcomes(report) == {0: Outcome.INDEXED}
    assert sink.letters == []


def test_an_event_that_exhausts_the_memory_is_isolated_and_others_are_indexed() -> None:
    class Hungry(ScriptedMedia):
        calls = 0

        def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> Any:
            self.calls += 1
            if any(text_of(event) == "bomb" for event in events):
                raise WorkerLostError("out of memory", starved=True)
            return super().fetch_and_decode(events, roles)

    sink, media = RecordingSink(), Hungry()
    deliveries = [delivery(n, f"k{n}", data=b"bomb" if n == 5 else b"good") for n in range(8)]
    report = pipeline_on(memory_store(), sink, media=media).run(batch(*deliveries))
    assert outcomes(report) == {
        **dict.fromkeys(range(8), Outcome.INDEXED), 5: Outcome.DEAD_LETTERED
    }  # fmt: skip
    assert [letter.reason for letter in sink.letters] == [Reason.CRASHES_WORKER]
    assert media.calls < 40


def test_an_event_that_the_store_refuses_is_isolated_and_dead_lettered() -> None:
    store, sink = memory_store(), RecordingSink()
    upsert = store.upsert

    def picky(collection: Collection, entries: Sequence[Entry]) -> None:
        if any(entry.text == "refused" for entry in entries):
            raise PermanentError("a field is too long")
        upsert(collection, entries)

    store.upsert = picky  # type: ignore[method-assign]
    deliveries = [delivery(offset, f"k{offset}", data=b"refused" if offset == 2 else b"v") for offset in range(4)]
    report = pipeline_on(store, sink).run(batch(*deliveries))
    assert outcomes(report)[2] is Outcome.DEAD_LETTERED
    assert sink.letters[0].reason is Reason.REFUSED
    assert store.count(Collection.TEXT) == 3
