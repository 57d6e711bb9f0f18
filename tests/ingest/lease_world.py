"""Drivers that compete for one lease, on a broker in memory whose sessions run out, with one clock for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.broker.base import Consumer, Partition, PollResult
from penstock.broker.control import ControlGroupState
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.broker.memory.control import MemoryControlGroup
from penstock.errors import LeaseHeldError
from penstock.ingest.lease import DriverLease, LeaseHolder
from penstock.ingest.lease_keeper import LeaseRenewals
from penstock.records import Assignment
from penstock.store.lease import LeaseGuard, Renewal

TIMEOUT_S = 10.0
TOPIC = "media.control"


class SessionConsumer:
    """A member that is removed a session after its latest commit or join: its heartbeats do not count here."""

    def __init__(
        self, consumer: MemoryConsumer, clock: Callable[[], float], between: Callable[[], None] = lambda: None
    ) -> None:
        self.inner = consumer
        self._between = between
        self._clock = clock
        self.contact_s = clock()

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        self._between()
        was_member = self.inner.member in self.inner.group.members
        polled = self.inner.poll(0.0, max_records)
        if not was_member:
            self.contact_s = self._clock()
        return polled

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, *, note: str = "") -> None:
        self._between()
        sent_s = self._clock()
        self.inner.commit(offsets, timeout_s, note=note)
        self.contact_s = sent_s
        self._between()

    def generation(self) -> int:
        return self.inner.generation()

    def close(self, timeout_s: float) -> None:
        self._between()
        self.inner.close(timeout_s)

    def release(self, partitions: Collection[Partition]) -> None:
        self.inner.release(partitions)

    def pause(self, partitions: Collection[Partition]) -> None:
        self.inner.pause(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        self.inner.resume(partitions)

    def seek_to(self, partition: Partition, offset: int) -> None:
        self.inner.seek_to(partition, offset)

    def assignments(self) -> Mapping[Partition, Assignment]:
        return self.inner.assignments()


@dataclass
class SentRenewal:
    """A message on its way, until it is delivered or lost."""

    guard: LeaseGuard
    renewal: Renewal
    outcome: bool | None = None

    def deliver(self) -> None:
        self.guard.renew(self.renewal)
        self.outcome = True

    def received(self) -> bool | None:
        return self.outcome


@dataclass
class Driver:
    """A driver, and the guards of its writers."""

    lease: DriverLease
    renewals: LeaseRenewals
    guards: Mapping[Hashable, LeaseGuard]
    holds: bool = False
    sent: list[SentRenewal] = field(default_factory=list)


class LeaseWorld:
    """Everything that happens is a call of a method; nothing waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.broker = MemoryBroker(clock=lambda: self.now_s, blocking=False)
        self.broker.create_topic(TOPIC, 1)
        self.consumers: list[SessionConsumer] = []
        self.drivers: list[Driver] = []
        self.epochs: list[int] = []  # in the order in which they were first confirmed
        self.on_sleep: Callable[[], object] = lambda: None
        self.between: Callable[[], None] = lambda: None  # called before and after each request to the broker
        self.sleep: Callable[[float], None] = self._sleep

    def driver(self, name: str, *, writers: int = 2) -> Driver:
        guards: dict[Hashable, LeaseGuard] = {
            f"{name}-{number}": LeaseGuard(TIMEOUT_S, lambda: self.now_s) for number in range(writers)
        }
        sent: list[SentRenewal] = []

        def send(member: Hashable, renewal: Renewal) -> SentRenewal:
            sent.append(SentRenewal(guards[member], renewal))
            return sent[-1]

        lease = DriverLease(
            _Group(self),
            "penstock",
            LeaseHolder(name, len(self.drivers), 0, "ray", f"{name}-{len(self.drivers)}"),
            timeout_s=TIMEOUT_S,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )
        renewals = LeaseRenewals(lambda: self._confirm(lease), send, lambda: self.now_s)
        self.drivers.append(Driver(lease, renewals, guards, sent=sent))
        return self.drivers[-1]

    def acquire(self, driver: Driver, *, wait: bool = False) -> None:
        driver.holds = driver.lease.acquire(wait=wait, stop=threading.Event())
        self._confirm(driver.lease)

    def turn(self, driver: Driver) -> None:
        """One turn of the keeper's loop; a driver that has a successor ends."""
        try:
            driver.renewals.turn(list(driver.guards))
        except LeaseHeldError:
            driver.holds = False

    def turn_and_deliver(self, driver: Driver) -> None:
        self.turn(driver)
        for message in driver.sent:
            if message.outcome is None:
                message.deliver()

    def advance(self, seconds: float) -> None:
        """Time passes in steps, and sessions run out."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 0.5)
            for consumer in self.consumers:
                is_member = consumer.inner.member in consumer.inner.group.members
                if self.broker.available and is_member and self.now_s - consumer.contact_s >= TIMEOUT_S:
                    self.broker.evict(consumer.inner)

    def writing(self) -> Sequence[LeaseGuard]:
        """The guards that admit writes now, of all drivers, ended ones included."""
        return [guard for driver in self.drivers for guard in driver.guards.values() if guard.holds]

    def _confirm(self, lease: DriverLease) -> int | None:
        epoch = lease.confirm()
        if epoch is not None and epoch not in self.epochs:
            self.epochs.append(epoch)
        return epoch

    def _sleep(self, seconds: float) -> None:
        self.advance(seconds)
        self.on_sleep()


class _Group(MemoryControlGroup):
    def __init__(self, world: LeaseWorld) -> None:
        super().__init__(world.broker, "penstock.control", TOPIC)
        self._world = world

    def state(self) -> ControlGroupState:
        self._world.between()
        state = super().state()
        self._world.between()
        return state

    def join(self) -> Consumer:  # type: ignore[override]  # a member with a session
        consumer = SessionConsumer(super().join(), lambda: self._world.now_s, self._world.between)
        self._world.consumers.append(consumer)
        return consumer
