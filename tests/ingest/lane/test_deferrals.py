"""Records of a tenant at its quota are left in Kafka and read again, over a broker in memory and without threads."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from penstock.broker.base import Message, Partition
from penstock.broker.memory.broker import MemoryBroker
from penstock.config import QuotaSettings, TenantQuota
from penstock.ingest.delivery import Delivery
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.deferrals import Deferrals
from penstock.ingest.lane.offsets import OffsetLedger
from penstock.ingest.lane.quotas import TenantQuotas
from penstock.records import Record
from tests.clock import Clock
from tests.ingest.builders import TOPIC, event

PARTITION = Partition(TOPIC, 0)
FLOODING, QUIET = "flooding", "quiet"


class Receiver:
    """The part of a lane that receives and dispatches; every batch is settled immediately."""

    def __init__(self, *, max_in_flight_bytes: int = 80_000, quotas: Mapping[str, float] | None = None) -> None:
        self.clock = Clock()
        self.broker = MemoryBroker()
        self.broker.create_topic(TOPIC, 1)
        self.consumer = self.broker.consumer("group", [TOPIC], drain_timeout_s=1.0)
        self.offsets = OffsetLedger()
        of_tenants = {tenant: TenantQuota(events_per_s=rate) for tenant, rate in (quotas or {FLOODING: 100.0}).items()}
        shared = TenantQuotas(QuotaSettings(tenants=of_tenants), lanes=1, clock=self.clock)
        self.batcher = Batcher(BatchLimits(8, 100_000, 0.0, 4, max_events=64), self.clock, shared)
        self.deferrals = Deferrals(self.consumer, self.offsets, self.batcher, max_in_flight_bytes, self.clock)
        self.settled: list[tuple[str, int]] = []
        self.read = 0

    def produce(self, tenant: str, count: int) -> None:
        for _ in range(count):
            self.broker.append(Message(TOPIC, tenant.encode(), b"v"))

    def turn(self, seconds: float = 0.02) -> None:
        polled = self.consumer.poll(0.0, 200)
        for assigned in polled.assigned:
            self.offsets.assign(assigned.assignment, assigned.start)
        for record in polled.records:
            self._receive(record)
        while (batch := self.batcher.next_batch()) is not None:
            for member in batch.deliveries:
                assert self.offsets.complete(member.assignment, member.record.position.offset)
                self.settled.append((member.tenant, member.record.position.offset))
            self.batcher.release(batch)
        self.deferrals.update(set())
        self.clock.now_s += seconds

    def _receive(self, record: Record) -> None:
        self.read += 1
        position, tenant = record.position, (record.key or b"").decode()
        is_new = self.offsets.track(position)
        if not is_new and not self.deferrals.takes(position):
            return
        if is_new and self.deferrals.defers(position, tenant):
            return
        assignment = self.offsets.assignment(PARTITION)
        assert assignment is not None
        # Each event has an asset of its own, so that none is held behind another.
        parsed = event(position.offset, f"k{position.offset}", tenant=tenant)
        self.batcher.add(Delivery(record, assignment, parsed))

    def settled_of(self, tenant: str) -> list[int]:
        return [offset for name, offset in self.settled if name == tenant]


def test_a_quiet_tenant_is_processed_though_thousands_of_a_flood_lie_before_it_in_its_partition() -> None:
    receiver = Receiver()
    receiver.produce(FLOODING, 2_000)
    receiver.produce(QUIET, 1)
    for _ in range(25):  # half a second: 200 records a turn
        receiver.turn()
    assert receiver.settled_of(QUIET) == [2_000]
    assert len(receiver.settled_of(FLOODING)) < 200
    assert receiver.batcher.queued_bytes < 80_000
    assert receiver.offsets.offset_to_commit(PARTITION) < 200


def test_all_deferred_records_are_read_again_in_their_order_and_committed() -> None:
    receiver = Receiver(max_in_flight_bytes=3_200_000)  # of which the tenant may hold 390 records
    receiver.produce(FLOODING, 1_700)
    receiver.produce(QUIET, 5)
    receiver.produce(FLOODING, 300)
    for _ in range(1_200):
        receiver.turn()
    assert receiver.settled_of(FLOODING) == [*range(1_700), *range(1_705, 2_005)]
    assert receiver.offsets.offset_to_commit(PARTITION) == 2_005
    assert receiver.deferrals.waiting == {}
    # Each is read twice, and some of a poll's behind them: a lane that took few at a time would read far more.
    assert receiver.read < 4 * 2_005


def test_records_that_arrive_while_older_ones_of_their_tenant_are_deferred_wait_behind_them() -> None:
    receiver = Receiver(max_in_flight_bytes=400_000)
    receiver.produce(FLOODING, 500)
    for _ in range(10):
        receiver.turn()
    assert receiver.deferrals.waiting[FLOODING] > 0
    receiver.produce(FLOODING, 1)
    for _ in range(400):
        receiver.turn()
    assert receiver.settled_of(FLOODING) == list(range(501))


def test_a_tenant_below_its_quota_defers_nothing() -> None:
    receiver = Receiver()
    for _ in range(50):
        receiver.produce(FLOODING, 1)  # 50 a second
        receiver.turn()
        assert receiver.deferrals.waiting == {}
    assert receiver.read == 50


def test_deferred_records_that_retention_removed_hold_no_commit_back() -> None:
    receiver = Receiver()
    receiver.produce(FLOODING, 1_000)
    for _ in range(10):
        receiver.turn()
    first = receiver.offsets.offset_to_commit(PARTITION)
    receiver.broker.expire(PARTITION, 900)
    receiver.produce(QUIET, 1)
    for _ in range(600):
        receiver.turn()
    assert receiver.offsets.offset_to_commit(PARTITION) == 1_001
    assert set(range(900, 1_000)) <= set(receiver.settled_of(FLOODING))
    assert first < 900


def test_a_partition_that_is_halted_or_lost_forgets_its_deferred_offsets() -> None:
    receiver = Receiver()
    receiver.produce(FLOODING, 1_000)
    for _ in range(6):
        receiver.turn()
    assert receiver.deferrals.waiting
    receiver.deferrals.update({PARTITION})
    assert receiver.deferrals.waiting == {}
    assert receiver.deferrals.reading_back == set()


def delays_of_quiet(flood_per_turn: int) -> list[int]:
    """Returns the turns from producing to settling of a quiet tenant's events, one in ten turns, for 16 seconds."""
    receiver = Receiver(max_in_flight_bytes=3_200_000)
    receiver.turn()
    produced: list[int] = []
    delays: list[int] = []
    for turn in range(800):
        receiver.produce(FLOODING, flood_per_turn)
        if turn % 10 == 0:
            receiver.produce(QUIET, 1)
            produced.append(turn)
        receiver.turn()
        delays += [turn - at + 1 for at in produced[len(delays) : len(receiver.settled_of(QUIET))]]
    assert len(delays) >= len(produced) - 1
    return sorted(delays)


def test_a_flood_at_ten_times_its_quota_does_not_double_the_delay_of_another_tenant() -> None:
    alone, beside = delays_of_quiet(0), delays_of_quiet(20)  # 1,000 events a second, of which 100 are its quota
    p95 = round(0.95 * len(alone)) - 1
    assert beside[p95] <= 2 * alone[p95]
    assert beside[-1] <= 5  # also while deferred records are read back


# --- several tenants at their quotas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["first", "second"])
def test_a_log_that_ends_with_deferred_records_is_settled_though_nothing_is_produced_any_more(last: str) -> None:
    receiver = Receiver(max_in_flight_bytes=400_000, quotas={"first": 100.0, "second": 100.0})
    for _ in range(10):
        receiver.produce("first", 100)
        receiver.produce("second", 100)
    receiver.produce(last, 1)
    for _ in range(1_200):  # 24 s, of which 10 are the quota's
        receiver.turn()
    assert len(receiver.settled) == 2_001
    assert receiver.offsets.offset_to_commit(PARTITION) == 2_001
    assert receiver.deferrals.reading_back == set()


@pytest.mark.parametrize(
    ("number", "rate", "block"),
    [
        (50, 4.0, 1),  # in turn: one read-back serves all of them
        (40, 50.0, 600),  # one after another: always one has room, and each needs a read-back of its own
    ],
)
def test_a_backlog_of_many_tenants_leaves_half_of_the_time_to_the_head(number: int, rate: float, block: int) -> None:
    tenants = [f"tenant {number}" for number in range(number)]
    receiver = Receiver(max_in_flight_bytes=6_400_000, quotas=dict.fromkeys(tenants, rate))
    rounds = 12_000 // (number * block) or 1
    for _ in range(rounds):
        for tenant in tenants:
            receiver.produce(tenant, block)
    produced: list[int] = []
    delays: list[int] = []
    for turn in range(750):  # 15 s
        if turn % 25 == 0:
            receiver.produce(QUIET, 1)
            produced.append(turn)
        receiver.turn()
        delays += [turn - at + 1 for at in produced[len(delays) : len(receiver.settled_of(QUIET))]]
    assert len(delays) >= len(produced) - 2
    assert max(delays[5:]) <= 30  # turns of 20 ms; a read-back takes 25
    flood = len(receiver.settled) - len(delays)
    assert flood >= 0.8 * min(15 * number * rate, rounds * number * block)
    assert receiver.read < 8 * flood


def test_a_tenant_whose_records_lie_far_behind_those_of_another_with_room_has_its_turn() -> None:
    receiver = Receiver(max_in_flight_bytes=3_200_000, quotas={"first": 300.0, "behind": 100.0})
    receiver.produce("first", 12_000)
    receiver.produce("behind", 900)  # of which the lane can hold 390
    for _ in range(550):  # 11 s
        receiver.turn()
    assert receiver.settled_of("behind") == list(range(12_000, 12_900))
    assert receiver.settled_of("first") == list(range(len(receiver.settled_of("first"))))
    assert 3_000 < len(receiver.settled_of("first")) < 4_000
