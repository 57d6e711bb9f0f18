"""Decides where partitions are read from, so that a position never jumps without a report.

kafka-python runs with `auto_offset_reset=none`. This module does what `earliest` does, but reports what was lost: a
partition is read from its committed offset, or from the start of its log if nothing was committed or retention removed
that offset. If the log ends below the position, it was truncated or created again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING

from kafka import TopicPartition, errors

from penstock.broker.base import AssignedPartition, LogRange, LostRange, Partition, Truncation
from penstock.broker.client import to_partition, to_topic_partition, translate
from penstock.broker.member_client import MemberClient
from penstock.config import KafkaSettings
from penstock.errors import ConfigError
from penstock.records import Assignment

if TYPE_CHECKING:
    from kafka.structs import OffsetAndMetadata

logger = logging.getLogger(__name__)

_DENIED_RETRY_S = 5.0
_LOOKUP_TIMEOUT_MS = 5_000  # for the committed offset and the ends of a log


class StartOffsets:
    """Positions new partitions, and those whose position the log no longer holds.

    Args:
        member: has the client to position.
        settings: for messages.
        clock: monotonic seconds.
    """

    def __init__(self, member: MemberClient, settings: KafkaSettings, clock: Callable[[], float]) -> None:
        self._member = member
        self._settings = settings
        self._clock = clock
        self._new: dict[Partition, int] = {}  # assigned, without a start yet; with the generation
        self._unlocated: set[Partition] = set()  # truncated, to an offset that is not known yet
        self._truncations: list[Truncation] = []
        self._denied: dict[str, float] = {}  # topics that may not be looked up, and when they are tried again

    @property
    def denied_topics(self) -> Set[str]:
        """Topics with new partitions that this client may not look up."""
        return self._denied.keys() & {partition.topic for partition in self._new}

    @property
    def unlocated(self) -> Set[Partition]:
        """Truncated partitions that have to stay paused until `locate_truncated` finds where they continue."""
        return self._unlocated

    def add(self, partition: Partition, generation: int) -> None:
        """Adds a partition that was assigned in this generation."""
        self._new[partition] = generation

    def discard_new(self, partition: Partition) -> bool:
        """Removes a partition without a start; returns False if it has one or was never added."""
        return self._new.pop(partition, None) is not None

    def forget(self, partition: Partition) -> None:
        """Removes a partition that is no longer owned."""
        self._unlocated.discard(partition)

    def clear(self) -> None:
        """Removes all partitions without a start: their client was closed."""
        self._new.clear()

    def assign(self, hidden: Set[str]) -> list[AssignedPartition]:
        """Positions the new partitions at their starts. Those that cannot be looked up stay for the next call.

        Args:
            hidden: topics that this client may not describe, so that nothing can be looked up.

        Raises:
            ConfigError: the broker refuses this client.
        """
        by_topic: dict[str, list[TopicPartition]] = {}
        for partition in self._new:
            if partition.topic not in hidden and self._clock() >= self._denied.get(partition.topic, 0.0):
                by_topic.setdefault(partition.topic, []).append(to_topic_partition(partition))
        return [assigned for topic, tps in by_topic.items() for assigned in self._assign_topic(topic, tps)]

    def _assign_topic(self, topic: str, tps: list[TopicPartition]) -> list[AssignedPartition]:
        client = self._member.client
        try:
            committed = {tp: client.committed(tp, timeout_ms=_LOOKUP_TIMEOUT_MS) for tp in tps}
            starts = client.beginning_offsets(tps, timeout_ms=_LOOKUP_TIMEOUT_MS)
            ends = client.end_offsets(tps, timeout_ms=_LOOKUP_TIMEOUT_MS)
        except errors.TopicAuthorizationFailedError:
            self._denied[topic] = self._clock() + _DENIED_RETRY_S
            return []
        except errors.KafkaError as exc:
            error = translate(exc, f"look up where to start {len(tps)} partitions", self._settings)
            if isinstance(error, ConfigError):
                raise error from exc
            return []  # no broker answers, or the topic was deleted just now
        self._denied.pop(topic, None)
        return [self._assign(tp, committed[tp], starts[tp], ends[tp]) for tp in tps]

    def after_out_of_range(self, positions: Mapping[TopicPartition, int]) -> list[LostRange]:
        """Continues from the start of each log, and returns the offsets that retention removed before they were read.

        A log that ends before the position is reported as truncated.

        Raises:
            KafkaError: the start could not be looked up.
        """
        client = self._member.client
        lost_ranges = []
        starts = client.beginning_offsets(list(positions), timeout_ms=_LOOKUP_TIMEOUT_MS)
        for tp, position in positions.items():
            partition, start = to_partition(tp), starts[tp]
            if start > position:
                lost_ranges.append(LostRange(partition, position, start))
            else:
                logger.error(
                    "%s ends before offset %d: the log was truncated; reading it again from %d",
                    partition,
                    position,
                    start,
                )
                self._truncations.append(Truncation(partition, start))
            client.seek(tp, start)
        return lost_ranges

    def after_truncation(self, divergent: Mapping[TopicPartition, OffsetAndMetadata | None]) -> None:
        """Continues from where the logs diverge, after an unclean leader election truncated them (KIP-320).

        kafka-python reports this once, and would then continue from its position. An offset that it does not know is
        looked up until it is found; the partition stays paused until then.
        """
        client = self._member.client
        owned = client.assignment()
        for tp, offset in divergent.items():
            if tp not in owned:
                continue  # another member owns it by now
            if offset is None:
                self._unlocated.add(to_partition(tp))
                client.pause(tp)
            else:
                self._rewind(tp, offset.offset)

    def locate_truncated(self) -> list[Partition]:
        """Looks up the start of logs that were truncated to an unknown offset; returns those that can continue."""
        if not self._unlocated:
            return []
        tps = list(map(to_topic_partition, self._unlocated))
        try:
            starts = self._member.client.beginning_offsets(tps, timeout_ms=_LOOKUP_TIMEOUT_MS)
        except errors.KafkaError as exc:
            logger.warning("could not look up the start of truncated logs; will retry: %r", exc)
            return []
        for tp, start in starts.items():
            self._unlocated.discard(to_partition(tp))
            self._rewind(tp, start)
        return list(map(to_partition, starts))

    def take_truncations(self) -> list[Truncation]:
        """Returns the truncations since the last call."""
        truncations, self._truncations = self._truncations, []
        return truncations

    def _assign(self, tp: TopicPartition, committed: int | None, log_start: int, log_end: int) -> AssignedPartition:
        partition = to_partition(tp)
        assignment = Assignment(partition.topic, partition.partition, self._new.pop(partition))
        assigned = AssignedPartition.resume(assignment, committed, LogRange(log_start, log_end))
        if assigned.truncated_from is not None:
            logger.warning(
                "%s ends at %d, before the committed %d: reading it again from its start", partition, log_end, committed
            )
        self._member.client.seek(tp, assigned.start)
        return assigned

    def _rewind(self, tp: TopicPartition, offset: int) -> None:
        partition = to_partition(tp)
        logger.error("brokers truncated the log of %s; reading it again from %d", partition, offset)
        self._truncations.append(Truncation(partition, offset))
        client = self._member.client
        if tp in client.assignment():  # else it is being revoked
            client.seek(tp, offset)
