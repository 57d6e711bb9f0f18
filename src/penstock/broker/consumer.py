"""The lane's consumer: kafka-python's `KafkaConsumer` without its callbacks, jumps and surprises.

Three things are done differently here, each because of how kafka-python 3.0 works:

- **A revocation is held open until the lane has drained.** In a cooperative rebalance kafka-python takes the revoked
  partitions out of its assignment, tells the listener, and gives them up by joining the group again. Waiting in the
  listener would block `poll`. So the listener only notes what happened, and the second join is put off until the lane
  released the partitions or its time is up. Until then this member is in a stable generation: its heartbeats go on, its
  other partitions are delivered, and its commits, those of the revoked partitions included, are accepted.
- **Positions never jump.** kafka-python runs with `auto_offset_reset=none`, and this class does what `earliest` does,
  but says what was lost: a partition is read from its committed offset, or from the log's start if there is none, or if
  retention has removed that offset (then the range comes as `lost`).
- **New partitions are paused until their start is known**, so that `assigned` always precedes their first record.
- **A partition that cannot be read stops alone**, and is told (`broker.unreadable`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import kafka
import kafka.future
from kafka import ConsumerRebalanceListener, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import OffsetAndMetadata

from penstock.broker.base import AssignedPartition, LostRange, Partition, PollResult, UnreadableRange
from penstock.broker.client import connection, open_client, partition_pairs, to_record, translate
from penstock.broker.unreadable import report_unreadable
from penstock.config import MIB, KafkaSettings
from penstock.errors import ConfigError, FencedError, UnavailableError
from penstock.records import Assignment

_log = logging.getLogger(__name__)

_SLICE_S = 0.1  # how often a poll that waits looks whether something other than a record has happened
_LOOKUP_TIMEOUT_MS = 5_000  # for the committed offset and the log's ends of a new partition
_RECONNECT_S = (0.2, 5.0)  # between attempts to reach a broker at all: first and longest
_PATIENCE_S = 3.0  # joining a group takes a second or two; only a longer silence is worth a warning
_RENEW_AFTER_S = (8.0, 16.0, 32.0)  # a first assignment takes 1 to 3 s
_FETCH_MIN_BYTES = 32 * MIB  # of one fetch of all partitions; a larger message still comes, alone
_FENCED: tuple[type[BaseException], ...] = (
    errors.CommitFailedError,
    errors.UnknownMemberIdError,
    errors.IllegalGenerationError,
    errors.FencedInstanceIdError,
)

_Clock: TypeAlias = Callable[[], float]


class LaneConsumer:
    """A member of the consumer group (`broker.base.Consumer`). Call it from one thread.

    Args:
        kafka_settings: broker, group and timeouts.
        topics: what to subscribe to; they must exist.
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
        clock: _Clock = time.monotonic,
    ) -> None:
        if drain_timeout_s * 1000 >= kafka_settings.max_poll_interval_ms:
            raise ConfigError(
                f"ingest.drain_timeout_s ({drain_timeout_s} s) must be below kafka.max_poll_interval_ms "
                f"({kafka_settings.max_poll_interval_ms} ms): the group waits no longer than that."
            )
        self._settings = kafka_settings
        self._arguments = _arguments(kafka_settings)
        self._topics = sorted(topics)
        self._drain_s = drain_timeout_s
        self._clock = clock
        self._client: Any = None  # kafka.KafkaConsumer, once a broker has answered
        self._rebalances = _Rebalances()
        self._owned: dict[Partition, Assignment] = {}
        self._unresolved: dict[Partition, int] = {}  # new partitions whose start is not known yet, with the generation
        self._held: dict[Partition, _Hold] = {}  # partitions being revoked
        self._paused: set[Partition] = set()
        self._joined_s = 0.0
        self._ever_owned = False
        self._renew_after_s = list(_RENEW_AFTER_S)
        self._rewound: list[tuple[Partition, int]] = []
        self._truncated: set[Partition] = set()  # their logs were rolled back, to where is not known yet
        self._unreadable: list[UnreadableRange] = []
        self._stopped: set[Partition] = set()  # before what cannot be read, until `seek_to`
        self._outage = _Outage(kafka_settings)
        self._closed = False

    # ---- reading ----

    def poll(self, timeout_s: float, max_records: int) -> PollResult:
        """See `broker.base.Consumer.poll`."""
        deadline = self._clock() + timeout_s
        while True:
            remaining = max(0.0, deadline - self._clock())
            polled = self._poll_once(min(remaining, _SLICE_S), max_records)
            if _tells_something(polled) or self._clock() >= deadline:
                return polled

    def _poll_once(self, timeout_s: float, max_records: int) -> PollResult:
        if not self._connect(timeout_s):
            return PollResult(broker_available=False)
        lost = self._drop_expired()
        raw, lost_ranges = self._fetch(timeout_s, max_records)
        revoking, more_lost = self._apply_rebalances()
        assigned = self._resolve_starts()
        self._resolve_truncated()
        rewound, self._rewound = self._rewound, []
        unreadable, self._unreadable = self._unreadable, []
        available = not self._client._coordinator.coordinator_unknown()
        self._outage.note(available, self._clock())
        return PollResult(
            records=[to_record(found) for batch in raw.values() for found in batch],
            assigned=assigned,
            revoking=revoking,
            revoked_without_drain=[*lost, *more_lost],
            lost_ranges=lost_ranges,
            truncated=[(partition, offset) for partition, offset in rewound if partition in self._owned],
            unreadable=[one for one in unreadable if one.partition in self._owned and one.partition not in self._held],
            broker_available=available,
        )

    def _connect(self, timeout_s: float) -> bool:
        """Makes the client once a broker answers; kafka-python's constructor needs one."""
        self._leave_if_forgotten()
        if self._client is not None:
            return True
        wait_s = self._outage.wait_s(self._clock())
        if wait_s > 0:
            time.sleep(min(timeout_s, wait_s))  # nothing else can happen meanwhile
            return False
        try:
            client = open_client(kafka.KafkaConsumer, self._arguments)
        except errors.KafkaError as exc:
            error = translate(exc, f"join the consumer group {self._settings.group}", self._settings)
            if not isinstance(error, UnavailableError):
                raise error from exc
            self._outage.failed(self._clock())
            return False
        self._client = client
        self._rebalances.attach(client, holds=lambda generation: _holds(self._held.values(), generation))
        report_unreadable(client, self._stop_before)
        client.subscribe(self._topics, listener=self._rebalances)
        self._joined_s = self._clock()
        return True

    def _leave_if_forgotten(self) -> None:
        """Begins again, a few times, with a member that never got a partition: kafka-python can lose a subscription
        that is made while its first metadata request is under way. A member too many is left in peace after that.
        """
        if self._client is None or self._ever_owned or not self._renew_after_s:
            return
        if self._clock() - self._joined_s < self._renew_after_s[0]:
            return
        _log.warning("no partition after %.0f s: this member joins the group anew", self._renew_after_s.pop(0))
        client, self._client = self._client, None
        self._rebalances = _Rebalances()
        self._unresolved.clear()
        try:
            client.close(autocommit=False, timeout_ms=_LOOKUP_TIMEOUT_MS)
        except errors.KafkaError as exc:
            _log.warning("left the consumer group %s without goodbye: %s", self._settings.group, exc)

    def _fetch(self, timeout_s: float, max_records: int) -> tuple[Mapping[Any, Sequence[Any]], list[LostRange]]:
        """Records by partition, and what retention removed under the reader."""
        try:
            return self._fetch_or_reposition(timeout_s, max_records)
        except errors.KafkaError as exc:
            error = translate(exc, f"read {', '.join(self._topics)}", self._settings)
            if isinstance(error, UnavailableError):
                return {}, []
            raise error from exc

    def _fetch_or_reposition(
        self, timeout_s: float, max_records: int
    ) -> tuple[Mapping[Any, Sequence[Any]], list[LostRange]]:
        try:
            return self._client.poll(timeout_ms=timeout_s * 1000, max_records=max_records), []
        except errors.OffsetOutOfRangeError as exc:
            return {}, self._after_out_of_range(exc.args[0])
        except errors.NoOffsetForPartitionError:
            return {}, []  # new partitions without a committed offset; `_resolve_starts` finds where to begin
        except errors.LogTruncationError as exc:
            self._after_truncation(exc.divergent_offsets)
            return {}, []

    def _after_out_of_range(self, positions: Mapping[Any, int]) -> list[LostRange]:
        """Goes on from the log's start; what lay between was removed before it was read."""
        lost_ranges = []
        starts = self._client.beginning_offsets(list(positions), timeout_ms=_LOOKUP_TIMEOUT_MS)
        for tp, position in positions.items():
            start = starts[tp]
            if start > position:
                lost_ranges.append(LostRange(_partition(tp), position, start))
            else:
                _log.error("%s ends before offset %d: the log was cut, reading it again from %d", tp, position, start)
                self._rewound.append((_partition(tp), start))
            self._client.seek(tp, start)
        return lost_ranges

    def _after_truncation(self, divergent: Mapping[Any, Any]) -> None:
        """An unclean leader election rolled the log back: read on from where the logs part (KIP-320).

        kafka-python tells it once, and would read on from where it is: what is not known yet is asked for until it is.
        """
        owned = self._client.assignment()
        for tp, found in divergent.items():
            if tp not in owned:
                continue  # another's by now
            if found is None:
                self._truncated.add(_partition(tp))
                self._client.pause(tp)
            else:
                self._rewind(tp, found.offset)

    def _resolve_truncated(self) -> None:
        """Finds the start of logs that were rolled back to nobody knows where; those not answered for stay paused."""
        if not self._truncated:
            return
        try:
            starts = self._client.beginning_offsets(list(map(_tp, self._truncated)), timeout_ms=_LOOKUP_TIMEOUT_MS)
        except errors.KafkaError as exc:
            _log.warning("could not ask for the start of logs that were rolled back, and will again: %r", exc)
            return
        for tp, start in starts.items():
            self._truncated.discard(_partition(tp))
            self._rewind(tp, start)
            self._apply_pause([_partition(tp)])

    def _rewind(self, tp: Any, offset: int) -> None:
        _log.error("the log of %s was rolled back by its brokers, reading it again from %d", tp, offset)
        self._rewound.append((_partition(tp), offset))
        if tp in self._client.assignment():  # else it is being revoked
            self._client.seek(tp, offset)

    def _stop_before(self, found: UnreadableRange) -> None:
        """Called within kafka-python's poll, in the thread that polls."""
        self._stopped.add(found.partition)
        self._client.pause(_tp(found.partition))
        self._unreadable.append(found)

    # ---- owning ----

    def release(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.release`."""
        for partition in partitions:
            if self._held.pop(partition, None) is not None:
                self._forget(partition)

    def pause(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.pause`."""
        owned = [partition for partition in partitions if partition in self._owned]
        self._paused.update(owned)
        self._apply_pause(owned)

    def resume(self, partitions: Collection[Partition]) -> None:
        """See `broker.base.Consumer.resume`."""
        owned = [partition for partition in partitions if partition in self._paused]
        self._paused.difference_update(owned)
        self._apply_pause(owned)

    def seek_to(self, partition: Partition, offset: int) -> None:
        """See `broker.base.Consumer.seek_to`."""
        if partition not in self._owned or partition in self._held:
            raise FencedError(f"could not read {partition} again from {offset}: this lane does not own it any more.")
        self._client.seek(_tp(partition), offset)
        self._stopped.discard(partition)
        self._apply_pause([partition])

    def assignments(self) -> Mapping[Partition, Assignment]:
        """See `broker.base.Consumer.assignments`."""
        return dict(self._owned)

    def generation(self) -> int:
        """See `broker.base.Consumer.generation`."""
        return -1 if self._client is None else int(self._client.group_metadata().generation_id)

    def _apply_rebalances(self) -> tuple[list[Partition], list[Partition]]:
        """Takes in what the listener noted: (to be revoked, lost)."""
        revoking: list[Partition] = []
        lost: list[Partition] = []
        for change in self._rebalances.take():
            for partition in sorted(change.partitions):
                if change.kind == "assigned":
                    self._unresolved[partition] = change.generation
                elif self._unresolved.pop(partition, None) is not None:
                    continue  # gone again before the lane ever heard of it
                elif change.kind == "revoked" and partition in self._owned:
                    self._held[partition] = _Hold(self._clock() + self._drain_s, change.generation)
                    revoking.append(partition)
                elif partition in self._owned:
                    self._forget(partition)
                    lost.append(partition)
        generation = self.generation()
        stale = [partition for partition, hold in self._held.items() if hold.generation != generation]
        lost.extend(self._drop(stale, "the group went on without this member"))
        return revoking, lost

    def _resolve_starts(self) -> list[AssignedPartition]:
        """Finds where to begin with new partitions; those that cannot be asked for now stay for the next poll."""
        if not self._unresolved:
            return []
        tps = [_tp(partition) for partition in self._unresolved]
        try:
            committed = {tp: self._client.committed(tp, timeout_ms=_LOOKUP_TIMEOUT_MS) for tp in tps}
            starts = self._client.beginning_offsets(tps, timeout_ms=_LOOKUP_TIMEOUT_MS)
            ends = self._client.end_offsets(tps, timeout_ms=_LOOKUP_TIMEOUT_MS)
        except errors.KafkaError as exc:
            error = translate(exc, f"look up where to begin with {len(tps)} partitions", self._settings)
            if isinstance(error, ConfigError):
                raise error from exc
            return []  # no broker answers, or the topic was deleted just now
        assigned = [self._begin(tp, committed[tp], starts[tp], ends[tp]) for tp in tps]
        self._apply_pause([found.partition for found in assigned])
        return assigned

    def _begin(self, tp: Any, committed: int | None, log_start: int, log_end: int) -> AssignedPartition:
        partition = _partition(tp)
        start, lost, cut_from = log_start, None, None
        if committed is not None and committed > log_end:
            cut_from = committed
            _log.warning(
                "%s ends at %d, before the committed %d: reading it again from its start", tp, log_end, committed
            )
        elif committed is not None and committed < log_start:
            lost = LostRange(partition, committed, log_start)
        elif committed is not None:
            start = committed
        assignment = Assignment(partition.topic, partition.partition, self._unresolved.pop(partition))
        self._owned[partition] = assignment
        self._ever_owned = True
        self._client.seek(tp, start)
        return AssignedPartition(assignment, start, lost, cut_from)

    def _apply_pause(self, partitions: Iterable[Partition]) -> None:
        paused = self._paused | self._stopped | self._truncated
        for partition in partitions:
            if partition in self._held:
                continue  # kafka-python has let go of it already
            act = self._client.pause if partition in paused else self._client.resume
            act(_tp(partition))

    def _drop_expired(self) -> list[Partition]:
        now = self._clock()
        late = [partition for partition, hold in self._held.items() if now >= hold.deadline]
        return self._drop(late, f"the lane did not release it within {self._drain_s} s")

    def _drop(self, partitions: Sequence[Partition], why: str) -> list[Partition]:
        for partition in partitions:
            _log.warning("%s is lost: %s", partition, why)
            self._held.pop(partition, None)
            self._forget(partition)
        return list(partitions)

    def _forget(self, partition: Partition) -> None:
        self._owned.pop(partition, None)
        self._held.pop(partition, None)
        for those in (self._paused, self._stopped, self._truncated):
            those.discard(partition)

    # ---- committing and leaving ----

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        """See `broker.base.Consumer.commit`."""
        doing = f"commit {partition_pairs(offsets)}"
        gone = [str(partition) for partition in offsets if partition not in self._owned]
        if gone:
            raise FencedError(f"could not {doing}: this lane does not own {', '.join(gone)} any more.")
        if not offsets:
            return
        wire = {_tp(partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        try:
            self._client.commit(wire, timeout_ms=timeout_s * 1000)
        except errors.KafkaError as exc:
            if _is_rebalancing(exc):
                raise UnavailableError(
                    f"could not {doing}: the group is rebalancing. Poll, then commit again."
                ) from exc
            if isinstance(exc, _FENCED):
                raise FencedError(f"could not {doing}: the group went on without this member ({exc}).") from exc
            raise translate(exc, doing, self._settings) from exc

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Consumer.close`."""
        if self._closed:
            return
        self._closed = True
        self._held.clear()
        self._owned.clear()
        if self._client is not None:
            try:
                self._client.close(autocommit=False, timeout_ms=timeout_s * 1000)
            except errors.KafkaError as exc:
                _log.warning("left the consumer group %s without goodbye: %s", self._settings.group, exc)


@dataclass(frozen=True, slots=True)
class _Hold:
    """A revocation held open: until when (by the consumer's clock), and the generation in which it was told."""

    deadline: float
    generation: int


def _holds(held: Iterable[_Hold], generation: int) -> bool:
    """Whether any of them still counts. A member that was thrown out holds nothing: it has to join anew."""
    return any(hold.generation == generation for hold in held)


@dataclass(frozen=True, slots=True)
class _Change:
    kind: Literal["assigned", "revoked", "lost"]
    partitions: frozenset[Partition]
    generation: int


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Notes what the group decides, on kafka-python's network thread, while the lane's thread waits inside `poll`.

    Also the one place that reaches into kafka-python: `need_rejoin` of its coordinator decides, at every poll, whether
    to join the group again. Two things are put right there (tests/broker/test_consumer.py and test_contract.py fail
    without them, and pyproject.toml holds kafka-python to the minor version that they were written for):

    - While a revocation is held it must not join, or the partitions would be given away undrained.
    - A join that was answered between two polls is thrown away and begun again, which makes the whole group join again:
      members that poll in short steps never come to rest. So the answer is handed over to the poll that follows.
    """

    def __init__(self) -> None:
        self._changes: list[_Change] = []
        self._client: Any = None

    def attach(self, client: Any, *, holds: Callable[[int], bool]) -> None:
        """Puts off joining again while `holds` says that a revocation of the current generation is open."""
        self._client = client
        coordinator = client._coordinator
        wants_to_join = coordinator.need_rejoin

        def need_rejoin() -> bool:
            _keep_answer(coordinator)
            return wants_to_join() and not (holds(self._generation()) or self._just_revoked())

        coordinator.need_rejoin = need_rejoin

    def take(self) -> list[_Change]:
        changes, self._changes = self._changes, []
        return changes

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._client.pause(*assigned)  # until the lane's consumer knows where to begin
        self._note("assigned", assigned)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._note("revoked", revoked)

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._note("lost", lost)

    def _note(self, kind: Literal["assigned", "revoked", "lost"], partitions: Iterable[Any]) -> None:
        self._changes.append(_Change(kind, frozenset(map(_partition, partitions)), self._generation()))

    def _generation(self) -> int:
        return int(self._client.group_metadata().generation_id)

    def _just_revoked(self) -> bool:
        """Whether a revocation was noted within this very poll, so that the lane has not heard of it yet."""
        generation = self._generation()
        return any(change.kind == "revoked" and change.generation == generation for change in self._changes)


class _Outage:
    """Says once that no broker answers and once that one does again, and spaces out attempts to connect."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._where = f"Kafka at {settings.bootstrap_servers}"
        self._since: float | None = None
        self._said = False
        self._delay_s, self._longest_s = _RECONNECT_S
        self._next_try = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until it is worth trying to connect again."""
        return max(0.0, self._next_try - now)

    def failed(self, now: float) -> None:
        self._next_try = now + self._delay_s
        self._delay_s = min(self._delay_s * 2, self._longest_s)
        self.note(False, now)

    def note(self, available: bool, now: float) -> None:
        if available:
            if self._said:
                _log.info("%s answers again", self._where)
            self._since, self._said = None, False
            return
        self._since = now if self._since is None else self._since
        if not self._said and now - self._since >= _PATIENCE_S:
            _log.warning("%s does not answer; trying on", self._where)
            self._said = True


def _keep_answer(coordinator: Any) -> None:
    """Makes a join that is done look like one that is about to be, so that kafka-python takes its answer.

    Its network thread asks `need_rejoin` right before it looks whether the join is done, and goes on to wait for it;
    the answer is given once it waits. A join that failed is begun again anyway.
    """
    answered = coordinator._join_task
    if answered is not None and answered.is_done and answered.succeeded():
        coordinator._join_task = pending = kafka.future.Future()
        coordinator._manager.call_soon(lambda: pending.success(answered.value))


def _arguments(settings: KafkaSettings) -> dict[str, Any]:
    return connection(settings) | {
        "group_id": settings.group,
        "partition_assignment_strategy": [CooperativeStickyAssignor],
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "session_timeout_ms": settings.session_timeout_ms,
        # A third of the session is the most that is safe; a rebalance is noticed at the next heartbeat, so not more
        # than half a second.
        "heartbeat_interval_ms": min(500, settings.session_timeout_ms // 3),
        "max_poll_interval_ms": settings.max_poll_interval_ms,
        # kafka-python forgets a subscription that is made while its first metadata request is under way, until the next
        # one: five minutes by default, in one start of eighty. Added partitions are noticed as soon, too.
        "metadata_max_age_ms": 3_000,
        "fetch_max_wait_ms": 100,
        "max_partition_fetch_bytes": settings.max_message_bytes,
        "fetch_max_bytes": max(_FETCH_MIN_BYTES, settings.max_message_bytes),
        "bootstrap_timeout_ms": 2_000,
        "metrics_enabled": False,
    }


def _is_rebalancing(exc: Exception) -> bool:
    """kafka-python says so itself, or wraps the broker's word in the error that otherwise means being thrown out."""
    wrapped = exc.args[0] if isinstance(exc, errors.CommitFailedError) and exc.args else exc
    return isinstance(wrapped, errors.RebalanceInProgressError)


def _tells_something(polled: PollResult) -> bool:
    return any(
        (
            polled.records,
            polled.assigned,
            polled.revoking,
            polled.revoked_without_drain,
            polled.lost_ranges,
            polled.truncated,
            polled.unreadable,
        )
    )


def _partition(tp: Any) -> Partition:
    return Partition(tp.topic, tp.partition)


def _tp(partition: Partition) -> Any:
    return TopicPartition(partition.topic, partition.partition)
