"""Kafka, the store, writers and any number of lanes, which a test steps one at a time.

Lanes and batches run in threads of their own, but only one runs at any time, and only while it is stepped from one
pause to the next. Pauses are wherever another process is called: Kafka, a worker, the store, the dead-letter topic. The
test decides which thread runs next, what fails there, and what time it is, so the same decisions always give the same
run.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import Any

from penstock.broker.base import Partition
from penstock.broker.deadletters import DeadLetterWriter
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.config import QuotaSettings, TenantQuota
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.lane.quotas import TenantQuotas
from penstock.ingest.pipeline.driver import Pipeline
from penstock.records import Collection, Modality, Position
from penstock.retries import Backoff, Breaker
from penstock.store.writer import Writer
from tests.ingest import builders
from tests.ingest.doubles import ROLE, memory_store
from tests.ingest.simulation.doubles import (
    FaultyConsumer,
    FaultyEncoder,
    FaultySink,
    FaultyStore,
    PausingLocks,
    SimulatedMedia,
)
from tests.ingest.simulation.events import (
    BURSTING,
    DLQ,
    FLOODING,
    GROUP,
    PARTITIONS,
    TOPICS,
    ProducedEvent,
    parse,
    to_message,
)
from tests.ingest.simulation.pools import InlinePool, SteppedExecutor
from tests.ingest.simulation.stepping import SteppedThread, pause, planned_faults
from tests.replays import KEYS, as_replay
from tests.store.lagging import LaggingStore

_PATIENCE = 4_000  # rounds within which everything has to be settled once nothing fails any more
_HALT_S = 31.0  # past the time after which a lane tries a halted partition again


@dataclass(eq=False)
class LaneProcess:
    """A lane's process: its loop and its batches."""

    lane: Lane
    consumer: FaultyConsumer
    executor: SteppedExecutor
    loop: SteppedThread
    dead: bool = False


@dataclass
class Simulation:
    """Kafka, the store, writers and any number of lanes, with the events that the test wrote."""

    shards: int = 1
    concurrent_calls: int = 1  # batches that a writer has in flight
    events_per_s: float | None = None  # quota of either of two tenants
    now_s: float = 1_000.0
    produced: dict[Position, ProducedEvent] = field(default_factory=dict)
    lanes: list[LaneProcess] = field(default_factory=list)
    orphaned_batches: list[SteppedThread] = field(default_factory=list)  # of dead lanes, in a writer
    lost_members: list[MemoryConsumer] = field(
        default_factory=list
    )  # of dead lanes, which their group does not know yet

    def __post_init__(self) -> None:
        planned_faults.clear()
        self.broker = MemoryBroker(clock=self.clock, now_ms=self.now_ms, blocking=False)
        for partition in PARTITIONS:
            self.broker.create_topic(partition.topic, partition.partition + 1)
        self.broker.create_topic(DLQ, 1)
        self.store = memory_store()
        self.media = SimulatedMedia()
        self.writers = InlinePool(
            [self._writer(shard) for shard in range(self.shards)], concurrent_calls=self.concurrent_calls
        )
        self.start_writers()
        self.sink = DeadLetterWriter(self.broker.producer(), DLQ, offload=lambda _: "", now=self.clock, replays=KEYS)
        self._names = iter(range(1_000))

    def clock(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    # ---- what is written ----

    def produce(self, partition: Partition, key: str, kind: str, parts: int) -> None:
        """Produces an event whose text identifies it, with a timestamp of its own."""
        self.now_s += 0.001
        text = None if kind == "tombstone" else f"{kind}:{len(self.produced)}:{parts}"
        at = self.broker.append(to_message(partition, key, kind, text))
        self.produced[at] = ProducedEvent(at, self.now_ms(), None if kind == "malformed" else key, text)

    def replay(self, event: ProducedEvent, *, repair: bool) -> None:
        """Replays an event as `ingest.deadletters.replay` does, perhaps after its cause is fixed."""
        if repair and event.text is not None:
            self.media.repaired.add(event.text)
        self.now_s += 0.001
        kind = "malformed" if event.key is None else (event.text or "tombstone").partition(":")[0]
        partition = Partition(event.position.topic, event.position.partition)
        again = to_message(partition, event.key or "?", kind, event.text)
        self.broker.append(as_replay(again, event.position, event.timestamp_ms))

    def spoil(self, event: ProducedEvent) -> None:
        """Makes the media of an event unreadable, as those of a claim check that is gone."""
        if event.text is not None:
            self.media.spoiled.add(event.text)

    def plan_fault(self, at: str, fault: str) -> None:
        """Makes the next pause of a name fail."""
        planned_faults[at] = fault

    def retain(self, partition: Partition) -> None:
        """Lets retention remove the committed records."""
        self.broker.expire(partition, self.broker.committed(GROUP).get(partition, 0))

    # ---- processes ----

    def join(self) -> None:
        name = f"lane-{next(self._names)}"
        consumer = FaultyConsumer(self.broker.consumer(GROUP, TOPICS, drain_timeout_s=2.0))
        executor = SteppedExecutor()
        abandon = threading.Event()
        lane = Lane(
            name=name,
            consumer=consumer,  # type: ignore[arg-type]
            pipeline=self._pipeline(name, abandon),
            batcher=Batcher(BatchLimits(4, 100_000, 0.05, 2), self.clock, self._quotas()),
            parse=parse,
            topics=TOPICS,
            limits=LaneLimits(10_000, 0.1, 2.0),  # ten records, with what each takes beside its value
            executor=executor,
            admission_checks={},
            abandon=abandon,
            clock=self.clock,
            wall_ms=self.now_ms,
        )
        self.lanes.append(LaneProcess(lane, consumer, executor, SteppedThread(lane.run)))

    def crash(self, process: LaneProcess) -> None:
        """Kills the process of a lane. Calls that a writer runs for it continue; its group notices later."""
        process.dead = process.consumer.dead = True
        process.loop.end()
        for thread in process.executor.batches:
            if self.writers.is_busy_with(thread):
                self.orphaned_batches.append(thread)
            else:
                thread.end()
        self.lanes.remove(process)
        self.lost_members.append(process.consumer.inner)

    def kill_writer(self, shard: int, fault: str) -> None:
        """Kills a writer, before or after the store applied its last request; the next one waits for assignments."""
        self.writers.workers[shard] = self._writer(shard)
        for thread in list(self.writers.busy[shard]):
            thread.step(fault)

    def start_writers(self) -> None:
        """Gives restarted writers the assignments, as the plane's monitor does."""
        known = [assignment for process in self.lanes for assignment in process.lane.assignments()]
        for writer in self.writers.workers:
            if not writer.is_started():
                writer.start(known)

    def evict(self, number: int) -> None:
        """Lets the group evict a member that is dead, or if there is none, one that is merely slow."""
        if self.lost_members:
            self.broker.evict(self.lost_members.pop())
        elif self.lanes:
            self.broker.evict(self.lanes[number % len(self.lanes)].consumer.inner)

    def batches(self) -> list[SteppedThread]:
        """Returns the threads of all batches in flight, those of dead lanes included."""
        live = [thread for process in self.lanes for thread in process.executor.batches]
        return [thread for thread in (*live, *self.orphaned_batches) if not thread.ended]

    def step_batch(self, number: int, fault: str = "") -> None:
        if batches := self.batches():
            batches[number % len(batches)].step(fault)
        for orphan in [thread for thread in self.orphaned_batches if not self.writers.is_busy_with(thread)]:
            orphan.end()
            self.orphaned_batches.remove(orphan)

    def step_lane(self, number: int, fault: str = "") -> None:
        if self.lanes:
            self.lanes[number % len(self.lanes)].loop.step(fault)
        self.lanes = [process for process in self.lanes if not process.loop.ended or self._give_up_batches(process)]

    def _give_up_batches(self, process: LaneProcess) -> bool:
        """Ends the batches of a lane that has ended."""
        for thread in process.executor.batches:
            if self.writers.is_busy_with(thread):
                self.orphaned_batches.append(thread)
            else:
                thread.end()
        return False

    def run_rounds(self, rounds: int) -> None:
        """Steps every lane and every batch, a number of times."""
        for _ in range(rounds):
            for lane in range(len(self.lanes)):
                self.step_lane(lane)
            for batch in range(len(self.batches())):
                self.step_batch(batch)
            self.now_s += 0.05

    def settle(self) -> None:
        """Steps without faults until every event is settled and committed."""
        planned_faults.clear()
        while self.lost_members:
            self.broker.evict(self.lost_members.pop())
        if not self.lanes:
            self.join()
        for number in range(_PATIENCE):
            if not self.lanes:
                self.join()
            self.start_writers()
            self.run_rounds(1)
            self.now_s += _HALT_S if number % 200 == 199 else 0.0
            if self._all_committed() and not self.batches():
                return
        states = [thread.at for thread in self.batches()]
        raise AssertionError(f"not settled: {self.broker.committed(GROUP)}, {states}, {self.lanes}")

    def close(self) -> None:
        for process in self.lanes:
            process.consumer.dead = True
            for thread in (process.loop, *process.executor.batches):
                thread.end()
        for orphan in self.orphaned_batches:
            orphan.end()
        self.sink.close()

    def _all_committed(self) -> bool:
        committed = self.broker.committed(GROUP)
        positions = [record.position for topic in TOPICS for record in self.broker.records(topic)]
        return all(committed.get(Partition(at.topic, at.partition), 0) > at.offset for at in positions)

    def _quotas(self) -> TenantQuotas:
        limited = () if self.events_per_s is None else (FLOODING, BURSTING)
        quotas = {tenant: TenantQuota(events_per_s=self.events_per_s) for tenant in limited}
        return TenantQuotas(QuotaSettings(tenants=quotas), 1, self.clock)

    def _writer(self, shard: int) -> Writer:
        store: Any = LaggingStore(FaultyStore(self.store, self.media), self.store, [Collection.TEXT])
        return Writer(store, wall_ms=self.now_ms, shard=shard, shards=self.shards, locks=PausingLocks())

    def _pipeline(self, name: str, abandon: threading.Event) -> Pipeline:
        backoff = Backoff(0.01, 0.1, random.Random(0))
        encoder, media = InlinePool([FaultyEncoder()]), InlinePool([self.media])

        def sleep(_seconds: float) -> bool:
            pause("sleep")
            return abandon.is_set()

        return Pipeline(
            lane=name,
            pools=Pools.over(
                fetch=media, decode=media, long_media=media, encoders={ROLE: encoder}, writers=self.writers
            ),
            roles={Modality.TEXT: (ROLE,)},
            dead_letters=FaultySink(self.sink),
            backoff=backoff,
            breaker=Breaker("store", clock=self.clock, backoff=backoff),
            sleep=sleep,
            known_good={Modality.TEXT: builders.event(-1, "known-good", data=b"good:0:1")},
        )
