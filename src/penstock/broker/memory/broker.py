"""The broker in memory: behaves as the real one does, without its waits. The contract tests compare the two."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from penstock.broker.base import Partition
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.broker.memory.group import MemoryGroup
from penstock.broker.memory.logs import MemoryLogs
from penstock.broker.memory.producer import MemoryProducer


class MemoryBroker(MemoryLogs):
    """Topics, partitions, committed offsets and consumer groups. Safe to call from several threads.

    `evict` is a fault, as those of `MemoryLogs` are.

    Args:
        clock: monotonic seconds, for the deadlines of held revocations.
        now_ms: Kafka's timestamp of a message that has none.
        blocking: whether `poll` waits for something to report; False for tests that own the clock.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        blocking: bool = True,
    ) -> None:
        super().__init__(clock=clock, now_ms=now_ms, blocking=blocking)
        self._groups: dict[str, MemoryGroup] = {}

    def consumer(self, group: str, topics: Collection[str], *, drain_timeout_s: float) -> MemoryConsumer:
        """Returns a new member of a group, which joins at its first poll."""
        return MemoryConsumer(self, self.group(group), frozenset(topics), drain_timeout_s)

    def producer(self) -> MemoryProducer:
        """Returns a new producer."""
        return MemoryProducer(self)

    def group(self, name: str) -> MemoryGroup:
        """Returns a group, created if it does not exist."""
        with self.changed:
            return self._groups.setdefault(name, MemoryGroup(self))

    def committed(self, group: str) -> Mapping[Partition, int]:
        """Returns the committed offsets of a group."""
        return dict(self.group(group).committed)

    def evict(self, consumer: MemoryConsumer) -> None:
        """Removes a member as a session timeout does: its partitions move to others before it knows."""
        with self.changed:
            consumer.group.leave(consumer.member)
            self.changed.notify_all()
