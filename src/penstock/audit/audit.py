"""The audit: scans topics and store, checks what it scanned, and checks again what does not fit.

The order of the steps is right while everything runs:

1. committed     The group's committed offsets are read first. Events below them were settled before: their entries,
                 rows and dead letters were acknowledged, and every later read has them, or something newer.
2. ends          Only then the ends of the topics, which therefore lie above the committed offsets.
3. events        The topics between. Events above the committed offset are in flight: not judged, but remembered.
4. dead letters  To an end read after 1. None is ever removed.
5. asset rows    All asset rows, and then
6. entries       all entries. In this order a write between the two shows as an entry newer than its row, which names
                 the event that accounts for it. A settled event's row can only be replaced by a newer one.
7. follow        The topics are read on to their new ends. Everything that the store returned in 5 and 6 comes from an
                 event below them, so every event that may be half written is known to be in flight.
8. check         Each event, each row's origin, each asset's entries. An asset that does not fit is flagged, which
                 is not yet a problem.
9. recheck       Flagged assets are looked up directly (row, entries, row; again if the row changed during that time),
                 the topics followed once more, and only what is wrong then, and no event in flight accounts for, is a
                 problem.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from penstock.assembly import open_store
from penstock.audit.checks import fits
from penstock.audit.ledger import Ledger
from penstock.audit.ledger_rows import EventOutcome
from penstock.audit.recheck import Recheck
from penstock.audit.report import (
    AuditProblem,
    AuditProgress,
    AuditReport,
    Exclusions,
    PartitionReport,
    ProblemCollector,
    ProblemKind,
)
from penstock.audit.scan import AuditScope, Scanner
from penstock.broker.base import LogRange, Partition, PartitionLag, TopicReader, partition_of
from penstock.broker.reader import KafkaReader
from penstock.broker.record_parser import RecordParser
from penstock.broker.replay_keys import ReplayKeys
from penstock.config import Settings
from penstock.errors import UnavailableError, UsageError
from penstock.records import Outcome, Position
from penstock.store.base import EntryScan

_REPORT_EVERY = 10_000
_UNSEEN_BY_A_SAMPLE = (
    "entries and asset rows of assets without a sampled event",
    "entries whose id does not follow from asset and part, where the store looks entries up by id (Milvus Lite)",
    "dead letters of events that the topics never had",
)


def run_audit(
    settings: Settings,
    *,
    sample: float | None = None,
    work_dir: Path | None = None,
    on_progress: Callable[[AuditProgress], None] | None = None,
    on_problem: Callable[[AuditProblem], None] | None = None,
) -> AuditReport:
    """Audits the group and the topics of the settings against the store, while everything may keep running.

    Args:
        settings: with the addresses of Kafka and Milvus.
        sample: the share of the assets to check, above 0 and up to 1; None: all of them, and all entries.
        work_dir: the folder of the scratch file, about 150 bytes an event; None: the system's temporary folder.
        on_progress: called every now and then, on the caller's thread.
        on_problem: called with every problem when it is found, on the caller's thread; the report keeps the first ones
            of each kind.

    Raises:
        UsageError: `sample` is not a share.
        UnavailableError: Kafka or Milvus does not answer.
        ConfigError: they refuse this client, or there is no index of `store.version` yet.
    """
    if sample is not None and not 0 < sample <= 1:
        raise UsageError(f"a sample is a share above 0 and up to 1, not {sample}")
    scope = scope_of(settings, sample)
    store = open_store(settings.store)
    try:
        with KafkaReader(settings.kafka) as reader:
            store.use_version(settings.store.version, scope.collections)
            return audit(reader, store, scope, work_dir=work_dir, on_progress=on_progress, on_problem=on_problem)
    finally:
        store.close()


def scope_of(settings: Settings, sample: float | None = None) -> AuditScope:
    """Returns the scope of the topics that the ingest plane consumes, with its parser."""
    replays = ReplayKeys.of(settings, create=False)
    return AuditScope(
        topics=settings.kafka.topics_of(settings.ingest.modalities),
        dead_letter_topic=settings.kafka.dead_letter_topic,
        parse=RecordParser.of(settings, replays),
        replays=replays,
        sample=sample,
    )


def audit(
    reader: TopicReader,
    store: EntryScan,
    scope: AuditScope,
    *,
    work_dir: Path | None = None,
    on_progress: Callable[[AuditProgress], None] | None = None,
    on_problem: Callable[[AuditProblem], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AuditReport:
    """Audits with any reader and store. The scratch file is removed in any case.

    Raises:
        UnavailableError: the scratch file cannot be written, as when the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-audit-", dir=work_dir) as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite", sorted(scope.topics))
        try:
            return Audit(
                reader,
                store,
                scope,
                ledger,
                on_progress=on_progress or (lambda _: None),
                on_problem=on_problem or (lambda _: None),
                clock=clock,
            ).run()
        except sqlite3.Error as exc:
            raise UnavailableError(
                f"the audit's scratch file in {folder} failed: {exc}. Free space there, or set TMPDIR elsewhere."
            ) from exc
        finally:
            ledger.close()


class Audit:
    """One audit. The steps are those at the head of this file."""

    def __init__(
        self,
        reader: TopicReader,
        store: EntryScan,
        scope: AuditScope,
        ledger: Ledger,
        *,
        on_progress: Callable[[AuditProgress], None],
        on_problem: Callable[[AuditProblem], None],
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._store = store
        self._scope = scope
        self._ledger = ledger
        self._on_progress = on_progress
        self._clock = clock
        self._exclusions = Exclusions()
        self._problems = ProblemCollector(on_problem)
        self._scanner = Scanner(reader, store, scope, ledger, exclusions=self._exclusions, on_progress=on_progress)
        self._outcomes: Counter[tuple[Partition, Outcome | None]] = Counter()
        self._seconds: dict[str, float] = {}
        self._lag: Mapping[Partition, PartitionLag] = {}
        self._logs: Mapping[Partition, LogRange] = {}  # when the audit began
        self._followed: Mapping[Partition, LogRange] = {}  # up to where the topics were read
        self._compacted: frozenset[str] = frozenset()

    def run(self) -> AuditReport:
        """Runs all steps."""
        topics = list(self._scope.topics)
        with self._timed("events"):
            self._lag = {lag.partition: lag for lag in self._reader.lag(topics)}  # 1
            self._logs = self._followed = self._reader.bounds(topics)  # 2
            self._compacted = self._reader.compacted(topics)
            self._scanner.scan_events(self._logs, self._committed())  # 3
            in_flight = Counter(self._scanner.in_flight)
        with self._timed("dead letters"):
            self._scanner.scan_dead_letters()  # 4
        with self._timed("store"):
            self._scanner.scan_store()  # 5 and 6
        with self._timed("checks"):
            self._follow()  # 7
            self._check_ends()  # 8
            self._check_events()
            self._check_origins()
            self._check_assets()
        with self._timed("recheck"):
            self._recheck()  # 9
        return self._report(in_flight)

    # --- 3 events, 7 follow ------------------------------------------------------------------------------------------

    def _committed(self) -> dict[Partition, int]:
        return {partition: lag.committed or 0 for partition, lag in self._lag.items()}

    def _follow(self) -> None:
        """Reads the topics on from where they were read to. All of these events are in flight."""
        logs = self._reader.bounds(list(self._scope.topics))
        unread = {partition: LogRange(self._read_to(partition, log), log.end) for partition, log in logs.items()}
        grown = {partition: log for partition, log in unread.items() if log.end > log.start}
        self._scanner.scan_events(grown, {}, stage="new events")
        self._followed = logs

    def _read_to(self, partition: Partition, log: LogRange) -> int:
        followed = self._followed.get(partition)
        return log.start if followed is None else max(followed.end, log.start)

    # --- 8 check -----------------------------------------------------------------------------------------------------

    def _check_ends(self) -> None:
        for partition, lag in self._lag.items():
            log = self._logs.get(partition)
            if lag.committed is not None and log is not None and lag.committed > log.end:
                message = (
                    f"{partition}: the group has committed {lag.committed}, but the log ends at {log.end}: it was "
                    "rolled back, or created again"
                )
                self._problems.add(AuditProblem(ProblemKind.ROLLED_BACK, message))

    def _check_events(self) -> None:
        for number, event in enumerate(self._ledger.event_outcomes()):
            self._report_progress("checking events", number, None)
            self._outcomes[partition_of(event.origin), event.outcome] += 1
            if event.outcome is None:
                self._record_missing(event)
            elif self._contradicts(event):
                self._ledger.flag(event.asset_id)

    def _contradicts(self, event: EventOutcome) -> bool:
        expected = Outcome.DELETED if event.tombstone else Outcome.INDEXED
        return event.outcome in (Outcome.INDEXED, Outcome.DELETED) and event.outcome != expected

    def _record_missing(self, event: EventOutcome) -> None:
        if event.asset_id:
            self._ledger.record_missing(event)
        else:  # its only possible outcome is a dead letter, and these were read after it was committed
            message = f"{event.origin} is malformed, and there is no dead letter of it"
            self._problems.add(AuditProblem(ProblemKind.MISSING, message, event.origin))

    def _check_origins(self) -> None:
        for asset_id, origin in self._ledger.rows_without_event():
            if not self._exclude(origin):
                self._ledger.flag(asset_id)
        if self._scope.sample is not None:  # events outside the sample are not in the ledger
            return
        for position, origin in self._ledger.letters_without_event():
            if not self._exclude(origin):
                message = f"dead letter {position} is of {origin}, and no such record was ever there"
                self._problems.add(AuditProblem(ProblemKind.UNKNOWN_ORIGIN, message, origin))

    def _exclude(self, origin: Position) -> bool:
        """Counts an event that was removed from its topic, and returns whether it was."""
        before_log, compacted = self._removed(origin)
        self._exclusions.before_log += before_log
        self._exclusions.compacted += compacted
        return before_log or compacted

    def _removed(self, origin: Position) -> tuple[bool, bool]:
        """Returns whether (retention, compaction) may have removed the event of this origin."""
        log = self._followed.get(partition_of(origin))
        if log is None:
            return False, False
        return origin.offset < log.start, log.start <= origin.offset < log.end and origin.topic in self._compacted

    def _check_assets(self) -> None:
        for number, (asset_id, row, entries) in enumerate(self._ledger.assets()):
            self._report_progress("checking assets", number, self._scanner.rows)
            if not fits(asset_id, row, entries):
                self._ledger.flag(asset_id, entries)

    # --- 9 recheck ---------------------------------------------------------------------------------------------------

    def _recheck(self) -> None:
        recheck = Recheck(
            self._store,
            self._ledger,
            self._scope.collections,
            follow=self._follow,
            may_be_removed=lambda origin: any(self._removed(origin)),
        )
        total = self._ledger.count_flagged()
        for problem in recheck.problems(lambda done: self._on_progress(AuditProgress("recheck", done, total))):
            self._problems.add(problem)
        for (partition, outcome), events in recheck.late_outcomes.items():
            self._outcomes[partition, outcome] += events
            self._outcomes[partition, None] -= events
        self._exclusions.being_written = recheck.being_written

    # --- the report --------------------------------------------------------------------------------------------------

    def _report(self, in_flight: Mapping[Partition, int]) -> AuditReport:
        partitions = {*self._lag, *self._logs, *(partition for partition, _ in self._outcomes)}
        return AuditReport(
            partitions=tuple(self._partition(partition, in_flight) for partition in sorted(partitions)),
            problems=self._problems.kept(),
            problem_counts=self._problems.counts,
            assets=self._scanner.rows,
            entries=self._scanner.entries,
            exclusions=self._exclusions,
            unseen=() if self._scope.sample is None else _UNSEEN_BY_A_SAMPLE,
            sample=self._scope.sample,
            seconds=self._seconds,
        )

    def _partition(self, partition: Partition, in_flight: Mapping[Partition, int]) -> PartitionReport:
        lag, log = self._lag.get(partition), self._logs.get(partition, LogRange(0, 0))
        return PartitionReport(
            partition=partition,
            start=log.start,
            end=log.end,
            committed=None if lag is None else lag.committed,
            outcomes={outcome: self._outcomes[partition, outcome] for outcome in Outcome},
            missing=self._outcomes[partition, None],
            in_flight=in_flight.get(partition, 0),
            lost=None if lag is None else lag.lost,
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = self._clock()
        try:
            yield
        finally:
            self._seconds[stage] = self._clock() - began

    def _report_progress(self, stage: str, done: int, total: int | None) -> None:
        if done % _REPORT_EVERY == 0:
            self._on_progress(AuditProgress(stage, done, total))
