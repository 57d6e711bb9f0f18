"""The audit: gathers, judges, looks once more at what does not fit, and reports.

Why the order of the steps is right while everything runs on:

1. committed   The group's committed offsets come first. What lies below them was settled before: its entries, rows and
               dead letters were acknowledged, and whatever is read from now on has them, or something newer.
2. ends        Only then the ends of the topics, which therefore lie above the committed offsets.
3. events      The topics between. Events above the committed offset are in flight: not judged, but remembered.
4. letters     Dead letters, to an end taken after 1. None is ever removed.
5. rows        All asset rows, and then
6. entries     all entries. In this order what was written meanwhile shows as an entry newer than its row, which names
               the event that accounts for it. A settled event's row can only give way to a newer one.
7. follow      The topics are read on to their new end. Whatever the store had to show in 5 and 6 comes from an event
               below it, so every event that may be half written is known as in flight.
8. judge       Each event, each row's origin, each asset's entries. What does not fit is doubted, not yet a problem.
9. look again  Doubted assets are looked up directly (row, entries, row; again if the row changed meanwhile), the topics
               followed once more, and only what is wrong then, and no event in flight accounts for, is a problem.
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
from penstock.audit.ledger import EventOutcome, Ledger, partition_of
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
from penstock.broker.base import LogRange, Partition, PartitionLag, TopicReader
from penstock.broker.reader import KafkaReader
from penstock.broker.wire import parse_record
from penstock.config import Settings
from penstock.errors import UnavailableError, UsageError
from penstock.records import Event, Modality, Outcome, Position, Record, Rejected
from penstock.store.base import EntryScan

_TELL_EVERY = 10_000
_UNSEEN_BY_A_SAMPLE = (
    "entries and asset rows of assets that none of the sampled events is about",
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
    """Audits the group and the topics of the settings against the store, while everything may run on.

    Args:
        settings: with the addresses of Kafka and Milvus.
        sample: share of the assets, above 0 and up to 1; None: all, and all entries there are.
        work_dir: where the scratch file goes, about 150 bytes an event; None: the system's folder for such files.
        on_progress: told now and then, on the caller's thread.
        on_problem: told every problem as it is found, on the caller's thread: the report keeps the first of each kind.

    Raises:
        UsageError: `sample` is no share.
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
    """The topics that the ingest plane consumes, understood as it understands them."""
    kafka, modalities = settings.kafka, settings.ingest.modalities

    def parse(record: Record, modality: Modality) -> Event | Rejected:
        return parse_record(
            record, modality=modality, default_tenant=settings.tenant, max_inline_bytes=settings.fetch.max_bytes
        )

    topics = {topic: modality for topic, modality in kafka.topics().items() if modality in modalities}
    return AuditScope(topics, kafka.dead_letter_topic, parse, sample)


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
    """The same on any reader and store. The scratch file is removed in any case.

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
        self._findings = ProblemCollector(on_problem)
        self._scanner = Scanner(reader, store, scope, ledger, exclusions=self._exclusions, on_progress=on_progress)
        self._outcomes: Counter[tuple[Partition, Outcome | None]] = Counter()
        self._seconds: dict[str, float] = {}
        self._lag: Mapping[Partition, PartitionLag] = {}
        self._held: Mapping[Partition, LogRange] = {}
        self._followed: Mapping[Partition, LogRange] = {}
        self._compacted: frozenset[str] = frozenset()

    def run(self) -> AuditReport:
        with self._timed("events"):
            self._lag = {one.partition: one for one in self._reader.lag(list(self._scope.topics))}
            self._held = self._reader.bounds(list(self._scope.topics))
            self._followed = self._held
            self._compacted = self._reader.compacted(list(self._scope.topics))
            self._scanner.scan_events(self._held, self._committed())
            in_flight = Counter(self._scanner.in_flight)
        with self._timed("dead letters"):
            self._scanner.scan_dead_letters()
        with self._timed("store"):
            self._scanner.scan_store()
        with self._timed("judging"):
            self._follow()
            self._check_ends()
            self._judge_events()
            self._judge_origins()
            self._judge_assets()
        with self._timed("looking again"):
            self._look_again()
        return self._report(in_flight)

    # ---- 2 to 7 ----

    def _committed(self) -> dict[Partition, int]:
        return {partition: one.committed or 0 for partition, one in self._lag.items()}

    def _follow(self) -> None:
        """Reads the topics on from where they were read to. All of that is in flight."""
        now = self._reader.bounds(list(self._scope.topics))
        new = {partition: LogRange(self._read_to(partition, found), found.end) for partition, found in now.items()}
        later = {partition: found for partition, found in new.items() if found.end > found.start}
        self._scanner.scan_events(later, {}, stage="new events")
        self._followed = now

    def _read_to(self, partition: Partition, now: LogRange) -> int:
        followed = self._followed.get(partition)
        return now.start if followed is None else max(followed.end, now.start)

    def _check_ends(self) -> None:
        for partition, one in self._lag.items():
            held = self._held.get(partition)
            if one.committed is not None and held is not None and one.committed > held.end:
                line = (
                    f"{partition}: the group has committed {one.committed}, but the log ends at {held.end}: it was "
                    "rolled back, or made anew"
                )
                self._findings.add(AuditProblem(ProblemKind.ROLLED_BACK, line))

    # ---- 8 judge ----

    def _judge_events(self) -> None:
        for number, event in enumerate(self._ledger.event_outcomes()):
            self._tell("judging events", number, None)
            self._outcomes[partition_of(event.origin), event.outcome] += 1
            if event.outcome is None:
                self._miss(event)
            elif self._contradicts(event):
                self._ledger.flag(event.asset_id)

    def _contradicts(self, event: EventOutcome) -> bool:
        expected = Outcome.DELETED if event.tombstone else Outcome.INDEXED
        return event.outcome in (Outcome.INDEXED, Outcome.DELETED) and event.outcome != expected

    def _miss(self, event: EventOutcome) -> None:
        if event.asset_id:
            self._ledger.record_missing(event)
        else:  # nothing but a dead letter can be its outcome, and these were read after it was committed
            line = f"{event.origin} cannot be read as an event, and there is no dead letter of it"
            self._findings.add(AuditProblem(ProblemKind.MISSING, line, event.origin))

    def _judge_origins(self) -> None:
        for asset_id, origin in self._ledger.rows_without_event():
            if not self._set_aside(origin):
                self._ledger.flag(asset_id)
        if self._scope.sample is not None:  # whose events were not kept is not known
            return
        for stands, origin in self._ledger.letters_without_event():
            if not self._set_aside(origin):
                line = f"dead letter {stands} is of {origin}, and no such record was ever there"
                self._findings.add(AuditProblem(ProblemKind.UNKNOWN_ORIGIN, line, origin))

    def _set_aside(self, origin: Position) -> bool:
        """Counts an event that is gone; False if it never was."""
        before_log, compacted = self._removed(origin)
        self._exclusions.before_log += before_log
        self._exclusions.compacted += compacted
        return before_log or compacted

    def _removed(self, origin: Position) -> tuple[bool, bool]:
        """Whether retention, or compaction, may have removed the event that was first at this position."""
        held = self._followed.get(partition_of(origin))
        if held is None:
            return False, False
        return origin.offset < held.start, held.start <= origin.offset < held.end and origin.topic in self._compacted

    def _judge_assets(self) -> None:
        for number, (asset_id, row, entries) in enumerate(self._ledger.assets()):
            self._tell("judging assets", number, self._scanner.rows)
            if not fits(asset_id, row, entries):
                self._ledger.flag(asset_id, entries)

    # ---- 9 look again ----

    def _look_again(self) -> None:
        look = Recheck(
            self._store,
            self._ledger,
            self._scope.collections,
            follow=self._follow,
            may_be_gone=lambda origin: any(self._removed(origin)),
        )
        total = self._ledger.count_flagged()
        for problem in look.problems(lambda done: self._on_progress(AuditProgress("looking again", done, total))):
            self._findings.add(problem)
        for (partition, outcome), events in look.found.items():
            self._outcomes[partition, outcome] += events
            self._outcomes[partition, None] -= events
        self._exclusions.being_written = look.being_written

    # ---- the report ----

    def _report(self, in_flight: Mapping[Partition, int]) -> AuditReport:
        partitions = {*self._lag, *self._held, *(partition for partition, _ in self._outcomes)}
        return AuditReport(
            partitions=tuple(self._partition(partition, in_flight) for partition in sorted(partitions)),
            problems=self._findings.kept(),
            problem_counts=self._findings.counts,
            assets=self._scanner.rows,
            entries=self._scanner.entries,
            exclusions=self._exclusions,
            unseen=() if self._scope.sample is None else _UNSEEN_BY_A_SAMPLE,
            sample=self._scope.sample,
            seconds=self._seconds,
        )

    def _partition(self, partition: Partition, in_flight: Mapping[Partition, int]) -> PartitionReport:
        lag, held = self._lag.get(partition), self._held.get(partition, LogRange(0, 0))
        return PartitionReport(
            partition=partition,
            start=held.start,
            end=held.end,
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

    def _tell(self, stage: str, done: int, total: int | None) -> None:
        if done % _TELL_EVERY == 0:
            self._on_progress(AuditProgress(stage, done, total))
