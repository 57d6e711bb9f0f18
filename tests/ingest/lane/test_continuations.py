from __future__ import annotations

from penstock.broker.base import Partition
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.continuations import Continuation
from penstock.records import Assignment, MediaPosition, Record
from tests.clock import Clock
from tests.ingest.builders import event

TOPIC = "media.audio"
PARTITION = Partition(TOPIC, 0)


def recording(offset: int, tenant: str = "tenant", key: str = "") -> Delivery:
    parsed = event(offset, key or f"{tenant}-{offset}", topic=TOPIC, tenant=tenant)
    return Delivery(Record(parsed.position, b"", b"v", (), 0), Assignment(TOPIC, 0, 1), parsed)


def batcher(*deliveries: Delivery, clock: Clock | None = None, max_continuations: int = 1) -> Batcher:
    new = Batcher(BatchLimits(8, 1_000, 0.0, 4, max_continuations=max_continuations), clock or Clock())
    for delivery in deliveries:
        new.add(delivery)
    return new


def taken(batcher: Batcher) -> Batch:
    batch = batcher.next_batch()
    assert batch is not None
    return batch


def at(scanned_ms: int) -> MediaPosition:
    return MediaPosition(0, 0, scanned_ms)


def test_tenants_take_turns_and_so_do_the_events_of_one() -> None:
    recordings = [recording(0, "many"), recording(1, "many"), recording(2, "many"), recording(3, "few")]
    queue = batcher(*recordings)
    queue.release(taken(queue), continuations=[Continuation(delivery, at(1)) for delivery in recordings])
    order = []
    for number in range(8):
        batch = taken(queue)
        assert batch.is_continuation
        assert queue.next_batch() is None, "one is in flight, the limit"
        order.append(batch.deliveries[0].record.position.offset)
        queue.release(batch, continuations=[Continuation(batch.deliveries[0], at(2 + number))])
    assert order == [0, 3, 1, 3, 2, 3, 0, 3]
    assert queue.queued_bytes == sum(delivery.record.accounted_bytes for delivery in recordings)
    queue.drop([PARTITION], beyond={PARTITION: 100})
    assert queue.queued_bytes == 0
    assert not queue.has_queued(PARTITION)


def test_a_continuation_that_made_no_progress_is_due_after_a_second() -> None:
    clock = Clock()
    queue = batcher(recording(0), clock=clock)
    for expected_due_s in (None, 1.0):
        batch = taken(queue)
        queue.release(batch, continuations=[Continuation(batch.deliveries[0], at(5_000))])
        assert queue.next_due_s() == (expected_due_s or clock.now_s)
    assert queue.next_batch() is None
    clock.now_s = 1.0
    assert taken(queue).deliveries[0].record.position.offset == 0


def test_short_media_do_not_wait_for_long_media_in_flight() -> None:
    queue = batcher(recording(0))
    batch = taken(queue)
    queue.release(batch, continuations=[Continuation(batch.deliveries[0], at(1))])
    assert taken(queue).is_continuation
    queue.add(recording(1))
    assert not taken(queue).is_continuation


def test_a_newer_version_waits_for_an_event_that_is_partly_indexed() -> None:
    queue = batcher(recording(0, key="a"))
    batch = taken(queue)
    queue.add(recording(1, key="a"))
    queue.release(batch, continuations=[Continuation(batch.deliveries[0], at(1))])
    segment = taken(queue)
    assert segment.is_continuation
    assert queue.next_batch() is None
    queue.release(segment)
    assert taken(queue).deliveries[0].record.position.offset == 1


def test_an_event_of_which_nothing_is_indexed_yields_to_a_newer_version() -> None:
    queue = batcher(recording(0, key="a"))
    batch = taken(queue)
    queue.add(recording(1, key="a"))
    queue.release(batch, continuations=[Continuation(batch.deliveries[0], at(0))])
    batch = taken(queue)
    assert not batch.is_continuation
    assert sorted(delivery.record.position.offset for delivery in batch.deliveries) == [0, 1]


def test_progress_is_known_until_the_event_ends() -> None:
    queue = batcher(recording(0), recording(1))
    batch = taken(queue)
    queue.release(batch, continuations=[Continuation(delivery, at(7)) for delivery in batch.deliveries])
    assert [progress.position for progress in queue.long_media_progress] == [at(7), at(7)]
    segment = taken(queue)
    assert len(queue.long_media_progress) == 2, "also while a segment is in flight"
    queue.release(segment)
    assert len(queue.long_media_progress) == 1
    queue.forget(PARTITION)
    assert list(queue.long_media_progress) == []


def test_dropping_a_partition_frees_the_assets_of_its_continuations() -> None:
    queue = batcher(recording(0, key="a"))
    batch = taken(queue)
    queue.release(batch, continuations=[Continuation(batch.deliveries[0], at(1))])
    queue.add(recording(1, key="a"))
    dropped = queue.drop([PARTITION])
    assert sorted(delivery.record.position.offset for delivery in dropped) == [0, 1]
    queue.add(recording(2, key="a"))
    assert taken(queue).deliveries[0].record.position.offset == 2
