"""Whatever fails, in whatever order: nothing is lost, nothing is doubled, and no commit runs ahead.

The state machine decides which thread of a `Simulation` runs next, and what fails there. After each decision no
committed offset may be past an event that is not settled, and no asset may have gone back to an older version. At the
end nothing fails any more, and every event must have its outcome.
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
from tests.ingest.simulation.events import PARTITIONS
from tests.ingest.simulation.invariants import Invariants
from tests.ingest.simulation.simulation import Simulation
from tests.ingest.simulation.stepping import AFTER, BEFORE, FAULTS, HALF, LOST, LOST_AFTER, REFUSED, SPOILED

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
        self.simulation = Simulation()
        self.guarantees = Invariants(self.simulation)

    @initialize(
        shards=st.sampled_from((1, 2)),
        concurrent_calls=st.sampled_from((1, 3, 3)),
        lanes=st.integers(1, 2),
        events_per_s=st.sampled_from((None, 0.5, 4.0)),
    )
    def begin(self, shards: int, concurrent_calls: int, lanes: int, events_per_s: float | None) -> None:
        self.simulation = Simulation(shards, concurrent_calls, events_per_s=events_per_s)
        self.guarantees = Invariants(self.simulation)
        for _ in range(lanes):
            self.simulation.join()

    @precondition(lambda self: self.simulation.broker.available)
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
            self.simulation.produce(partition, key, kind, parts)

    @precondition(lambda self: self.simulation.broker.available)
    @rule(partition=st.sampled_from(PARTITIONS), keys=st.text("abcd", min_size=4, max_size=12))
    def exceed_quotas(self, partition: Partition, keys: str) -> None:
        """Produces more than a lane holds of tenants at their quotas; the log may end with it."""
        for key in keys:
            self.simulation.produce(partition, key, "good", 1)

    @rule(partition=st.sampled_from(PARTITIONS), offsets=st.integers(1, 3))
    def leave_a_hole(self, partition: Partition, offsets: int) -> None:
        self.simulation.broker.leave_gap(partition, offsets)

    @precondition(lambda self: self.simulation.produced and self.simulation.broker.available)
    @rule(number=st.integers(0, 30), repair=st.booleans())
    def replay(self, number: int, repair: bool) -> None:
        known = list(self.simulation.produced.values())
        self.simulation.replay(known[number % len(known)], repair=repair)

    @precondition(lambda self: self.simulation.produced)
    @rule(number=st.integers(0, 30))
    def spoil(self, number: int) -> None:
        known = list(self.simulation.produced.values())
        self.simulation.spoil(known[number % len(known)])

    @rule(number=_numbers, times=st.integers(1, 4), fault=st.sampled_from(("", "", "", BEFORE, AFTER)))
    def step_a_lane(self, number: int, times: int, fault: str) -> None:
        for time in range(times):
            self.simulation.step_lane(number, fault if time == 0 else "")

    @rule(number=_numbers, times=st.integers(1, 12), fault=st.sampled_from(FAULTS))
    def step_a_batch(self, number: int, times: int, fault: str) -> None:
        for time in range(times):
            self.simulation.step_batch(number, fault if time == times - 1 else "")

    @rule(plan=st.sampled_from(PLANS))
    def plan_a_fault(self, plan: tuple[str, str]) -> None:
        self.simulation.plan_fault(*plan)

    @rule(partition=st.sampled_from(PARTITIONS))
    def retain(self, partition: Partition) -> None:
        self.simulation.retain(partition)

    @rule(
        rounds=st.integers(1, 25),
        plans=st.lists(st.sampled_from(PLANS), max_size=4),
        repair=st.sampled_from((True, True, True, False)),
    )
    def step_everything(self, rounds: int, plans: list[tuple[str, str]], repair: bool) -> None:
        if repair:
            self.simulation.broker.available = True
            self.simulation.start_writers()
        for plan in plans:
            self.simulation.plan_fault(*plan)
        self.simulation.run_rounds(rounds)

    @rule(seconds=st.sampled_from((0.05, 0.2, 3.0, 31.0)))
    def wait(self, seconds: float) -> None:
        self.simulation.now_s += seconds

    @rule(change=st.sampled_from(("join", "join", "stop", "crash", "evict")), number=_numbers)
    def members_change(self, change: str, number: int) -> None:
        lanes = self.simulation.lanes
        if change == "evict":
            self.simulation.evict(number)
        elif change == "join" and len(lanes) < 3:
            self.simulation.join()
        elif change == "stop" and lanes:
            lanes[number % len(lanes)].lane.stop()
        elif change == "crash" and lanes:
            self.simulation.crash(lanes[number % len(lanes)])

    @rule(change=st.sampled_from((LOST, LOST_AFTER, "broker")), number=_numbers)
    def servers_fail(self, change: str, number: int) -> None:
        if change == "broker":
            self.simulation.broker.available = False
        else:
            self.simulation.kill_writer(number % self.simulation.shards, change)

    @invariant()
    def no_commit_runs_ahead(self) -> None:
        self.guarantees.check_committed()

    @invariant()
    def no_asset_goes_back(self) -> None:
        self.guarantees.check_rows()

    def teardown(self) -> None:
        try:
            self.simulation.broker.available = True
            self.simulation.settle()
            self.guarantees.check_committed()
            self.guarantees.check_rows()
            self.guarantees.check_outcomes()
        finally:
            self.simulation.close()


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
