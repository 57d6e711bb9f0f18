"""Holds revocations open until the lane has drained; the only module that changes kafka-python's group coordinator.

In a cooperative rebalance kafka-python 3.0 takes the revoked partitions out of its assignment, calls the listener, and
gives them up by joining the group again. Waiting in the listener would block `poll`. So the listener only records the
change, and the second join is delayed until the lane has released the partitions or its time is up. Until then this
member is in a stable generation: its heartbeats continue, its other partitions are delivered, and its commits,
including those of the revoked partitions, are accepted.

A topic that this client may not describe is missing from its metadata, for which kafka-python stops following all other
topics. They are followed on, and the partitions of that topic stay where they are until the next rebalance.

Private parts of kafka-python that are used here: `KafkaConsumer._coordinator` with `need_rejoin` (replaced),
`_join_task`, `rejoining`, `_manager.call_soon`, `coordinator_unknown`, `_metadata_snapshot` and
`_handle_metadata_update` (replaced; it was added as a `kafka.util.WeakMethod`), and
`KafkaConsumer._cluster.unauthorized_topics`. pyproject.toml pins the minor version for which this was written;
tests/broker/test_consumer.py, test_contract.py, test_joins.py, test_rebalances.py and test_security.py fail without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from typing import Any, Literal

import kafka.future
from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.util import WeakMethod

from penstock.broker.base import Partition
from penstock.broker.client import ConsumerClient, to_partition


@dataclass(frozen=True, slots=True)
class RebalanceChange:
    """A decision of the group about partitions of this member, made in a generation."""

    kind: Literal["assigned", "revoked", "lost"]
    partitions: frozenset[Partition]
    generation: int


class Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Records the decisions of the group, on kafka-python's network thread, while the lane's thread waits in `poll`.

    kafka-python's coordinator calls `need_rejoin` at every poll to decide whether to join the group again. Three things
    are corrected there:

    - While a revocation is held it must not join, or the partitions would be given away undrained.
    - A join that was answered between two polls is discarded and started again, which makes the whole group join again:
      members that poll in short steps never reach a stable generation. So its response is preserved for the next poll.
    - A join because of changed metadata needs none any more as soon as this member, the leader, has assigned the
      partitions by them. If that happens between two polls, the response is never taken, heartbeats remain off, and the
      member has neither the new partitions nor a place in the group. So a join that was begun is needed until it ends.
    """

    def __init__(self) -> None:
        self._changes: list[RebalanceChange] = []
        self._client: Any = None

    def attach(self, client: ConsumerClient, *, holds: Callable[[int], bool]) -> None:
        """Delays joining again while `holds` returns True for the current generation: a revocation is open in it."""
        self._client = client
        coordinator = self._client._coordinator
        wants_to_join = coordinator.need_rejoin

        def need_rejoin() -> bool:
            _preserve_join_response(coordinator)
            is_needed = wants_to_join() or coordinator.rejoining
            return is_needed and not (holds(self._generation()) or self._has_unreported_revocation())

        coordinator.need_rejoin = need_rejoin
        _follow_other_topics(self._client._cluster, coordinator)

    @property
    def hidden_topics(self) -> Set[str]:
        """The topics of the subscription that this client may not describe."""
        return frozenset(self._client._cluster.unauthorized_topics)

    @property
    def coordinator_known(self) -> bool:
        """Whether the client knows the broker that coordinates its group; it does not while no broker answers."""
        return not self._client._coordinator.coordinator_unknown()

    def take(self) -> list[RebalanceChange]:
        """Returns the changes since the last call, oldest first."""
        changes, self._changes = self._changes, []
        return changes

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Records new partitions, and pauses them until the consumer knows where they start."""
        self._client.pause(*assigned)
        self._record("assigned", assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Records partitions that the group takes back."""
        self._record("revoked", revoked)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Records partitions that another member owns already."""
        self._record("lost", lost)

    def _record(self, kind: Literal["assigned", "revoked", "lost"], partitions: Iterable[TopicPartition]) -> None:
        self._changes.append(RebalanceChange(kind, frozenset(map(to_partition, partitions)), self._generation()))

    def _generation(self) -> int:
        return int(self._client.group_metadata().generation_id)

    def _has_unreported_revocation(self) -> bool:
        """Returns whether a revocation was recorded within the current poll, so that the lane does not know it yet."""
        generation = self._generation()
        return any(change.kind == "revoked" and change.generation == generation for change in self._changes)


def _follow_other_topics(cluster: Any, coordinator: Any) -> None:
    """Makes the coordinator follow the metadata of all topics that this client may describe."""
    handle = coordinator._handle_metadata_update
    cluster.remove_listener(WeakMethod(handle))  # as it was added; the bound method itself is no listener

    def follow(cluster: Any) -> None:
        before = coordinator._metadata_snapshot
        hidden, cluster.unauthorized_topics = cluster.unauthorized_topics, set()
        try:
            handle(cluster)
        finally:
            cluster.unauthorized_topics = hidden
        kept = {topic: before[topic] for topic in hidden if topic in before}
        coordinator._metadata_snapshot = coordinator._metadata_snapshot | kept

    cluster.add_listener(follow)


def _preserve_join_response(coordinator: Any) -> None:
    """Replaces a join that is done by one that completes soon with the same response, so that kafka-python takes it.

    Its network thread calls `need_rejoin` right before it checks whether the join is done, in which case it starts
    another; for a pending join it waits. A join that failed is started again anyway.
    """
    answered = coordinator._join_task
    if answered is not None and answered.is_done and answered.succeeded():
        coordinator._join_task = pending = kafka.future.Future()
        coordinator._manager.call_soon(lambda: pending.success(answered.value))


@dataclass(frozen=True, slots=True)
class _Hold:
    """A revocation that is held open: its deadline by the consumer's clock, and the generation that revoked."""

    deadline_s: float
    generation: int


class HeldRevocations:
    """The partitions that the group takes back and the lane has not released yet."""

    def __init__(self) -> None:
        self._holds: dict[Partition, _Hold] = {}

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._holds

    def add(self, partition: Partition, *, deadline_s: float, generation: int) -> None:
        """Holds a revocation open until it is discarded."""
        self._holds[partition] = _Hold(deadline_s, generation)

    def discard(self, partition: Partition) -> bool:
        """Ends the hold of a partition, and returns whether there was one."""
        return self._holds.pop(partition, None) is not None

    def expired(self, now_s: float) -> list[Partition]:
        """Returns the partitions whose deadline has passed."""
        return [partition for partition, hold in self._holds.items() if now_s >= hold.deadline_s]

    def outdated(self, generation: int) -> list[Partition]:
        """Returns the partitions that were revoked in another generation: the group continued without this member."""
        return [partition for partition, hold in self._holds.items() if hold.generation != generation]

    def any_in(self, generation: int) -> bool:
        """Returns whether a revocation of this generation is open. A member that was removed holds none: it rejoins."""
        return any(hold.generation == generation for hold in self._holds.values())

    def clear(self) -> None:
        """Ends all holds."""
        self._holds.clear()
