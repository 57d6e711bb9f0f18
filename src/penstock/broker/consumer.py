"""The lane's consumer: kafka-python's `KafkaConsumer` without callbacks and without unreported jumps.

It differs from kafka-python 3.0 in five ways, most in a module of their own:

- A revocation is held open until the lane has drained (`broker.rebalances`).
- A position never jumps without a report (`broker.start_offsets`). New partitions are paused until their start is
  known, so that `PollResult.assigned` always precedes their first record.
- A partition that cannot or may not be read stops alone, and is reported (`broker.unreadable`).
- The client is opened once a broker answers, where kafka-python's constructor would fail (`broker.member_client`).
- A broker that refuses this client is reported and tried again, since rights and passwords change while it runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from kafka import errors
from kafka.structs import OffsetAndMetadata

from penstock.broker.base import AssignedPartition, CommitDeniedError, LostRange, Partition, PollResult
from penstock.broker.client import ConsumerClient, list_offsets, to_record, to_topic_partition, translate
from penstock.broker.member_client import MemberClient
from penstock.broker.outage import RefusedRequests
from penstock.broker.rebalances import HeldRevocations, Rebalances
from penstock.broker.rights import Right, denied_topic
from penstock.broker.start_offsets import StartOffsets
from penstock.broker.stops import DeniedPartition, UnreadableRange
from penstock.broker.unreadable import report_unreadable
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, FencedError, PenstockError, UnavailableError
from penstock.records import Assignment, Record

logger = logging.getLogger(__name__)

_POLL_STEP_S = 0.1  # how often a poll that waits checks for events other than records
_FENCED: tuple[type[BaseException], ...] = (
    errors.CommitFailedError,
    errors.UnknownMemberIdError,
    errors.IllegalGenerationError,
    errors.FencedInstanceIdError,
)


class LaneConsumer:
    """A member of the consumer group (`broker.base.Consumer`). Call it from one thread.

    Args:
        kafka_settings: broker, group and timeouts.
        topics: the topics to subscribe to; they must exist.
        drain_timeout_s: how long a revocation is held open for the lane; well under `max_poll_interval_ms`.
        clock: monotonic seconds.

    Raises:
        ConfigError: no bootstrap servers, or `drain_timeout_s` is not below `max_poll_interval_ms`.
    """

    def __init__(
        self,
        kafka_settings: KafkaSettings,
        topics: Collection[str],
        *,
        drain_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if drain_timeout_s * 1000 >= kafka_settings.max_poll_interval_ms:
            raise ConfigError(
                f"ingest.drain_timeout_s ({drain_timeout_s} s) must be below kafka.max_poll_interval_ms "
                f"({kafka_settings.max_poll_interval_ms} ms): the group waits no longer than that."
            )
        self._settings = kafka_settings
        self._topics = sorted(topics)
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._member = MemberClient(kafka_settings, self._topics, clock)
        self._rebalances = Rebalances()
        self._starts = StartOffsets(self._member, kafka_settings, clock)
        self._owned: dict[Partition, Assignment] = {}
        self._revoking = HeldRevocations()
        self._paused: set[Partition] = set()
        self._stopped: set[Partition] = set()  # before unreadable records, until `seek_to`
        self._unreadable: list[UnreadableRange | DeniedPartition] = []
        self._refused = RefusedRequests()
        self._closed = False

    # --- reading -----------------------------------------------------------------------------------------------------

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        """See `broker.base.Consumer.poll`."""
        deadline_s = self._clock() + timeout_s
        while True:
            remaining_s = max(0.0, deadline_s - self._clock())
            polled = self._poll_once(min(remaining_s, _POLL_STEP_S), max_records)
            if not polled.is_empty or self._clock() >= deadline_s:
                return polled

    def _poll_once(self, timeout_s: float, max_records: int) -> PollResult:
        if not self._member.connect(timeout_s, self._prepare):
            return PollResult(broker_available=False, refusal=self._member.refusal)
        expired = self._revoking.expired(self._clock())
        lost = self._drop(expired, f"the lane did not release it within {self._drain_timeout_s} s")
        records, lost_ranges = self._fetch(timeout_s, max_records)
        revoking, more_lost = self._apply_rebalances()
        assigned = self._assign()
        self._apply_pause(self._starts.locate_truncated())
        unreadable, self._unreadable = self._unreadable, []
        refusal = self._refused.reason or self._member.refusal
        available = self._rebalances.coordinator_known and not refusal
        self._member.record_available(available)
        return PollResult(
            records=records,
            assigned=assigned,
            revoking=revoking,
            revoked_without_drain=[*lost, *more_lost],
            lost_ranges=lost_ranges,
            truncated=[log for log in self._starts.take_truncations() if log.partition in self._owned],
            unreadable=[
                stop for stop in unreadable if stop.partition in self._owned and stop.partition not in self._revoking
            ],
            denied={
                topic: denied_topic(self._settings, Right.DESCRIBE, topic)
                for topic in sorted(self._rebalances.hidden_topics | self._starts.denied_topics)
            },
            broker_available=available,
            refusal=refusal,
        )

    def _prepare(self, client: ConsumerClient) -> Rebalances:
        """Attaches everything that reports to a new client, and returns its rebalance listener."""
        self._starts.clear()
        self._rebalances = Rebalances()
        self._rebalances.attach(client, holds=self._revoking.any_in)
        report_unreadable(
            client,
            self._stop,
            lambda at, first: self._stop(
                DeniedPartition(at, first, denied_topic(self._settings, Right.READ, at.topic))
            ),
        )
        return self._rebalances

    def _fetch(self, timeout_s: float, max_records: int) -> tuple[list[Record], list[LostRange]]:
        """Returns the next records, and the offsets that retention removed under the reader."""
        if (wait_s := self._refused.wait_s(self._clock())) > 0:
            time.sleep(min(timeout_s, wait_s))  # nothing can be received during that time
            return [], []
        try:
            fetched = self._fetch_or_reposition(timeout_s, max_records)
        except errors.KafkaError as exc:
            error = translate(exc, f"read {', '.join(self._topics)}", self._settings)
            if isinstance(error, ConfigError):
                self._refused.record(error, self._clock())
            elif not isinstance(error, UnavailableError):
                raise error from exc
            return [], []
        if self.generation() >= 0:
            self._refused.reason = ""
        return fetched

    def _fetch_or_reposition(self, timeout_s: float, max_records: int) -> tuple[list[Record], list[LostRange]]:
        try:
            fetched = self._member.client.poll(timeout_ms=timeout_s * 1000, max_records=max_records)
        except errors.OffsetOutOfRangeError as exc:
            return [], self._starts.after_out_of_range(exc.args[0])
        except errors.NoOffsetForPartitionError:
            return [], []  # new partitions without a committed offset; `StartOffsets.assign` finds their start
        except errors.LogTruncationError as exc:
            self._starts.after_truncation(exc.divergent_offsets)
            return [], []
        return [to_record(raw) for batch in fetched.values() for raw in batch], []

    def _stop(self, stop: UnreadableRange | DeniedPartition) -> None:
        """Stops a partition before unreadable records. kafka-python's poll calls it, in the thread that polls."""
        self._stopped.add(stop.partition)
        self._member.client.pause(to_topic_partition(stop.partition))
        self._unreadable.append(stop)

    # --- ownership ---------------------------------------------------------------------------------------------------

    def release(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.release`."""
        for partition in partitions:
            if self._revoking.discard(partition):
                self._forget(partition)

    def pause(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.pause`."""
        owned = [partition for partition in partitions if partition in self._owned]
        self._paused.update(owned)
        self._apply_pause(owned)

    def resume(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.resume`."""
        paused = [partition for partition in partitions if partition in self._paused]
        self._paused.difference_update(paused)
        self._apply_pause(paused)

    def seek_to(self, partition: Partition, offset: int) -> None:
        """See `broker.base.Consumer.seek_to`."""
        if partition not in self._owned or partition in self._revoking:
            raise FencedError(f"could not read {partition} again from {offset}: this lane does not own it any more.")
        self._member.client.seek(to_topic_partition(partition), offset)
        self._stopped.discard(partition)
        self._apply_pause([partition])

    def assignments(self) -> Mapping[Partition, Assignment]:
        """See `broker.base.Consumer.assignments`."""
        return dict(self._owned)

    def generation(self) -> int:
        """See `broker.base.Consumer.generation`."""
        return self._member.generation()

    def _apply_rebalances(self) -> tuple[list[Partition], list[Partition]]:
        """Applies the changes that the listener recorded, and returns the partitions (to be revoked, lost)."""
        revoking: list[Partition] = []
        lost: list[Partition] = []
        for change in self._rebalances.take():
            for partition in sorted(change.partitions):
                if change.kind == "assigned":
                    self._starts.add(partition, change.generation)
                elif self._starts.discard_new(partition):
                    continue  # revoked again before the lane knew of it
                elif change.kind == "revoked" and partition in self._owned:
                    deadline_s = self._clock() + self._drain_timeout_s
                    self._revoking.add(partition, deadline_s=deadline_s, generation=change.generation)
                    revoking.append(partition)
                elif partition in self._owned:
                    self._forget(partition)
                    lost.append(partition)
        outdated = self._revoking.outdated(self.generation())
        lost.extend(self._drop(outdated, "the group continued without this member"))
        return revoking, lost

    def _assign(self) -> list[AssignedPartition]:
        try:
            assigned = self._starts.assign(self._rebalances.hidden_topics)
        except ConfigError as exc:
            self._refused.record(exc, self._clock())
            return []
        for start in assigned:
            self._owned[start.partition] = start.assignment
            self._member.record_assignment()
        self._apply_pause([start.partition for start in assigned])
        return assigned

    def _apply_pause(self, partitions: Iterable[Partition]) -> None:
        """Makes kafka-python pause or resume these partitions, for whatever reason they have to be."""
        paused = self._paused | self._stopped | self._starts.unlocated
        for partition in partitions:
            if partition in self._revoking:
                continue  # kafka-python has given it up already
            client = self._member.client
            apply = client.pause if partition in paused else client.resume
            apply(to_topic_partition(partition))

    def _drop(self, partitions: Sequence[Partition], reason: str) -> list[Partition]:
        for partition in partitions:
            logger.warning("%s is lost: %s", partition, reason)
            self._forget(partition)
        return list(partitions)

    def _forget(self, partition: Partition) -> None:
        self._owned.pop(partition, None)
        self._revoking.discard(partition)
        self._paused.discard(partition)
        self._stopped.discard(partition)
        self._starts.forget(partition)

    # --- committing and leaving --------------------------------------------------------------------------------------

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, *, note: str = "") -> None:
        """See `broker.base.Consumer.commit`."""
        doing = f"commit {list_offsets(offsets)}"
        not_owned = [str(partition) for partition in offsets if partition not in self._owned]
        if not_owned:
            raise FencedError(f"could not {doing}: this lane does not own {', '.join(not_owned)} any more.")
        if not offsets:
            return
        requested = {to_topic_partition(at): OffsetAndMetadata(offset, note, -1) for at, offset in offsets.items()}
        try:
            self._member.client.commit(requested, timeout_ms=timeout_s * 1000)
        except errors.KafkaError as exc:
            if _is_rebalancing(exc):
                raise UnavailableError(
                    f"could not {doing}: the group is rebalancing. Poll, then commit again."
                ) from exc
            if isinstance(exc, _FENCED):
                raise FencedError(f"could not {doing}: the group continued without this member ({exc}).") from exc
            raise _commit_error(exc, doing, offsets, self._settings) from exc

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Consumer.close`."""
        if self._closed:
            return
        self._closed = True
        self._revoking.clear()
        self._owned.clear()
        self._member.close(timeout_s * 1000)


def _is_rebalancing(exc: Exception) -> bool:
    """Returns whether the group rebalances: kafka-python raises that, or wraps it in the error for a removed member."""
    wrapped = exc.args[0] if isinstance(exc, errors.CommitFailedError) and exc.args else exc
    return isinstance(wrapped, errors.RebalanceInProgressError)


def _commit_error(
    exc: errors.KafkaError, doing: str, offsets: Mapping[Partition, int], settings: KafkaSettings
) -> PenstockError:
    """Returns the error of a commit that failed; a right that is missing may be granted again."""
    error = translate(exc, doing, settings)
    if not isinstance(error, ConfigError):
        return error
    if not isinstance(exc, errors.TopicAuthorizationFailedError):
        return UnavailableError(str(error))
    denied = exc.args[0]
    return CommitDeniedError(str(error), {at: offset for at, offset in offsets.items() if at.topic not in denied})
