"""Hands over to the new version what its plane cannot read from the topics, and lists what is not available.

The new version's own consumer group reads the topics from their start. What it will never see there, though the old
version has it, is sent again (`refills`): assets whose newest event retention has taken, also while the group was on
its way to it.

1. wait    until the group has read nearly all that the topics hold
2. turn    every indexed asset of the old version, by ascending id: left alone are those whose event the group has not
           settled yet, and those that the new version has in this version or a newer one; the others are sent again, a
           page at a time, while the group lags by less than a bound
3. wait    until the group has settled what was sent; then a second turn, for what retention took in that time or a
           worker spoilt, and a third one that only looks
4. list    what the new version still lacks, and what could not be sent: it is missing

Memory is bounded by a page of rows and the names that are listed. It may end anywhere, and continues with the page
after the last one that was handed over; an event that is sent twice is settled once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from penstock.assets import AssetStore
from penstock.broker.base import Message, Partition, PartitionLag, Producer
from penstock.ingest.reindex.refills import RefillTargets, first_entries, partition_of_row, refill_of
from penstock.records import AssetRow, Outcome, Position
from penstock.store.base import EntryScan
from penstock.versions import (
    MAX_NAMED,
    MissingAsset,
    Phase,
    Progress,
    read_missing,
    read_progress,
    read_reindex,
    write_missing,
    write_progress,
    write_reindex,
)

logger = logging.getLogger(__name__)

# Events that the group has not settled, above which nothing more is sent: some seconds of work, so that what is sent
# waits in the topics for moments, and live events wait behind little.
MAX_LAG = 1_000
TURNS = 3
_PAGE = 1_000  # rows; one reading of the group's offsets each
_WINDOW = 500  # messages sent and not acknowledged
_COUNT_EVERY_S = 5.0
_POLL_S = 1.0
_RATE_COUNTS = 12  # of which the rate is taken: a minute

_REJECTED = "the plane of the new version has settled its event without indexing it: see `penstock deadletters list`"


class StoppedFillError(Exception):
    """Ends a fill whose plane stops; never leaves this package."""


class Filler:
    """Fills a new version, from one thread.

    Args:
        old: the rows and entries of the version that is served.
        new: those of the version that is filled.
        targets: the topics to which refills go.
        producer: of the media topics.
        sign: returns a replay with its signature (`ReplayKeys.signed`).
        lag: reads the progress of the new version's group in every partition of the media topics.
        notes: the asset store, which has the record of the re-index and its progress.
        sleep: waits for these seconds; returns whether the plane stops.
        clock, wall_ms: monotonic seconds, and milliseconds since the epoch.
        on_progress: called with each count.
    """

    def __init__(
        self,
        *,
        old: EntryScan,
        new: EntryScan,
        targets: RefillTargets,
        producer: Producer,
        sign: Callable[[Message], Message],
        lag: Callable[[], Sequence[PartitionLag]],
        notes: AssetStore,
        sleep: Callable[[float], bool],
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._old = old
        self._new = new
        self._targets = targets
        self._producer = producer
        self._sign = sign
        self._lag = lag
        self._notes = notes
        self._sleep = sleep
        self._clock = clock
        self._wall_ms = wall_ms
        self._on_progress = on_progress
        self._progress = read_progress(notes) or Progress(0, 0, 0, 0.0, wall_ms())
        self._named = list(read_missing(notes))
        self._counts: deque[tuple[float, int]] = deque(maxlen=_RATE_COUNTS)
        self._counted_s: float | None = None

    @property
    def progress(self) -> Progress:
        """Returns the progress as of the last count."""
        return self._progress

    def fill(self) -> None:
        """Returns once the new version has all that is available. What is missing is in the notes.

        Raises:
            StoppedFillError: the plane stops.
            UnavailableError: broker, store or asset store does not answer; a repetition continues.
        """
        self._await(lambda lags: _total(lags) <= MAX_LAG)  # 1
        while True:
            is_last = self._progress.turn + 1 >= TURNS
            self._turn(sends=not is_last)  # 2
            if is_last or not self._progress.sent:
                break
            self._await(self._has_settled)  # 3
            self._begin_turn(self._progress.turn + 1)
        self._finish()  # 4

    def look_again(self) -> None:
        """Lists what is missing by now, and sends nothing: for a version that is filled already. Raises as `fill`.

        What was listed before counts until every asset was looked at, as it may keep the version from being served.
        """
        missing, named = 0, list[MissingAsset]()
        for page in self._old.scan_asset_rows(batch=_PAGE):
            lacking, logs = self._lacking(_indexed(page))
            missing += len(lacking)
            named += [self._missing_asset(row, logs) for row in lacking[: MAX_NAMED - len(named)]]
            self._await(lambda lags: _total(lags) <= MAX_LAG)
        self._progress, self._named = replace(self._progress, missing=missing), named
        self._finish()

    def count(self) -> None:
        """Counts the assets of both versions, and writes the progress, if the last count is some seconds old."""
        now_s = self._clock()
        if self._counted_s is not None and now_s - self._counted_s < _COUNT_EVERY_S:
            return
        self._counted_s = now_s
        lag = _total(self._lag())
        total, present = self._old.count_assets(), self._new.count_assets()
        done = total if self._progress.filled else min(total, present + self._progress.missing)
        self._counts.append((now_s, present))
        (first_s, first), (last_s, last) = self._counts[0], self._counts[-1]
        rate = max(last - first, 0) / (last_s - first_s) if last_s > first_s else self._progress.rate_per_s
        self._progress = replace(
            self._progress, done=done, total=total, rate_per_s=rate, lag=lag, updated_ms=self._wall_ms()
        )
        self._write()

    # --- 2 turn ------------------------------------------------------------------------------------------------------

    def _begin_turn(self, turn: int) -> None:
        self._progress = replace(self._progress, turn=turn, after="", missing=0, sent={})
        self._named.clear()

    def _turn(self, *, sends: bool) -> None:
        """Goes through the rest of the old version, from where a plane before this one ended."""
        for page in self._old.scan_asset_rows(batch=_PAGE):
            rows = [row for row in page if row.asset.id > self._progress.after]  # others were handed over before
            if not rows:
                continue
            self._hand_over(_indexed(rows), sends=sends)
            self._progress = replace(self._progress, after=rows[-1].asset.id)
            self._write()
            self._await(lambda lags: _total(lags) <= MAX_LAG)

    def _hand_over(self, rows: Sequence[AssetRow], *, sends: bool) -> None:
        """Sends those again that the new version lacks and whose events its group has passed, or only lists them."""
        lacking, logs = self._lacking(rows)
        entries = first_entries(self._old, lacking) if sends and lacking else {}
        unacknowledged: deque[Future[Position]] = deque()
        for row in lacking:
            if not sends:
                self._miss(self._missing_asset(row, logs))
                continue
            refill = refill_of(row, entries.get(row.asset.id), self._targets, logs.get(partition_of_row(row)))
            if isinstance(refill, str):
                self._miss(MissingAsset(row.asset, refill))
            else:
                unacknowledged.append(self._producer.send(self._sign(refill)))
            while len(unacknowledged) > _WINDOW:
                self._note_sent(unacknowledged.popleft().result())
        for sent in unacknowledged:
            self._note_sent(sent.result())

    def _lacking(self, rows: Sequence[AssetRow]) -> tuple[Sequence[AssetRow], Mapping[Partition, PartitionLag]]:
        """Returns those that the new version lacks and whose events its group has passed, and the group's progress.

        The group's offsets are read after the rows of the old version, so that their events lie below the ends, and
        before those of the new version, which then has every event below the committed offsets.
        """
        logs = {lag.partition: lag for lag in self._lag()}
        passed = [row for row in rows if _is_passed(row, logs.get(partition_of_row(row)))]
        stored = self._new.asset_rows([row.asset.id for row in passed]) if passed else {}
        return [row for row in passed if _is_lacking(row, stored.get(row.asset.id))], logs

    def _missing_asset(self, row: AssetRow, logs: Mapping[Partition, PartitionLag]) -> MissingAsset:
        """Names an asset that is not sent again, with what would keep it from that, or kept it from being indexed."""
        refill = refill_of(row, None, self._targets, logs.get(partition_of_row(row)))
        return MissingAsset(row.asset, refill if isinstance(refill, str) else _REJECTED)

    def _note_sent(self, position: Position) -> None:
        name = _name(Partition(position.topic, position.partition))
        end = max(position.offset + 1, self._progress.sent.get(name, 0))
        self._progress = replace(self._progress, sent={**self._progress.sent, name: end})

    def _miss(self, asset: MissingAsset) -> None:
        self._progress = replace(self._progress, missing=self._progress.missing + 1)
        if len(self._named) < MAX_NAMED:
            self._named.append(asset)

    # --- 1 and 3 wait ------------------------------------------------------------------------------------------------

    def _await(self, holds: Callable[[Sequence[PartitionLag]], bool]) -> None:
        while not holds(self._lag()):
            self.count()
            if self._sleep(_POLL_S):
                raise StoppedFillError
        self.count()
        if self._sleep(0.0):
            raise StoppedFillError

    def _has_settled(self, lags: Sequence[PartitionLag]) -> bool:
        """Returns whether the group has committed all that was sent again in this turn."""
        committed = {_name(lag.partition): lag.committed or 0 for lag in lags}
        return all(committed.get(name, 0) >= end for name, end in self._progress.sent.items())

    # --- 4 list ------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._progress = replace(self._progress, filled=True)
        self._counted_s = None
        self.count()
        reindex = read_reindex(self._notes)
        if reindex is not None and reindex.phase is Phase.FILLING:
            write_reindex(self._notes, replace(reindex, phase=Phase.READY))
            logger.warning(
                "version %d of the index is filled: %d assets, %d are missing",
                reindex.to_version,
                self._progress.total,
                self._progress.missing,
            )

    def _write(self) -> None:
        write_missing(self._notes, self._named)
        write_progress(self._notes, self._progress)
        self._on_progress(self._progress)


def _indexed(rows: Sequence[AssetRow]) -> Sequence[AssetRow]:
    return [row for row in rows if row.outcome is Outcome.INDEXED]


def _total(lags: Sequence[PartitionLag]) -> int:
    return sum(lag.lag for lag in lags)


def _name(partition: Partition) -> str:
    return f"{partition.topic}/{partition.partition}"


def _is_passed(row: AssetRow, log: PartitionLag | None) -> bool:
    """Returns whether the group will not read the event of a row any more: it has, or the log does not have it."""
    if log is None or row.origin.offset >= log.log_end:
        return True
    return row.origin.offset < max(log.log_start, log.committed or 0)


def _is_lacking(row: AssetRow, stored: AssetRow | None) -> bool:
    """Returns whether the new version has neither the version of a row nor a newer one."""
    return stored is None or row.version.newer_than(stored.version)
