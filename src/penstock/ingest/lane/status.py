"""The state of one lane as the plane and `penstock status` read it: plain values that are sent between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.ingest.lane.continuations import LongMediaProgress
from penstock.records import Modality, Outcome


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """A lane at one moment.

    Over the limit because it is one row of what an operator sees of the ingest plane, and is read as a whole.

    Attributes:
        lane: its name.
        assignments: partitions it owns.
        outcomes: events settled since it started, by (modality, outcome).
        dead_letters: events of these that were dead-lettered, by reason.
        freshness_s: seconds from produced to acknowledged by the store, of the latest events indexed, by modality;
            without replays.
        step_s: seconds spent in each step by all batches.
        batches: batches settled.
        in_flight_batches: batches in the steps.
        in_flight_bytes: memory of the records that are received and not settled, queued ones included.
        commits: commits acknowledged.
        lost_offsets: offsets that retention removed before they were committed.
        paused: why no records are received at present; empty if they are.
        held: what holds the lane up for longer than moments, with the reason (`ingest.holds`).
        halted: partitions that are halted, with the reason.
        broker_available: whether a broker answers.
        store_error: why the store does not answer; empty if it does.
        long_media: how far those events are indexed that have more segments to come.
    """

    lane: str
    assignments: Sequence[str] = ()
    outcomes: Mapping[tuple[Modality, Outcome], int] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    freshness_s: Mapping[Modality, Sequence[float]] = field(default_factory=dict)
    step_s: Mapping[str, float] = field(default_factory=dict)
    batches: int = 0
    in_flight_batches: int = 0
    in_flight_bytes: int = 0
    commits: int = 0
    lost_offsets: int = 0
    paused: str = ""
    held: Mapping[str, str] = field(default_factory=dict)
    halted: Mapping[str, str] = field(default_factory=dict)
    broker_available: bool = True
    store_error: str = ""
    long_media: Sequence[LongMediaProgress] = ()
