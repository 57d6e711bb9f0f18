"""What an audit says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.broker.base import LostRange, Partition
from penstock.records import Outcome, Position

MAX_PROBLEMS = 1_000
"""So many problems are kept for the report; all are counted, and told to whoever listens."""


class ProblemKind(StrEnum):
    """What can be wrong. The first three are about events, the others about rows and entries of the store."""

    MISSING = "missing"  # a committed event that ended as nothing
    WRONG_OUTCOME = "wrong_outcome"  # a tombstone's row says indexed, or another event's says deleted
    ROLLED_BACK = "rolled_back"  # the group has committed more than the partition holds
    UNKNOWN_ORIGIN = "unknown_origin"  # an asset row or dead letter of an event that the topic never had
    INCOMPLETE = "incomplete"  # an asset row tells of more entries than there are
    DOUBLED = "doubled"  # two entries are the same part of an asset
    MISNAMED = "misnamed"  # an entry's id is not the one of its part: written again, it is doubled
    LEFTOVER = "leftover"  # an entry that its asset's newest version did not write
    TORN = "torn"  # an entry newer than its asset's row, though its event is settled: a write that was never finished
    ORPHAN = "orphan"  # an entry of an asset without a row


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing that is wrong.

    Attributes:
        kind: what.
        message: what is wrong with which, in words.
        position: of the event, where it is about one.
        asset_id: of the asset, where it is about one.
        entry_id: of the entry, where it is about one.
    """

    kind: ProblemKind
    message: str
    position: Position | None = None
    asset_id: str | None = None
    entry_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """How far an audit is. `total` is an estimate, None where nobody knows."""

    stage: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What became of the events of one partition.

    Attributes:
        partition: which.
        start, end: what the log held when the audit began, `end` exclusive.
        committed: up to where the events are judged, exclusive; None if the group never committed.
        outcomes: settled events by how they ended.
        missing: settled events that ended as nothing.
        in_flight: records at and above `committed`; they are not judged.
        lost: what retention removed past the committed offset.
    """

    partition: Partition
    start: int
    end: int
    committed: int | None
    outcomes: Mapping[Outcome, int]
    missing: int
    in_flight: int
    lost: LostRange | None

    @property
    def produced(self) -> int:
        """Events that are settled by the word of the committed offset, each once, however often it was replayed."""
        return sum(self.outcomes.values()) + self.missing


@dataclass(slots=True)
class Exclusions:
    """What was met beside, and is no problem.

    Attributes:
        replays: records that are replays of dead letters, and no events of their own.
        before_log: asset rows and dead letters of events that retention has removed since.
        compacted: asset rows and dead letters without an event, in topics that compaction cleans.
        other_topics: asset rows, entries and dead letters of topics that are not audited.
        repeated_dead_letters: dead letters beyond the first of an event: a crash, or a replay that failed again.
        foreign_records: records of the dead-letter topic that Penstock did not write.
        being_written: assets that looked wrong, for which an event in flight accounts.
    """

    replays: int = 0
    before_log: int = 0
    compacted: int = 0
    other_topics: int = 0
    repeated_dead_letters: int = 0
    foreign_records: int = 0
    being_written: int = 0


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The balance of one group's topics and store.

    Attributes:
        partitions: of every topic, in order.
        problems: the first of each kind, `MAX_PROBLEMS` together, by kind.
        problem_counts: all of them by kind; kinds without any are left out.
        assets, entries: how many were looked at.
        exclusions: what was met beside.
        unseen: what this audit could not see, one line each: empty unless it was a sample.
        sample: share of the assets that was looked at; None: all.
        seconds: how long it took, by stage.
    """

    partitions: tuple[PartitionReport, ...]
    problems: tuple[AuditProblem, ...]
    problem_counts: Mapping[ProblemKind, int]
    assets: int
    entries: int
    exclusions: Exclusions
    unseen: tuple[str, ...] = ()
    sample: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether every settled event ended as exactly one thing, and the store holds that and nothing else."""
        return not self.problem_counts and not self.lost

    @property
    def produced(self) -> int:
        return sum(one.produced for one in self.partitions)

    @property
    def indexed(self) -> int:
        return self._ended(Outcome.INDEXED)

    @property
    def deleted(self) -> int:
        return self._ended(Outcome.DELETED)

    @property
    def superseded(self) -> int:
        return self._ended(Outcome.SUPERSEDED)

    @property
    def dead_lettered(self) -> int:
        return self._ended(Outcome.DEAD_LETTERED)

    @property
    def in_flight(self) -> int:
        return sum(one.in_flight for one in self.partitions)

    @property
    def lost(self) -> tuple[LostRange, ...]:
        """Offsets that retention removed before they were committed."""
        return tuple(one.lost for one in self.partitions if one.lost is not None)

    def _ended(self, outcome: Outcome) -> int:
        return sum(one.outcomes.get(outcome, 0) for one in self.partitions)


class ProblemCollector:
    """Problems as they are found: the first of each kind in full, all of them counted, and told to `on_problem`."""

    def __init__(self, on_problem: Callable[[AuditProblem], None]) -> None:
        self._on_problem = on_problem
        self.counts: Counter[ProblemKind] = Counter()
        self._kept: dict[ProblemKind, list[AuditProblem]] = {}

    def add(self, problem: AuditProblem) -> None:
        self.counts[problem.kind] += 1
        self._on_problem(problem)
        if self.counts[problem.kind] <= MAX_PROBLEMS:
            self._kept.setdefault(problem.kind, []).append(problem)

    def kept(self) -> tuple[AuditProblem, ...]:
        return select_problems([problem for found in self._kept.values() for problem in found], MAX_PROBLEMS)


def select_problems(problems: Sequence[AuditProblem], limit: int) -> tuple[AuditProblem, ...]:
    """At most `limit` of them, by kind, so that many of one kind do not hide the few of another."""
    by_kind = {kind: [problem for problem in problems if problem.kind is kind] for kind in ProblemKind}
    chosen: dict[ProblemKind, list[AuditProblem]] = {}
    left = limit
    for number, kind in enumerate(sorted(by_kind, key=lambda each: len(by_kind[each]))):
        chosen[kind] = by_kind[kind][: left // (len(by_kind) - number)]
        left -= len(chosen[kind])
    return tuple(problem for kind in ProblemKind for problem in chosen[kind])
