"""The result of an audit: its problems, its progress and its balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.broker.base import LostRange, Partition
from penstock.records import Outcome, Position

# Problems that a report keeps. All of them are counted and passed to `on_problem`.
MAX_PROBLEMS = 1_000


class ProblemKind(StrEnum):
    """The kinds of problem. The first three concern events, the others rows and entries of the store."""

    MISSING = "missing"  # a committed event without an outcome
    WRONG_OUTCOME = "wrong_outcome"  # a tombstone's row says indexed, or another event's says deleted
    ROLLED_BACK = "rolled_back"  # the group has committed more than the partition holds
    UNKNOWN_ORIGIN = "unknown_origin"  # an asset row or dead letter of an event that the topic never had
    INCOMPLETE = "incomplete"  # an asset row counts more entries than there are
    DOUBLED = "doubled"  # two entries are the same part of an asset
    MISNAMED = "misnamed"  # an entry's id is not the one of its part: written again, it is doubled
    LEFTOVER = "leftover"  # an entry that its asset's newest version did not write
    TORN = "torn"  # an entry newer than its asset's row, though its event is settled: a write that was never finished
    ORPHAN = "orphan"  # an entry of an asset without a row


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One fault that the audit found.

    Attributes:
        kind: its kind.
        message: the fault in words, with the event, asset or entry at fault.
        position: the event at fault, if it is one.
        asset_id: the asset at fault, if it is one.
        entry_id: the entry at fault, if it is one.
    """

    kind: ProblemKind
    message: str
    position: Position | None = None
    asset_id: str | None = None
    entry_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """The progress of an audit within a stage. `total` is an estimate; None if it is not known."""

    stage: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """The balance of one partition.

    Attributes:
        partition: the partition.
        start, end: the log when the audit began, `end` exclusive.
        committed: up to where the events are judged, exclusive; None if the group never committed.
        outcomes: settled events by outcome.
        missing: settled events without an outcome.
        in_flight: records at and above `committed`; they are not judged.
        lost: offsets past the committed one that retention removed, if any.
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
        """Events below the committed offset, each counted once, regardless of its replays."""
        return sum(self.outcomes.values()) + self.missing


@dataclass(slots=True)
class Exclusions:
    """Counts of records, rows and entries that the audit excludes from its balance, and which are no problems.

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
    """The balance of one group's topics and of the store.

    Attributes:
        partitions: the balance of each partition of every topic, in order.
        problems: the first problems of each kind, at most `MAX_PROBLEMS` together, by kind.
        problem_counts: the number of all problems by kind; kinds without any are left out.
        assets, entries: the number that was checked.
        exclusions: what the balance excludes.
        unseen: what this audit cannot detect, one line each; empty unless it was a sample.
        sample: the share of the assets that was checked; None: all.
        seconds: the duration of each stage.
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
        """Whether every settled event has exactly one outcome, and the store holds its entries and no others."""
        return not self.problem_counts and not self.lost

    @property
    def produced(self) -> int:
        """Events below the committed offsets."""
        return sum(partition.produced for partition in self.partitions)

    @property
    def indexed(self) -> int:
        """Events with the outcome indexed."""
        return self._count(Outcome.INDEXED)

    @property
    def deleted(self) -> int:
        """Events with the outcome deleted."""
        return self._count(Outcome.DELETED)

    @property
    def expired(self) -> int:
        """Events with the outcome expired."""
        return self._count(Outcome.EXPIRED)

    @property
    def superseded(self) -> int:
        """Events with the outcome superseded."""
        return self._count(Outcome.SUPERSEDED)

    @property
    def dead_lettered(self) -> int:
        """Events with the outcome dead-lettered."""
        return self._count(Outcome.DEAD_LETTERED)

    @property
    def in_flight(self) -> int:
        """Records at and above the committed offsets."""
        return sum(partition.in_flight for partition in self.partitions)

    @property
    def lost(self) -> tuple[LostRange, ...]:
        """Offsets that retention removed before they were committed."""
        return tuple(partition.lost for partition in self.partitions if partition.lost is not None)

    def _count(self, outcome: Outcome) -> int:
        return sum(partition.outcomes.get(outcome, 0) for partition in self.partitions)


class ProblemCollector:
    """Keeps the first problems of each kind, counts all of them and passes each to `on_problem`."""

    def __init__(self, on_problem: Callable[[AuditProblem], None]) -> None:
        self._on_problem = on_problem
        self.counts: Counter[ProblemKind] = Counter()
        self._kept: dict[ProblemKind, list[AuditProblem]] = {}

    def add(self, problem: AuditProblem) -> None:
        """Adds a problem."""
        self.counts[problem.kind] += 1
        self._on_problem(problem)
        if self.counts[problem.kind] <= MAX_PROBLEMS:
            self._kept.setdefault(problem.kind, []).append(problem)

    def kept(self) -> tuple[AuditProblem, ...]:
        """Returns at most `MAX_PROBLEMS`, by kind."""
        return select_problems([problem for problems in self._kept.values() for problem in problems], MAX_PROBLEMS)


def select_problems(problems: Sequence[AuditProblem], limit: int) -> tuple[AuditProblem, ...]:
    """Returns at most `limit` problems, by kind, so that many of one kind do not hide the few of another."""
    by_kind = {kind: [problem for problem in problems if problem.kind is kind] for kind in ProblemKind}
    selected: dict[ProblemKind, list[AuditProblem]] = {}
    left = limit
    for number, kind in enumerate(sorted(by_kind, key=lambda kind: len(by_kind[kind]))):
        selected[kind] = by_kind[kind][: left // (len(by_kind) - number)]
        left -= len(selected[kind])
    return tuple(problem for kind in ProblemKind for problem in selected[kind])
