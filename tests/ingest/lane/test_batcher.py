from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.base import Partition
from penstock.config import QuotaSettings, TenantQuota
from penstock.errors import Reason
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.quotas import TenantQuotas
from penstock.records import Position, Rejected
from tests.clock import Clock
from tests.ingest.builders import TOPIC, delivery, event


def batcher(
    clock: Clock | None = None, *, events: int = 4, size_bytes: int = 1_000, linger_s: float = 1.0, in_flight: int = 8
) -> Batcher:
    return Batcher(BatchLimits(events, size_bytes, linger_s, in_flight), clock or Clock())


def offsets(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [member.record.position.offset for member in batch.deliveries]


def test_a_batch_goes_when_it_has_enough_events() -> None:
    queue = batcher()
    for offset in range(4):
        assert queue.next_batch() is None
        queue.add(delivery(offset, f"k{offset}"))
    queue.add(delivery(4, "k4"))
    assert offsets(queue.next_batch()) == [0, 1, 2, 3]
    assert queue.next_batch() is None


def test_a_batch_goes_when_it_has_enough_bytes() -> None:
    queue = batcher(size_bytes=100)
    queue.add(delivery(0, "a", data=b"x" * 60))
    assert queue.next_batch() is None
    queue.add(delivery(1, "b", data=b"x" * 60))
    assert offsets(queue.next_batch()) == [0]


def test_an_event_larger_than_a_batch_goes_alone() -> None:
    queue = batcher(size_bytes=10)
    queue.add(delivery(0, "a", data=b"x" * 60))
    assert offsets(queue.next_batch()) == [0]


def test_a_batch_goes_when_its_first_event_has_lingered() -> None:
    clock = Clock()
    queue = batcher(clock, linger_s=1.0)
    queue.add(delivery(0, "a"))
    assert queue.next_due_s() == 1.0
    clock.now_s = 0.9
    assert queue.next_batch() is None
    clock.now_s = 1.0
    assert offsets(queue.next_batch()) == [0]


def test_an_event_waits_while_its_asset_is_in_flight_and_others_pass_it() -> None:
    queue = batcher(linger_s=0.0)
    queue.add(delivery(0, "a"))
    first = queue.next_batch()
    queue.add(delivery(1, "a"))
    queue.add(delivery(2, "b"))
    assert offsets(queue.next_batch()) == [2]
    assert queue.next_batch() is None
    assert first is not None
    queue.release(first)
    assert offsets(queue.next_batch()) == [1]


def test_events_held_behind_an_asset_keep_their_order() -> None:
    queue = batcher(linger_s=0.0, events=2)
    queue.add(delivery(0, "a"))
    first = queue.next_batch()
    for offset in (1, 2, 3):
        queue.add(delivery(offset, "a"))
    assert first is not None
    queue.release(first)
    second = queue.next_batch()
    assert offsets(second) == [1, 2]
    assert queue.next_batch() is None
    assert second is not None
    queue.release(second)
    assert offsets(queue.next_batch()) == [3]


def test_topics_and_claim_checks_have_batches_of_their_own() -> None:
    queue = batcher(linger_s=0.0)
    queue.add(delivery(0, "a"))
    queue.add(delivery(1, "b", claim="https://example.org/x"))
    queue.add(delivery(2, "c", topic="media.image"))
    batches = [offsets(queue.next_batch()) for _ in range(3)]
    assert sorted(batches) == [[0], [1], [2]]


def test_a_batch_of_claim_checks_is_small_since_their_media_may_be_large() -> None:
    queue = batcher(linger_s=0.0, events=32)
    for offset in range(10):
        queue.add(delivery(offset, f"k{offset}", claim="https://example.org/x"))
    assert len(offsets(queue.next_batch())) == 8


def test_the_number_of_batches_of_a_topic_in_flight_is_limited() -> None:
    queue = batcher(linger_s=0.0, events=1, in_flight=2)
    for offset in range(3):
        queue.add(delivery(offset, f"k{offset}"))
    first = queue.next_batch()
    assert queue.next_batch() is not None
    assert queue.next_batch() is None
    assert first is not None
    queue.release(first)
    assert offsets(queue.next_batch()) == [2]


def test_a_record_that_cannot_be_parsed_waits_for_no_asset() -> None:
    queue = batcher(linger_s=0.0)
    queue.add(delivery(0, "a"))
    queue.next_batch()
    rejected = Rejected(Position(TOPIC, 0, 1), "receive", Reason.MALFORMED, "no")
    queue.add(delivery(1, "a", rejected=rejected))
    assert offsets(queue.next_batch()) == [1]


def test_dropping_a_partition_removes_its_queued_and_held_deliveries() -> None:
    queue = batcher(linger_s=0.0)
    queue.add(delivery(0, "a", partition=0))
    flying = queue.next_batch()
    queue.add(delivery(1, "a", partition=0))
    queue.add(delivery(2, "b", partition=0))
    queue.add(delivery(0, "c", partition=1))
    dropped = queue.drop([Partition(TOPIC, 0)])
    assert sorted(member.record.position.offset for member in dropped) == [1, 2]
    assert offsets(queue.next_batch()) == [0]
    assert flying is not None
    queue.release(flying)
    assert queue.next_batch() is None
    assert queue.queued_bytes == 0


def test_dropping_beyond_an_offset_keeps_the_deliveries_below_it() -> None:
    queue = batcher(linger_s=0.0)
    queue.add(delivery(0, "a"))
    flying = queue.next_batch()
    assert flying is not None
    queue.add(delivery(1, "a"))
    queue.add(delivery(3, "a"))
    queue.add(delivery(2, "b"))
    queue.add(delivery(4, "c"))
    partition = flying.deliveries[0].partition
    assert sorted(member.record.position.offset for member in queue.drop([partition], beyond={partition: 2})) == [
        3,
        4,
    ]
    assert queue.has_queued(partition)
    assert offsets(queue.next_batch()) == [2]
    queue.release(flying)
    assert offsets(queue.next_batch()) == [1]
    assert not queue.has_queued(partition)


def test_dropping_no_partition_reads_no_queued_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = batcher()
    queue.add(delivery(0))
    monkeypatch.setattr(Delivery, "partition", property(lambda _: pytest.fail("looked at")))
    assert queue.drop([]) == []


@given(st.data())
def test_two_events_of_one_asset_are_never_in_flight_together_and_none_is_forgotten(data: st.DataObject) -> None:
    queue = batcher(linger_s=0.0, events=data.draw(st.integers(1, 4)), in_flight=data.draw(st.integers(1, 3)))
    keys = data.draw(st.lists(st.sampled_from("abcde"), max_size=40))
    flying: list[Batch] = []
    last_done: dict[str, int] = {}
    taken: list[int] = []
    remaining = list(enumerate(keys))
    while remaining or flying or queue.queued_bytes:
        step = data.draw(st.sampled_from(["add", "take", "finish"]))
        if step == "add" and remaining:
            offset, key = remaining.pop(0)
            queue.add(delivery(offset, key))
        elif step == "finish" and flying:
            queue.release(flying.pop(data.draw(st.integers(0, len(flying) - 1))))
        else:
            batch = queue.next_batch()
            if batch is None:
                if not remaining and flying:
                    queue.release(flying.pop())
                elif remaining:
                    offset, key = remaining.pop(0)
                    queue.add(delivery(offset, key))
                continue
            flying.append(batch)
            in_flight = [asset for other in flying for asset in {member.asset_id for member in other.deliveries}]
            assert len(in_flight) == len(set(in_flight))
            for member in batch.deliveries:
                offset = member.record.position.offset
                assert last_done.get(str(member.asset_id), -1) < offset
                last_done[str(member.asset_id)] = offset
                taken.append(offset)
    assert sorted(taken) == list(range(len(keys)))


# --- batches that grow -----------------------------------------------------------------------------------------------


def growing(clock: Clock | None = None, *, in_flight: int = 1) -> Batcher:
    """Due at 4 events, up to 32 where the slowest step stays within a second."""
    limits = BatchLimits(4, 100_000, 1.0, in_flight, max_events=32, max_step_s=1.0)
    return Batcher(limits, clock or Clock())


def settled(queue: Batcher, slowest_s: float | None) -> int:
    """Takes a batch and settles it; how many events it had."""
    batch = queue.next_batch()
    assert batch is not None
    queue.release(batch, slowest_s)
    return len(batch.deliveries)


def filled(queue: Batcher, events: int) -> Batcher:
    for offset in range(events):
        queue.add(delivery(offset, f"k{offset}"))
    return queue


def test_batches_double_while_more_events_wait_and_the_steps_are_quick() -> None:
    queue = filled(growing(), 200)
    assert [settled(queue, 0.001) for _ in range(6)] == [4, 8, 16, 32, 32, 32]


def test_a_batch_takes_no_more_than_the_slowest_step_can_process_in_its_time() -> None:
    queue = filled(growing(), 200)
    assert [settled(queue, events * 0.1) for events in (4, 8, 10, 10)] == [4, 8, 10, 10]


def test_batches_shrink_again_when_a_step_becomes_slow_but_never_below_what_makes_them_due() -> None:
    queue = filled(growing(), 200)
    assert [settled(queue, slowest_s) for slowest_s in (0.1, 0.1, 0.1, 32.0, 9.0)] == [4, 8, 16, 32, 4]
    assert settled(queue, 9.0) == 4


def test_enough_events_go_immediately_though_a_batch_could_be_larger() -> None:
    queue = filled(growing(), 4 + 8 + 5)
    assert [settled(queue, 0.001) for _ in range(3)] == [4, 8, 5]


def test_a_batch_that_was_given_up_does_not_change_the_size_of_the_next() -> None:
    queue = filled(growing(), 50)
    assert [settled(queue, slowest_s) for slowest_s in (0.1, None, None)] == [4, 8, 8]


def test_batches_do_not_grow_unless_they_may() -> None:
    queue = filled(batcher(), 20)
    assert [settled(queue, 0.0) for _ in range(3)] == [4, 4, 4]


def test_a_grown_batch_keeps_to_its_bytes() -> None:
    limits = BatchLimits(2, 100, 1.0, 1, max_events=32, max_step_s=1.0)
    queue = Batcher(limits, Clock())
    for offset in range(8):
        queue.add(delivery(offset, f"k{offset}", data=b"x" * 30))
    sizes = [settled(queue, 0.001) for _ in range(3)]
    assert sizes == [2, 3, 3]


# --- tenants in turn -------------------------------------------------------------------------------------------------


def of_tenant(offset: int, tenant: str) -> Delivery:
    return replace(delivery(offset), parsed=event(offset, f"{tenant}{offset}", tenant=tenant))


def test_a_batch_has_an_event_of_each_tenant_in_turn() -> None:
    queue = batcher(events=4)
    for offset in range(10):
        queue.add(of_tenant(offset, "flooding"))
    queue.add(of_tenant(10, "quiet"))
    assert offsets(queue.next_batch()) == [0, 10, 1, 2]
    queue.add(of_tenant(11, "quiet"))
    queue.add(of_tenant(12, "other"))
    assert offsets(queue.next_batch()) == [3, 11, 12, 4]


def test_events_of_a_tenant_at_its_quota_wait_and_those_of_others_go() -> None:
    clock = Clock()
    quotas = TenantQuotas(QuotaSettings(tenants={"flooding": TenantQuota(events_per_s=2)}), 1, clock)
    queue = Batcher(BatchLimits(4, 1_000, 0.0, 8), clock, quotas)
    for offset in range(10):
        queue.add(of_tenant(offset, "flooding"))
    assert offsets(queue.next_batch()) == [0, 1, 2]
    assert queue.next_batch() is None
    queue.add(of_tenant(10, "quiet"))
    assert offsets(queue.next_batch()) == [10]
    due_s = queue.next_due_s()
    assert due_s == quotas.ready_at_s("flooding") > clock.now_s
    clock.now_s = due_s
    assert offsets(queue.next_batch()) == [3]
    assert queue.queued_bytes == queue.queued_bytes_of("flooding") > 0


def test_a_drain_keeps_no_delivery_of_a_tenant_at_its_quota() -> None:
    clock = Clock()
    quotas = TenantQuotas(QuotaSettings(tenants={"flooding": TenantQuota(events_per_s=2)}), 1, clock)
    queue = Batcher(BatchLimits(4, 1_000, 0.0, 1), clock, quotas)
    for offset in range(10):
        queue.add(of_tenant(offset, "flooding"))
    queue.add(of_tenant(10, "quiet"))
    assert offsets(queue.next_batch()) == [0, 10, 1, 2]
    queue.add(of_tenant(11, "quiet"))
    partition = Partition(TOPIC, 0)
    dropped = queue.drop([partition], beyond={partition: 11})
    assert [member.record.position.offset for member in dropped] == list(range(3, 10))
    assert queue.has_queued(partition)
    assert (queue.queued_bytes_of("flooding"), queue.waiting) == (0, {})


def test_tenants_that_wait_are_looked_at_once_for_a_batch_however_many_events_it_takes() -> None:
    clock, waiting = Clock(), [f"waiting-{number}" for number in range(50)]
    quotas = TenantQuotas(QuotaSettings(tenants={name: TenantQuota(events_per_s=0.01) for name in waiting}), 1, clock)
    queue = Batcher(BatchLimits(100, 100_000, 0.0, 1), clock, quotas)
    for offset, name in enumerate(waiting):
        quotas.take(name, 1)
        queue.add(of_tenant(offset, name))
    for offset in range(50, 150):
        queue.add(of_tenant(offset, "ready"))
    looked: list[str] = []
    is_ready = quotas.is_ready
    quotas.is_ready = lambda tenant: looked.append(tenant) or is_ready(tenant)  # type: ignore[method-assign,func-returns-value]
    assert offsets(queue.next_batch()) == list(range(50, 150))
    assert max(Counter(name for name in looked if name != "ready").values()) <= 2  # is one due, and who goes


def test_topics_whose_deliveries_are_settled_cost_nothing_and_keep_their_size_of_batches() -> None:
    queue = Batcher(BatchLimits(4, 100_000, 0.0, 1, max_events=32, max_step_s=1.0), Clock())
    for number in range(100):
        queue.add(delivery(number, f"k{number}", topic=f"media.{number}"))
    batches = [batch for _ in range(100) if (batch := queue.next_batch()) is not None]
    assert len(batches) == 100
    dropped = delivery(0, "another", topic="media.dropped")
    queue.add(dropped)
    queue.drop([dropped.partition])
    for batch in batches:
        queue.release(batch)
    assert len(queue._queues) == 0
    filled(queue, 4)
    assert settled(queue, 0.01) == 4
    assert len(queue._queues) == 0
    filled(queue, 20)
    assert settled(queue, 0.01) == 8
