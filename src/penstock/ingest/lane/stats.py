"""Counts what a lane has done, and keeps what other threads read of it: its status, assignments and heartbeat."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from penstock.broker.base import LostRange
from penstock.errors import Reason
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.holds import HoldKey, Holds
from penstock.ingest.lane.continuations import LongMediaProgress
from penstock.ingest.lane.status import LaneStatus
from penstock.observability import metrics
from penstock.observability.tenant_labels import TenantLabels
from penstock.records import Assignment, Modality, Outcome, Rejected

_FRESHNESS_SAMPLES = 2_000  # kept for each modality, newest last
# A turn waits for a poll and a commit, 20 s at most while no broker answers. A loop that completes none for this long
# is stuck.
_STUCK_AFTER_S = 120.0


class LaneStats:
    """The counters of a lane and its published status.

    Over the limit because each of its counters is an attribute.

    Written by the lane's thread. The published values are replaced as a whole, so that other threads read them
    without a lock.

    Args:
        lane: its name.
        topics: the modality of each topic.
        clock: monotonic seconds.
        wall_ms: milliseconds since the epoch.

    Attributes:
        assignments: the partitions that the lane owns.
        status: the lane as of the last `publish`.
        broker_error: why nothing can be received: no broker answers, or it refuses this client; empty if it can.
    """

    def __init__(
        self, lane: str, topics: Mapping[str, Modality], *, clock: Callable[[], float], wall_ms: Callable[[], int]
    ) -> None:
        self.assignments: tuple[Assignment, ...] = ()
        self.status = LaneStatus(lane)
        self.broker_error = ""
        self._lane = lane
        self._topics = topics
        self._clock = clock
        self._wall_ms = wall_ms
        self._holds = Holds(clock)
        self._turned_s = clock()
        self._settled_ms = 0
        self._outcomes: Counter[tuple[Modality, Outcome]] = Counter()
        self._dead_letters: Counter[str] = Counter()
        self._freshness_s: dict[Modality, deque[float]] = defaultdict(lambda: deque(maxlen=_FRESHNESS_SAMPLES))
        self._step_s: defaultdict[str, float] = defaultdict(float)
        self._totals: Counter[str] = Counter()
        self._tenants = TenantLabels()
        self._waiting: Mapping[str, int] = {}
        # At 0 from the start: Prometheus sees no increase in a counter that begins with its first letters.
        for reason in Reason:
            metrics.DEAD_LETTERS.labels(str(reason))

    # --- heartbeat --------------------------------------------------------------------------------------------------

    def record_turn(self) -> None:
        """Records that the loop runs: it makes a turn, or reads the next record of one."""
        self._turned_s = self._clock()

    def record_broker(self, *, available: bool, refusal: str) -> None:
        """Records whether a broker answered the last poll, or why it refuses this client."""
        self.broker_error = refusal or ("" if available else "Kafka does not answer. Check kafka.bootstrap_servers")

    def is_stuck(self) -> bool:
        """Returns whether the loop has made no turn for minutes, and will make none any more."""
        return self._clock() - self._turned_s > _STUCK_AFTER_S

    # --- counters ---------------------------------------------------------------------------------------------------

    def record_dispatch(self, batch: Batch) -> None:
        """Counts the size of a batch that goes into the steps."""
        modality = self._topics[batch.topic]
        metrics.BATCH_EVENTS.labels(modality).observe(len(batch.deliveries))
        metrics.BATCH_BYTES.labels(modality).observe(batch.size_bytes)

    def record_batch(self, batch: Batch, step_s: Mapping[str, float]) -> None:
        """Counts a settled batch and the seconds of its steps. The present is the time at which its events settled."""
        self._settled_ms = self._wall_ms()
        self._totals["batches"] += 1
        modality = self._topics[batch.topic]
        for step, seconds in step_s.items():
            self._step_s[step] += seconds
            metrics.STEP.labels(step, modality).observe(seconds)

    def record_outcome(self, delivery: Delivery, outcome: Outcome, rejection: Rejected | None) -> None:
        """Counts an event of the last recorded batch, with its freshness if it is indexed and no replay."""
        modality = self._topics[delivery.record.position.topic]
        self._outcomes[modality, outcome] += 1
        metrics.EVENTS.labels(modality, outcome).inc()
        metrics.TENANT_EVENTS.labels(self._tenants.label(delivery.tenant), outcome).inc()
        if rejection is not None:
            reason = str(rejection.reason)
            self._dead_letters[reason] += 1
            metrics.DEAD_LETTERS.labels(reason).inc()
        if outcome is Outcome.INDEXED and not delivery.is_replay:
            freshness_s = (self._settled_ms - delivery.record.timestamp_ms) / 1000
            self._freshness_s[modality].append(freshness_s)
            metrics.FRESHNESS.labels(modality).observe(freshness_s)

    def record_commit(self, result: str) -> None:
        """Counts a commit by its result: acknowledged, unanswered or fenced."""
        self._totals["commits"] += result == "acknowledged"
        metrics.COMMITS.labels(result).inc()

    def record_lost(self, lost: LostRange) -> None:
        """Counts offsets that retention removed before they were committed."""
        count = lost.end - lost.first
        self._totals["lost_offsets"] += count
        metrics.LOST_OFFSETS.labels(lost.partition.topic).inc(count)

    def _publish_waiting(self, waiting: Mapping[str, int]) -> None:
        shown: Counter[str] = Counter(dict.fromkeys(self._waiting, 0))  # also those that wait no longer
        for tenant, count in waiting.items():
            shown[self._tenants.label(tenant)] += count
        for label, count in shown.items():
            metrics.TENANT_WAITING.labels(label).set(count)
        self._waiting = shown

    # --- for other threads ------------------------------------------------------------------------------------------

    def publish(
        self,
        *,
        in_flight_batches: int,
        in_flight_bytes: int,
        paused: str,
        held: Mapping[HoldKey, str],
        waiting: Mapping[str, int],
        halted: Mapping[str, str],
        store_error: str,
        long_media: Sequence[LongMediaProgress],
    ) -> None:
        """Replaces the published status; the arguments are its fields that are not counted here.

        What holds the lane up is counted here, and so are the events of each tenant that wait for its quota.
        """
        self._holds.update(held)
        self._publish_waiting(waiting)
        self.status = LaneStatus(
            lane=self._lane,
            assignments=[f"{assignment.topic}[{assignment.partition}]" for assignment in self.assignments],
            outcomes=dict(self._outcomes),
            dead_letters=dict(self._dead_letters),
            freshness_s={modality: tuple(samples) for modality, samples in self._freshness_s.items()},
            step_s=dict(self._step_s),
            batches=self._totals["batches"],
            in_flight_batches=in_flight_batches,
            in_flight_bytes=in_flight_bytes,
            commits=self._totals["commits"],
            lost_offsets=self._totals["lost_offsets"],
            paused=paused,
            held=self._holds.reasons,
            halted=halted,
            broker_available=not self.broker_error,
            store_error=store_error,
            long_media=long_media,
        )
        metrics.IN_FLIGHT.labels(self._lane).set(in_flight_bytes)
