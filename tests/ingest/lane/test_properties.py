"""Whatever fails, in whatever order: nothing is lost, nothing is doubled, and no commit runs ahead.

The state machine decides who goes on next in a `World`, and what fails there. After each decision no committed offset
may be past an event that is not settled, and no asset may have gone back to an older version. At the end nothing fails
any more, and the books have to balance.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.broker.base import Partition
from tests.ingest.world import AFTER, BEFORE, FAULTS, HALF, LOST, LOST_AFTER, PARTITIONS, REFUSED, SPOILED, World

KINDS = ("good", "good", "good", "claim", "bad", "tombstone", "malformed", "poison", "refused", "crash")
PLANS = (
    *((at, fault) for at in ("rows", "ids") for fault in (BEFORE, LOST)),
    *((at, fault) for at in ("upsert", "delete", "put rows") for fault in (BEFORE, AFTER, HALF, LOST, LOST_AFTER)),
    *[("upsert", SPOILED)] * 4,  # seldom seen otherwise: the event must be spoiled in the midst of its write
    *(("dead letter", fault) for fault in (BEFORE, AFTER, REFUSED)),
    *(("commit", fault) for fault in (BEFORE, AFTER)),
    *((at, LOST) for at in ("fetch", "decode", "encode")),
)
_numbers = st.integers(0, 7)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Every fault is logged, and here are thousands."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class LaneMachine(RuleBasedStateMachine):
    """Lanes come, go, die and are thrown out; batches crawl; stores, writers and topics fail."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(shards=st.sampled_from((1, 2)), at_once=st.sampled_from((1, 3, 3)), lanes=st.integers(1, 2))
    def begin(self, shards: int, at_once: int, lanes: int) -> None:
        self.world = World(shards, at_once)
        for _ in range(lanes):
            self.world.join()

    @precondition(lambda self: self.world.broker.available)
    @rule(
        events=st.lists(
            st.tuples(
                st.sampled_from(PARTITIONS), st.sampled_from("aaaabcdef"), st.sampled_from(KINDS), st.integers(1, 3)
            ),
            min_size=1,
            max_size=5,
        )
    )
    def produce(self, events: list[tuple[Partition, str, str, int]]) -> None:
        for partition, key, kind, parts in events:
            self.world.produce(partition, key, kind, parts)

    @rule(partition=st.sampled_from(PARTITIONS), offsets=st.integers(1, 3))
    def leave_a_hole(self, partition: Partition, offsets: int) -> None:
        self.world.broker.leave_gap(partition, offsets)

    @precondition(lambda self: self.world.known and self.world.broker.available)
    @rule(number=st.integers(0, 30), mend=st.booleans())
    def replay(self, number: int, mend: bool) -> None:
        known = list(self.world.known.values())
        self.world.replay(known[number % len(known)], mend=mend)

    @precondition(lambda self: self.world.known)
    @rule(number=st.integers(0, 30))
    def spoil(self, number: int) -> None:
        known = list(self.world.known.values())
        self.world.spoil(known[number % len(known)])

    @rule(number=_numbers, times=st.integers(1, 4), fault=st.sampled_from(("", "", "", BEFORE, AFTER)))
    def go_on_with_a_lane(self, number: int, times: int, fault: str) -> None:
        for time in range(times):
            self.world.step_lane(number, fault if time == 0 else "")

    @rule(number=_numbers, times=st.integers(1, 12), fault=st.sampled_from(FAULTS))
    def go_on_with_a_batch(self, number: int, times: int, fault: str) -> None:
        for time in range(times):
            self.world.step_batch(number, fault if time == times - 1 else "")

    @rule(plan=st.sampled_from(PLANS))
    def something_will_fail(self, plan: tuple[str, str]) -> None:
        self.world.plan(*plan)

    @rule(partition=st.sampled_from(PARTITIONS))
    def retain(self, partition: Partition) -> None:
        self.world.retain(partition)

    @rule(
        rounds=st.integers(1, 25),
        plans=st.lists(st.sampled_from(PLANS), max_size=4),
        mend=st.sampled_from((True, True, True, False)),
    )
    def go_on_with_everything(self, rounds: int, plans: list[tuple[str, str]], mend: bool) -> None:
        if mend:
            self.world.broker.available = True
            self.world.tell_writers()
        for plan in plans:
            self.world.plan(*plan)
        self.world.go_on(rounds)

    @rule(seconds=st.sampled_from((0.05, 0.2, 3.0, 31.0)))
    def wait(self, seconds: float) -> None:
        self.world.now_s += seconds

    @rule(what=st.sampled_from(("join", "join", "stop", "crash", "evict")), number=_numbers)
    def members_change(self, what: str, number: int) -> None:
        lanes = self.world.lanes
        if what == "evict":
            self.world.evict(number)
        elif what == "join" and len(lanes) < 3:
            self.world.join()
        elif what == "stop" and lanes:
            lanes[number % len(lanes)].lane.stop()
        elif what == "crash" and lanes:
            self.world.crash(lanes[number % len(lanes)])

    @rule(what=st.sampled_from((LOST, LOST_AFTER, "broker")), number=_numbers)
    def servers_fail(self, what: str, number: int) -> None:
        if what == "broker":
            self.world.broker.available = False
        else:
            self.world.kill_writer(number % self.world.shards, what)

    @invariant()
    def no_commit_runs_ahead(self) -> None:
        self.world.check_committed()

    @invariant()
    def no_asset_goes_back(self) -> None:
        self.world.check_rows()

    def teardown(self) -> None:
        try:
            self.world.broker.available = True
            self.world.settle()
            self.world.check_committed()
            self.world.check_rows()
            self.world.check_books()
        finally:
            self.world.close()


settings.register_profile("quick", max_examples=300, stateful_step_count=40, derandomize=True)
settings.register_profile(
    "thorough",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "5000")),
    stateful_step_count=80,
    derandomize=False,
)
settings.register_profile("mutation", settings.get_profile("quick"), phases=[Phase.generate], print_blob=False)

TestLane = LaneMachine.TestCase
TestLane.settings = settings(
    settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
