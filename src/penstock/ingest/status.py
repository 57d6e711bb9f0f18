"""The status of the ingest plane: summed over its lanes, and written each second for `penstock status`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from penstock.ingest.lane.status import LaneStatus
from penstock.observability.health import plane_file, replace_text
from penstock.records import Modality


class PlaneState(StrEnum):
    """The phases of an ingest plane's life."""

    STANDBY = "standby"  # waits for another driver to end
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from produced to acknowledged by the store, over the latest events of a modality.

    Attributes:
        events: the number of samples.
        p50_s, p95_s, max_s: their quantiles.
    """

    events: int
    p50_s: float
    p95_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class PlaneStatus:
    """The ingest plane at one moment.

    Over the limit because it is one JSON document for operators and tools, and is read as a whole.

    Attributes:
        state: the phase of its life.
        pid: process id of the driver.
        updated_ms: time of this status, milliseconds since the epoch; if it is old, the plane no longer runs.
        profile: the models.
        lanes: their number.
        workers: the number of workers, by pool.
        assignments: the partitions that each lane owns, by its name.
        busy: share of the time in which the workers of each pool had a call running, since the last measurement.
        outcomes: events since the plane started, by modality and outcome.
        dead_letters: events that were dead-lettered, by reason.
        freshness: by modality.
        step_s: seconds spent in each step.
        batches, commits, in_flight_batches, in_flight_bytes, lost_offsets: sums over the lanes.
        paused, halted, store_error: human-readable reasons why events wait; empty if they do not.
        held: what holds lanes or the plane up for longer than moments, with a reason of each (`ingest.holds`).
        broker_available: whether every lane reaches a broker.
        long_media: seconds that are indexed of each asset of audio or video that has more segments to come.
        long_documents: pages that are indexed of each document that has more segments to come.
    """

    state: PlaneState
    pid: int
    updated_ms: int
    profile: str
    lanes: int
    workers: Mapping[str, int]
    assignments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    busy: Mapping[str, float] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    freshness: Mapping[str, Freshness] = field(default_factory=dict)
    step_s: Mapping[str, float] = field(default_factory=dict)
    batches: int = 0
    commits: int = 0
    in_flight_batches: int = 0
    in_flight_bytes: int = 0
    lost_offsets: int = 0
    paused: str = ""
    held: Mapping[str, str] = field(default_factory=dict)
    halted: Mapping[str, str] = field(default_factory=dict)
    store_error: str = ""
    broker_available: bool = True
    long_media: Mapping[str, float] = field(default_factory=dict)
    long_documents: Mapping[str, int] = field(default_factory=dict)


def sum_lanes(
    lanes: Sequence[LaneStatus],
    *,
    state: PlaneState,
    updated_ms: int,
    profile: str,
    workers: Mapping[str, int],
    busy: Mapping[str, float],
) -> PlaneStatus:
    """Returns one status for all lanes. A lane that did not answer is missing from the sums."""
    outcomes: dict[str, Counter[str]] = {}
    dead_letters: Counter[str] = Counter()
    step_s: Counter[str] = Counter()
    samples: dict[Modality, list[float]] = {}
    halted: dict[str, str] = {}
    held: dict[str, str] = {}
    for lane in lanes:
        for (modality, outcome), count in lane.outcomes.items():
            outcomes.setdefault(modality.value, Counter())[outcome.value] += count
        dead_letters.update(lane.dead_letters)
        step_s.update(lane.step_s)
        halted.update(lane.halted)
        held.update(lane.held)
        for modality, seconds in lane.freshness_s.items():
            samples.setdefault(modality, []).extend(seconds)
    in_progress = [item for lane in lanes for item in lane.long_media]
    return PlaneStatus(
        state=state,
        pid=os.getpid(),
        updated_ms=updated_ms,
        profile=profile,
        lanes=len(lanes),
        assignments={lane.lane: lane.assignments for lane in lanes},
        workers=workers,
        busy=busy,
        outcomes={modality: dict(counts) for modality, counts in outcomes.items()},
        dead_letters=dict(dead_letters),
        freshness={modality.value: _freshness(seconds) for modality, seconds in samples.items() if seconds},
        step_s=dict(step_s),
        batches=sum(lane.batches for lane in lanes),
        commits=sum(lane.commits for lane in lanes),
        in_flight_batches=sum(lane.in_flight_batches for lane in lanes),
        in_flight_bytes=sum(lane.in_flight_bytes for lane in lanes),
        lost_offsets=sum(lane.lost_offsets for lane in lanes),
        paused=_first(lane.paused for lane in lanes),
        held=held,
        halted=halted,
        store_error=_first(lane.store_error for lane in lanes),
        broker_available=all(lane.broker_available for lane in lanes),
        long_media={item.asset: item.position.scanned_ms / 1000 for item in in_progress if not item.position.page},
        long_documents={item.asset: item.position.page for item in in_progress if item.position.page},
    )


def status_file(data_dir: Path, group: str) -> Path:
    """Returns the path of the status of a consumer group's plane in a data folder."""
    return plane_file(data_dir / "ingest-status", group)


def write_status(data_dir: Path, group: str, status: PlaneStatus) -> None:
    """Replaces the file atomically.

    Raises:
        OSError: it cannot be written.
    """
    replace_text(status_file(data_dir, group), json.dumps(asdict(status)))


def read_status(data_dir: Path, group: str) -> PlaneStatus | None:
    """Returns the latest status; None if no ingest plane of this group and this version has run on this folder."""
    try:
        return _STATUS.validate_json(status_file(data_dir, group).read_text())
    except (OSError, ValidationError):
        return None


_STATUS = TypeAdapter(PlaneStatus)


def _freshness(seconds: Sequence[float]) -> Freshness:
    p50_s, p95_s = np.quantile(seconds, (0.5, 0.95), method="inverted_cdf").tolist()
    return Freshness(len(seconds), p50_s, p95_s, max(seconds))


def _first(reasons: Iterable[str]) -> str:
    return next((reason for reason in reasons if reason), "")
