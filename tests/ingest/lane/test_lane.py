"""The lane's loop over a broker and a store in memory: membership, backpressure, halting, draining, committing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from penstock.broker.base import Message, PollResult
from penstock.broker.change_messages import parse_change_message
from penstock.broker.headers import ORIGIN, ORIGIN_TIMESTAMP
from penstock.broker.memory.broker import MemoryBroker
from penstock.config import QuotaSettings, TenantQuota
from penstock.errors import PermanentError, Reason, UnavailableError
from penstock.ingest.changes import ChangePublisher
from penstock.ingest.lane import offsets
from penstock.ingest.lane.lane import Lane
from penstock.ingest.lane.quotas import TenantQuotas
from penstock.observability import metrics
from penstock.records import Event, IndexChange, Modality, Outcome, Position, Record, Rejected
from tests.counted import counted
from tests.ingest.builders import TOPIC
from tests.ingest.doubles import RecordingSink
from tests.ingest.lane.harness import GROUP, PARTITIONS, GatedMedia, LaneHarness, eventually, parse_text, running
from tests.replays import as_replay
from tests.store.scans import all_asset_rows


@pytest.fixture
def harness() -> LaneHarness:
    return LaneHarness()


def test_every_event_is_indexed_once_and_committed(harness: LaneHarness) -> None:
    harness.produce(100)
    with running(harness.lane()):
        eventually(lambda: harness.committed() == 100, "all committed")
    assert harness.count() == harness.store.count_assets() == 100


def test_bad_events_are_dead_letters_and_committed(harness: LaneHarness) -> None:
    harness.produce(5)
    harness.produce(1, value=b"bad")
    harness.produce(5)
    with running(harness.lane()):
        eventually(lambda: harness.committed() == 11, "all committed")
    assert (harness.count(), len(harness.sink.letters)) == (10, 1)


def test_nothing_is_committed_before_it_is_settled(harness: LaneHarness) -> None:
    media = GatedMedia()
    harness.produce(10)
    with running(harness.lane(media=media)):
        eventually(lambda: media.seen > 0, "a batch under way")
        assert harness.committed() == 0
        media.open.set()
        eventually(lambda: harness.committed() == 10, "all committed")


def test_partitions_pause_at_the_limit_of_bytes_in_flight_and_polling_continues(harness: LaneHarness) -> None:
    media = GatedMedia()
    lane = harness.lane(media=media, max_in_flight_bytes=3_500)  # three of them, with what each takes beside its value
    with running(lane):
        eventually(lambda: len(lane.assignments()) == 2, "both partitions")
        harness.produce(5, value=b"x" * 100)
        eventually(lambda: "in flight" in lane.status().paused, "paused")
        harness.produce(500, value=b"x" * 100)
        eventually(lambda: lane.status().in_flight_bytes >= 3_500, "bytes in flight")
        assert media.seen < 100
        media.open.set()
        eventually(lambda: harness.committed() == 505, "all committed")
    assert harness.count() == 505


def test_a_full_disk_pauses_with_a_reason_and_ends_by_itself(harness: LaneHarness) -> None:
    harness.refusal = "the disk is full"
    lane = harness.lane()
    with running(lane):
        eventually(lambda: lane.status().paused == "the disk is full", "paused")
        harness.produce(10)
        eventually(lambda: len(lane.assignments()) == 2, "both partitions")
        assert harness.count() == 0
        harness.refusal = ""
        eventually(lambda: harness.committed() == 10, "all committed")


def test_a_partition_halts_if_its_dead_letter_is_refused_and_the_other_continues(harness: LaneHarness) -> None:
    harness.sink = RecordingSink(lambda _: PermanentError("the dead-letter topic takes no such message"))
    harness.produce(1, partition=0, value=b"bad")
    harness.produce(20, partition=1)
    lane = harness.lane()
    with running(lane):
        eventually(lambda: harness.broker.committed(GROUP).get(PARTITIONS[1]) == 20, "the other partition committed")
        eventually(lambda: str(PARTITIONS[0]) in lane.status().halted, "halted")
        harness.produce(5, partition=0)
        assert harness.broker.committed(GROUP).get(PARTITIONS[0], 0) == 0
    assert harness.sink.letters == []


def test_the_smallest_records_pause_partitions_too(harness: LaneHarness) -> None:
    media = GatedMedia()
    lane = harness.lane(media=media, max_in_flight_bytes=100_000)
    with running(lane):
        eventually(lambda: len(lane.assignments()) == 2, "both partitions")
        harness.produce(5_000, value=b"")
        eventually(lambda: "in flight" in lane.status().paused, "paused")
        assert lane.status().in_flight_bytes < 100_000 + 2 * 200 * 2_000, "no more than a poll or two beyond the budget"
        media.open.set()
        eventually(lambda: harness.committed() == 5_000, "all committed", timeout_s=60.0)


def test_a_partition_pauses_at_the_limit_of_offsets_behind_an_incomplete_one(
    harness: LaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsets, "MAX_INCOMPLETE_OFFSETS", 50)
    away = [UnavailableError("the dead-letter topic does not answer")]
    harness.sink = RecordingSink(lambda _: away[0] if away else None)
    harness.produce(1, partition=0, value=b"bad")
    lane = harness.lane()
    with running(lane):
        eventually(lambda: len(lane.assignments()) == 2, "both partitions")
        harness.produce(2_000, partition=0)
        harness.produce(300, partition=1)
        eventually(lambda: str(PARTITIONS[0]) in lane.status().paused, "it pauses and says which one")
        eventually(lambda: harness.broker.committed(GROUP).get(PARTITIONS[1]) == 300, "the other goes on")
        assert lane.status().in_flight_batches == 1
        assert harness.count() < 300 + 50 + 2 * 200
        away.clear()
        eventually(lambda: harness.committed() == 2_301, "all committed")
    assert (harness.count(), len(harness.sink.letters)) == (2_300, 1)


def test_stop_drains_what_is_in_flight_and_commits_it(harness: LaneHarness) -> None:
    media = GatedMedia()
    harness.produce(8, partition=0)
    lane = harness.lane(media=media)
    with running(lane):
        eventually(lambda: media.seen == 8, "a batch under way")
        lane.stop()
        media.open.set()
    assert harness.committed() == 8
    assert sum(lane.status().outcomes.values()) == 8, "the last status counts what was drained"


def _rebalancing(lane: Lane) -> Callable[[], None]:
    """Makes the group of a lane refuse commits; calling the result ends that at the lane's next poll."""
    consumer, over = lane._consumer, threading.Event()
    commit, poll = consumer.commit, consumer.poll
    refuses = True

    def refused(offsets: Any, timeout_s: float) -> None:
        if refuses:
            raise UnavailableError("the group is rebalancing. Poll, then commit again.")
        commit(offsets, timeout_s)

    def polled(timeout_s: float, most: int) -> Any:
        nonlocal refuses
        refuses = refuses and not over.is_set()
        return poll(timeout_s, most)

    consumer.commit, consumer.poll = refused, polled  # type: ignore[method-assign]
    return over.set


def test_a_stop_while_the_group_rebalances_commits_once_it_takes_commits_again(harness: LaneHarness) -> None:
    media = GatedMedia()
    harness.produce(8, partition=0)
    lane = harness.lane(media=media)
    with running(lane):
        eventually(lambda: media.seen == 8, "a batch under way")
        end = _rebalancing(lane)
        lane.stop()
        media.open.set()
        eventually(lambda: not lane._in_flight.batches and not lane._batches._abandon.is_set(), "all is settled")
        end()
    assert harness.committed() == 8


def test_a_revoked_partition_is_released_once_the_group_takes_commits_again(harness: LaneHarness) -> None:
    media = GatedMedia()
    first, second = harness.lane("first", media=media), harness.lane("second")
    harness.produce(8, partition=0)
    harness.produce(8, partition=1)
    with running(first):
        eventually(lambda: first._in_flight.deliveries == 16, "both partitions under way")
        end = _rebalancing(first)
        with running(second):
            eventually(lambda: first._membership.revoking != set(), "a partition is wanted back")
            media.open.set()
            eventually(lambda: not first._in_flight.batches, "all is settled")
            assert second.assignments() == ()
            end()
            eventually(lambda: len(second.assignments()) == 1, "handed over")
            eventually(lambda: harness.committed() == 16, "all committed")
    assert sum(sum(lane.status().outcomes.values()) for lane in (first, second)) == 16, "nothing is done again"


def _held_below_what_went(harness: LaneHarness, lane: Lane) -> None:
    """In both partitions offset 1 waits for offset 0, of the same asset, while offset 2 is under way."""
    for partition in (0, 1):
        harness.produce(1, partition=partition, key=f"same-{partition}")
    eventually(lambda: lane._in_flight.deliveries == 2, "the first ones are under way")
    for partition in (0, 1):
        harness.produce(1, partition=partition, key=f"same-{partition}")
        harness.produce(1, partition=partition)
    eventually(lambda: lane._in_flight.deliveries == 4, "the third ones have passed the second")


def test_stop_drains_events_below_settled_ones_so_that_none_is_repeated(harness: LaneHarness) -> None:
    media = GatedMedia()
    lane = harness.lane(media=media)
    with running(lane):
        _held_below_what_went(harness, lane)
        lane.stop()
        eventually(lambda: lane._flow.paused == set(PARTITIONS), "it takes nothing new in")
        media.open.set()
    assert harness.committed() == 6
    assert sum(lane.status().outcomes.values()) == 6


def test_a_revoked_partition_is_drained_of_events_below_settled_ones(harness: LaneHarness) -> None:
    media = GatedMedia()
    first, second = harness.lane("first", media=media), harness.lane("second")
    with running(first):
        _held_below_what_went(harness, first)
        with running(second):
            eventually(lambda: first._membership.revoking != set(), "a partition is wanted back")
            media.open.set()
            eventually(lambda: len(second.assignments()) == 1, "handed over")
            eventually(lambda: harness.committed() == 6, "all committed")
    assert sum(sum(lane.status().outcomes.values()) for lane in (first, second)) == 6


def _flooding_or_quiet(record: Record) -> Event | Rejected:
    parsed = parse_text(record)
    assert isinstance(parsed, Event)
    tenant = "flooding" if (record.key or b"").startswith(b"flooding") else "quiet"
    return replace(parsed, asset=replace(parsed.asset, tenant=tenant))


def _with_a_backlog_at_its_quota(harness: LaneHarness) -> Lane:
    """In both partitions events of a tenant wait for minutes, and later ones of another tenant are settled."""
    for partition in (0, 1):
        for number in range(5):
            harness.produce(1, partition=partition, key=f"flooding-{partition}-{number}")
        harness.produce(1, partition=partition, key=f"quiet-{partition}")
    quotas = QuotaSettings(tenants={"flooding": TenantQuota(events_per_s=0.001)})
    lane_quotas = TenantQuotas(quotas, 1, time.monotonic)
    return harness.lane("first", parse=_flooding_or_quiet, drain_timeout_s=120.0, quotas=lane_quotas)


def _settled_quiet(harness: LaneHarness) -> int:
    return sum(row.asset.tenant == "quiet" for row in all_asset_rows(harness.store))


def test_stop_waits_for_no_tenant_at_its_quota(harness: LaneHarness) -> None:
    lane = _with_a_backlog_at_its_quota(harness)
    with running(lane):
        eventually(lambda: _settled_quiet(harness) == 2, "the other tenant is settled")
        assert lane._batcher.waiting["flooding"] > 0
    assert lane._batcher.waiting == {}
    assert harness.count() < harness.produced


def test_a_revoked_partition_waits_for_no_tenant_at_its_quota(harness: LaneHarness) -> None:
    first, second = _with_a_backlog_at_its_quota(harness), harness.lane("second")
    with running(first):
        eventually(lambda: _settled_quiet(harness) == 2, "the other tenant is settled")
        with running(second):
            eventually(lambda: len(second.assignments()) == 1, "handed over")


def test_stop_gives_up_after_its_deadline_and_commits_nothing_unsettled(harness: LaneHarness) -> None:
    media = GatedMedia()
    harness.produce(8, partition=0)
    lane = harness.lane(media=media, drain_timeout_s=0.1)
    drained: list[bool] = []
    thread = threading.Thread(target=lambda: drained.append(lane.run()))
    thread.start()
    eventually(lambda: media.seen == 8, "a batch under way")
    lane.stop()
    eventually(lane._batches._abandon.is_set, "gave up")
    media.open.set()
    thread.join(30)
    assert harness.committed() == 0
    assert drained == [False], "a writer may still work for it"


def test_a_lane_reports_that_it_has_drained(harness: LaneHarness) -> None:
    harness.produce(8, partition=0)
    lane = harness.lane()
    drained: list[bool] = []
    thread = threading.Thread(target=lambda: drained.append(lane.run()))
    thread.start()
    eventually(lambda: harness.committed() == 8, "all committed")
    lane.stop()
    thread.join(30)
    assert drained == [True]


def test_a_second_lane_takes_over_partitions_without_loss_or_doubling(harness: LaneHarness) -> None:
    first, second = harness.lane("first"), harness.lane("second")
    harness.produce(50)
    with running(first):
        eventually(lambda: len(first.assignments()) == 2, "both partitions")
        with running(second):
            harness.produce(100)
            eventually(lambda: len(second.assignments()) == 1, "one partition each")
            harness.produce(50)
            eventually(lambda: harness.committed() == 200, "all committed")
        harness.produce(50)
        eventually(lambda: harness.committed() == 250, "all committed after it left")
    settled = [lane.status().outcomes.get((Modality.TEXT, Outcome.INDEXED), 0) for lane in (first, second)]
    assert sum(settled) == harness.count() == 250


def test_a_partition_is_kept_until_its_batch_in_flight_is_committed(harness: LaneHarness) -> None:
    media = GatedMedia()
    first, second = harness.lane("first", media=media), harness.lane("second")
    harness.produce(8, partition=0)
    harness.produce(8, partition=1)
    with running(first):
        eventually(lambda: first._in_flight.deliveries == 16, "both partitions under way")
        with running(second):
            harness.produce(1, partition=0)
            eventually(lambda: first._membership.revoking != set(), "a partition is wanted back")
            assert second.assignments() == ()
            media.open.set()
            eventually(lambda: len(second.assignments()) == 1, "handed over")
            eventually(lambda: harness.committed() == 17, "all committed")
    assert harness.count() == 17


def test_events_settled_after_their_partition_is_lost_are_not_committed(harness: LaneHarness) -> None:
    media = GatedMedia()
    lane = harness.lane(media=media)
    harness.produce(8, partition=0)
    with running(lane):
        eventually(lambda: media.seen == 8, "under way")
        before = lane.assignments()
        harness.broker.evict(lane._consumer)  # type: ignore[arg-type]
        eventually(lambda: lane.assignments() not in ((), before), "assigned anew")
        media.open.set()
        eventually(lambda: harness.committed() == 8, "committed by the new assignment")
    assert harness.count() == 8


def test_offsets_that_retention_removed_are_counted_as_lost(harness: LaneHarness) -> None:
    harness.produce(10, partition=0)
    with running(harness.lane("first")):
        eventually(lambda: harness.committed() == 10, "all committed")
    harness.produce(10, partition=0)
    harness.broker.expire(PARTITIONS[0], 15)
    second = harness.lane("second")
    before = counted(metrics.LOST_OFFSETS, topic=TOPIC)
    with running(second):
        eventually(lambda: harness.broker.committed(GROUP)[PARTITIONS[0]] == 20, "all committed")
        eventually(lambda: second.status().lost_offsets == 5, "the loss is told")
    assert counted(metrics.LOST_OFFSETS, topic=TOPIC) == before + 5


def test_a_truncated_log_is_read_from_its_new_end(harness: LaneHarness) -> None:
    harness.produce(10, partition=0)
    lane = harness.lane()
    with running(lane):
        eventually(lambda: harness.committed() == 10, "all committed")
        poll = lane._consumer.poll
        rewound = iter([((PARTITIONS[0], 4),)])

        def roll_back(timeout_s: float, max_records: int) -> PollResult:
            return replace(poll(timeout_s, max_records), truncated=next(rewound, ()))

        lane._consumer.poll = roll_back  # type: ignore[method-assign]
        eventually(lambda: lane.status().outcomes.get((Modality.TEXT, Outcome.INDEXED)) == 16, "six settled again")


def _committed(harness: LaneHarness) -> int:
    """Returns the committed offset of partition 0."""
    return harness.broker.committed(GROUP).get(PARTITIONS[0], 0)


def _indexed(harness: LaneHarness) -> set[str]:
    return {row.asset.key for row in all_asset_rows(harness.store)}


def test_a_rollback_commits_the_lower_offset_so_that_the_next_owner_skips_nothing(
    harness: LaneHarness,
) -> None:
    harness.produce(10, partition=0)
    lane = harness.lane()
    with running(lane):
        eventually(lambda: _committed(harness) == 10, "all committed")
        end = _rebalancing(lane)
        harness.broker.truncate_to(PARTITIONS[0], 4)
        eventually(lambda: PARTITIONS[0] in lane._offsets.offsets_to_commit(), "the lane knows")
        end()
        eventually(lambda: _committed(harness) == 4, "the lower offset is committed, though it was refused at first")
    harness.produce(8, partition=0)
    with running(harness.lane("second")):
        eventually(lambda: _committed(harness) == 12, "all committed")
    assert _indexed(harness) == {f"k{number}" for number in range(18)}


def test_an_unobserved_rollback_commits_the_lower_offset_immediately(
    harness: LaneHarness,
) -> None:
    harness.produce(10, partition=0)
    with running(harness.lane()):
        eventually(lambda: _committed(harness) == 10, "all committed")
    harness.broker.truncate_to(PARTITIONS[0], 0)
    with running(harness.lane("second")):
        eventually(lambda: harness.broker.committed(GROUP)[PARTITIONS[0]] == 0, "the lower offset is committed")
    harness.produce(12, partition=0)
    with running(harness.lane("third")):
        eventually(lambda: _committed(harness) == 12, "all committed")
    assert _indexed(harness) == {f"k{number}" for number in range(22)}


def test_unsettled_records_below_a_rollback_are_delivered_again(
    harness: LaneHarness,
) -> None:
    media = GatedMedia()
    harness.produce(10, partition=0)
    lane = harness.lane(media=media)
    with running(lane):
        eventually(lambda: media.seen == 10 or lane._in_flight.deliveries == 10, "all under way")
        for number in range(4):
            harness.produce(1, partition=0, key=f"k{number}")  # 10 to 13 wait behind the first four
        eventually(lambda: lane._batcher.has_queued(PARTITIONS[0]), "four wait")
        harness.broker.truncate_to(PARTITIONS[0], 12)
        eventually(lambda: PARTITIONS[0] in lane._halts, "the lane knows")
        harness.produce(1, partition=0, key="other")
        assert _committed(harness) == 0
        media.open.set()
        eventually(lambda: _committed(harness) == 13, "all committed")
    rows = {row.asset.key: row.version.offset for row in all_asset_rows(harness.store)}
    assert (rows["k0"], rows["k1"], rows["k2"], rows["other"]) == (10, 11, 2, 12)


def test_events_in_flight_at_a_rollback_do_not_complete_the_new_records_at_their_offsets(harness: LaneHarness) -> None:
    media = GatedMedia()
    harness.produce(8, partition=0)
    lane = harness.lane(media=media)
    with running(lane):
        eventually(lambda: lane._in_flight.deliveries == 8, "all under way")
        harness.broker.truncate_to(PARTITIONS[0], 4)
        eventually(lambda: PARTITIONS[0] in lane._halts, "the lane knows")
        harness.produce(8, partition=0)
        media.open.set()
        eventually(lambda: _committed(harness) == 12, "all committed")
    assert _indexed(harness) == {f"k{number}" for number in range(16)}


def test_an_unreadable_record_halts_its_partition_and_those_before_it_are_committed(
    harness: LaneHarness,
) -> None:
    media = GatedMedia()
    harness.produce(20, partition=0)
    harness.broker.corrupt(Position(TOPIC, 0, 15))
    harness.produce(20, partition=1)
    lane = harness.lane(media=media)
    lane._halts._retry_s = 0.05
    with running(lane):
        eventually(lambda: PARTITIONS[0] in lane._halts, "halted")
        media.open.set()
        eventually(lambda: harness.committed() == 15 + 20, "all that can be read is committed")
        eventually(lambda: "offset 15" in lane.status().halted.get(str(PARTITIONS[0]), ""), "it says where it stands")
        assert lane.status().outcomes[Modality.TEXT, Outcome.INDEXED] == 35, "and nothing is done twice"
        harness.broker.expire(PARTITIONS[0], 16)
        eventually(lambda: _committed(harness) == 20, "it goes on once people have taken it away")
        eventually(lambda: lane.status().halted == {}, "and says so")
    assert lane.status().lost_offsets == 1


def test_a_loop_that_makes_no_turn_counts_as_stuck(harness: LaneHarness) -> None:
    now_s = [0.0]
    lane = harness.lane()
    lane._stats._clock = lambda: now_s[0]
    for _ in range(3):
        lane.turn()
        now_s[0] += 100
        assert not lane.is_stuck()
    now_s[0] += 100
    assert lane.is_stuck()


def test_a_lane_that_parses_several_suspects_in_one_turn_is_not_stuck(harness: LaneHarness) -> None:
    now_s = [0.0]
    seen: list[bool] = []

    def parse_slowly(record: Record) -> Event | Rejected:
        now_s[0] += 50
        seen.append(lane.is_stuck())
        parsed: Event | Rejected = parse_text(record)
        return parsed

    lane = harness.lane(parse=parse_slowly)
    lane._stats._clock = lambda: now_s[0]
    harness.produce(5, partition=0)
    while not seen:
        lane.turn()
    assert seen == [False] * 5
    now_s[0] += 130
    assert lane.is_stuck()


def test_a_lane_waits_for_an_unavailable_broker(harness: LaneHarness) -> None:
    harness.produce(10)
    lane = harness.lane()
    with running(lane):
        eventually(lambda: harness.committed() == 10, "all committed")
        harness.broker.available = False
        eventually(lambda: not lane.status().broker_available, "noticed")
        harness.broker.available = True
        harness.produce(10)
        eventually(lambda: harness.committed() == 20, "all committed")


def test_a_replay_is_no_sample_of_freshness_in_a_lane(harness: LaneHarness) -> None:
    harness.produce(1, partition=0, key="k")
    harness.broker.append(as_replay(Message(TOPIC, b"another", b"v", partition=0), Position(TOPIC, 0, 0), 0))
    indexed, fresh = counted(metrics.EVENTS, outcome="indexed"), counted(metrics.FRESHNESS, "_count")
    lane = harness.lane()
    with running(lane):
        eventually(lambda: harness.committed() == 2, "all committed")
        eventually(lambda: len(lane.status().freshness_s.get(Modality.TEXT, ())) == 1, "told")
    assert counted(metrics.EVENTS, outcome="indexed") == indexed + 2
    assert counted(metrics.FRESHNESS, "_count") == fresh + 1


def test_freshness_is_kept_by_modality(harness: LaneHarness) -> None:
    harness.produce(10)
    lane = harness.lane()
    with running(lane):
        eventually(lambda: len(lane.status().freshness_s.get(Modality.TEXT, ())) == 10, "ten samples")


class LateFeed(ChangePublisher):
    """Takes nothing until it is closed."""

    def __init__(self, broker: MemoryBroker, stop: threading.Event) -> None:
        super().__init__(self, "changes", patience_s=0.05, sleep=lambda seconds: stop.wait(min(seconds, 0.01)))
        self._back = threading.Event()
        self._whole = broker.producer()

    def send(self, message: Message) -> Future[Position]:
        if self._back.is_set():
            return self._whole.send(message)
        future: Future[Position] = Future()
        future.set_exception(UnavailableError("the feed is away"))
        return future

    def flush(self, timeout_s: float) -> None: ...

    def close(self, timeout_s: float) -> None:
        self._back.set()
        super().close(timeout_s)


def test_changes_that_the_feed_has_not_taken_yet_reach_it_before_a_lane_has_stopped(harness: LaneHarness) -> None:
    harness.broker.create_topic("changes", 1)
    harness.produce(5)
    with running(harness.lane(make_feed=lambda stop: LateFeed(harness.broker, stop))):
        eventually(lambda: harness.committed() == 5, "all committed without the feed")
        assert harness.broker.records("changes") == []
    published = [change for record in harness.broker.records("changes") for change in parse_change_message(record)]
    assert sorted({change.key for change in published}) == ["k0", "k1", "k2", "k3", "k4"]


class NotedFeed:
    """Notes how long it is given to close."""

    def __init__(self) -> None:
        self.closed: list[float] = []

    def publish(self, changes: Sequence[IndexChange]) -> None: ...

    def close(self, timeout_s: float) -> None:
        self.closed.append(timeout_s)


def test_a_lane_that_must_leave_gives_the_feed_no_time(harness: LaneHarness) -> None:
    feed = NotedFeed()
    lane = harness.lane(make_feed=lambda _: feed)
    lane.stop(drain=False)
    lane.run()
    assert feed.closed == [0.0]


def test_a_forged_replay_does_not_hold_an_asset_and_the_owners_update_is_indexed(harness: LaneHarness) -> None:
    """With an origin that no update can pass, all of them would count as superseded."""
    harness.produce(1, partition=0, key="contract.txt", value=b"the contract")
    forged = ((ORIGIN, b"media.text/2147483646/0"), (ORIGIN_TIMESTAMP, b"4600000000000000000"))
    harness.broker.append(Message(TOPIC, b"contract.txt", b"poison", forged, partition=1))
    harness.produce(1, partition=0, key="contract.txt", value=b"the new contract")
    lane = harness.lane()
    with running(lane):
        eventually(lambda: harness.committed() == 3, "all committed")
    (row,) = all_asset_rows(harness.store)
    assert row.origin == Position(TOPIC, 0, 1)
    assert [rejected.reason for rejected in harness.sink.letters] == [Reason.FORBIDDEN]
