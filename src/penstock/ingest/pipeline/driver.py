"""What happens to one batch between its delivery and the commit: fetch, decode, encode, write, settle.

    2 fetch     claim checks → bytes           fetch pool
    3 decode    bytes → drafts, encoder inputs decode pool
    4 encode    encoder inputs → vectors       one pool an encoder
    5 write     vectors → store                writers
    6 settle    rejected → dead letters        acknowledged, before the batch's report says that anything is done

Of sound and film a batch takes one slice of each event: step 3 gives shots and windows of speech, the transcriber's
words become passages, and step 5 notes how far the event is, unless that was all of it.

Step 1 (receive) and step 7 (commit) are the lane's. A batch is driven from one thread and goes on until every event of
it is settled, fenced or halted: it outlasts an absent store and lost workers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import cmp_to_key
from typing import TypeVar

from penstock.broker.base import DeadLetterSink
from penstock.encoders.profiles import PASSAGE_TEXT, SPEECH
from penstock.errors import (
    NotReadyError,
    PenstockError,
    PermanentError,
    Reason,
    TransientError,
    UnavailableError,
    UsageError,
    WorkerLostError,
)
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.executor.pool import Ref
from penstock.ingest.executor.proxies import InputRefs, Pools
from penstock.observability import metrics
from penstock.records import (
    TIMED_MODALITIES,
    Checkpoint,
    ClaimCheck,
    Continues,
    Decoded,
    Encoded,
    EncoderInput,
    Event,
    Fenced,
    MediaPosition,
    Modality,
    Outcome,
    Position,
    Rejected,
    Settled,
    WriteResult,
)
from penstock.retries import Backoff, Breaker
from penstock.store.writer import WriteRequest

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LOSSES_BEFORE_BISECTION = 2
_LOSSES_OF_ONE_ITEM = 3
_STARVED_BY_OTHERS = 3  # workers that a batch may lose for want of memory before it is taken to be the cause
_UNBLAMED_BEFORE_BISECTION = 3  # one or two are mostly another's, or a node that went
_ACK_TIMEOUT_S = 180.0  # above the producer's own delivery timeout: only a producer that is stuck takes so long


class StoppedError(Exception):
    """The lane was told to stop while a batch waited to be tried again; the batch is not settled."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one item.

    Attributes:
        item: the item.
        outcome: how it ended; None if it did not: another lane owns it now, or `halted` says why it cannot end.
        rejected: for a dead letter, where and why.
        halted: why its partition cannot go on; empty if it can.
    """

    delivery: Delivery
    outcome: Outcome | None
    rejection: Rejected | None = None
    halted: str = ""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An item of long media with more slices to come.

    Attributes:
        item: the item.
        place: how far its media have been indexed.
        older: items of the same asset that wait for it, oldest first.
    """

    delivery: Delivery
    at: MediaPosition
    older: tuple[Delivery, ...] = ()


@dataclass(slots=True)
class BatchReport:
    """What became of a batch: one settlement an item, and the seconds that each step took over all tries.

    Attributes:
        unfinished: items of long media that have to go on, each with how far it is, and behind the older items of its
            asset, which wait for it.
        waits: steps that mostly wait, however many events they are for.
    """

    batch: Batch
    io_bound_steps: frozenset[str] = frozenset()
    settlements: list[Settlement] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    step_s: dict[str, float] = field(default_factory=dict)

    def add_step_time(self, step: str, seconds: float) -> None:
        self.step_s[step] = self.step_s.get(step, 0.0) + seconds

    @property
    def slowest_s(self) -> float:
        """Seconds of the step that took longest, but for those that wait: a smaller batch would wait as long."""
        return max((seconds for step, seconds in self.step_s.items() if step not in self.io_bound_steps), default=0.0)


class Pipeline:
    """Drives batches through the pools. Safe to call from several threads, one batch each.

    Args:
        lane: name of the lane, for the writers' log.
        pools: where the steps run.
        roles: the encoders that a modality needs, in the order of the decoders' encoder inputs.
        dead_letters: where rejected records go.
        backoff: how long to wait between tries.
        breaker: of the store.
        sleep: waits so many seconds, or less; True if the lane stops.
        known_good: for each modality an event that every healthy worker takes: it tells poison from broken workers.
    """

    def __init__(
        self,
        *,
        lane: str,
        pools: Pools,
        roles: Mapping[Modality, Sequence[str]],
        dead_letters: DeadLetterSink,
        backoff: Backoff,
        breaker: Breaker,
        sleep: Callable[[float], bool],
        known_good: Mapping[Modality, Event],
    ) -> None:
        self._lane = lane
        self._pools = pools
        self._roles = roles
        self._dead_letters = dead_letters
        self._backoff = backoff
        self._breaker = breaker
        self._sleep = sleep
        self._known_good = known_good
        # A store that takes one write at a time works all the while.
        self._io_bound_steps = frozenset({"settle", "write"} if pools.concurrent_writes > 1 else {"settle"})

    @property
    def store_error(self) -> str:
        """Why the store does not answer; empty while it does."""
        return self._breaker.last_error if self._breaker.is_open else ""

    def run(self, batch: Batch) -> BatchReport:
        """Settles every item of a batch, whatever it takes.

        Of the items of one asset the newest is processed first. The earlier ones are superseded once it is indexed or
        deleted; if it is rejected, the one before it is processed.

        Raises:
            StoppedError: the lane stops; nothing more is known of the batch. What was written is written again when
                the batch is redelivered, with the same ids.
        """
        report = BatchReport(batch, self._io_bound_steps)
        self._settle_unparsed(report)
        versions = _by_asset(batch.deliveries)
        while versions:
            newest = [items[-1] for items in versions]
            results = {result.position: result for result in self._process(newest, report)}
            dead = [result.rejection for result in results.values() if isinstance(result, Settled) and result.rejection]
            rejected = {rejection.position for rejection in dead}
            self._retract([item for item in newest if item.record.position in rejected])
            halted = self._settle_rejected(dead, {item.record.position: item for item in newest}, report)
            earlier: list[list[Delivery]] = []
            for items in versions:
                result = results[items[-1].record.position]
                if isinstance(result, Continues):
                    report.unfinished.append(Unfinished(items[-1], result.at, tuple(items[:-1])))
                    continue
                why = halted.get(result.position, "")
                rejection = result.rejection if isinstance(result, Settled) else None
                outcome = result.outcome if isinstance(result, Settled) and not why else None
                report.settlements.append(Settlement(items[-1], outcome, rejection, why))
                # A fenced one was delivered from a partition that is lost; the earlier ones perhaps were not.
                if (rejection is not None or isinstance(result, Fenced)) and len(items) > 1:
                    earlier.append(items[:-1])
                else:
                    rest = Outcome.SUPERSEDED if outcome is not None else None
                    report.settlements += [Settlement(item, rest) for item in items[:-1]]
            versions = earlier
        return report

    # --- 2 to 5, as often as it takes -------------------------------------------------------------------------------

    def _process(self, items: Sequence[Delivery], report: BatchReport, *, suspect: bool = False) -> list[WriteResult]:
        """Fetch to write of one event an asset, until each has an outcome.

        A batch that kills its worker twice (once, if it is part of one that was halved, or if the worker took too long
        over it) or that the store refuses is halved until the item at fault is alone. So is one whose workers run out
        of memory again and again. One that keeps losing workers of which nobody knows what killed them, such as those
        with several calls at once, is halved too, as it may be too large for them; but no item is rejected for that.
        """
        losses = unblamed = starved = attempt = 0
        while True:
            try:
                return self._attempt(items, report, again=attempt > 0)
            except WorkerLostError as exc:
                metrics.RETRIES.labels("worker_lost").inc()
                logger.warning("a batch of %s begins again from its records: %s", report.batch.topic, exc)
                starved += exc.starved
                if exc.blamed or (exc.starved and starved > _STARVED_BY_OTHERS):
                    losses += len(items) > 1 or self._known_good_passes(items[0], report)
                else:
                    unblamed += 1
                enough = losses >= (1 if suspect or exc.hung else _LOSSES_BEFORE_BISECTION)
                if len(items) > 1 and (enough or unblamed >= _UNBLAMED_BEFORE_BISECTION):
                    return self._bisect(items, report)
                if losses >= _LOSSES_OF_ONE_ITEM:
                    return [_rejected(items[0], "encode", Reason.CRASHES_WORKER, f"{losses} workers died of it: {exc}")]
            except (TransientError, UsageError) as exc:  # settings that no longer fit are for people to mend
                metrics.RETRIES.labels("unavailable").inc()
                logger.warning("a batch of %s waits and is tried again: %s", report.batch.topic, exc)
            except PermanentError as exc:
                if len(items) > 1:
                    return self._bisect(items, report)
                return [_rejected(items[0], "write", Reason.REFUSED, str(exc))]
            attempt += 1
            self._pause(self._backoff.wait_s(attempt))

    def _bisect(self, items: Sequence[Delivery], report: BatchReport) -> list[WriteResult]:
        middle = len(items) // 2
        first = self._process(items[:middle], report, suspect=True)
        return first + self._process(items[middle:], report, suspect=True)

    def _attempt(self, items: Sequence[Delivery], report: BatchReport, *, again: bool) -> list[WriteResult]:
        """Fetch to write. Nothing of it is fetched into this process but the writers' small report."""
        settled: list[WriteResult] = []
        if _event(items[0]).modality in TIMED_MODALITIES:
            settled, known = self._standing(items, report)
            if not report.batch.is_continuation:
                settled, known = [*settled, *_for_their_turn(items, known)], []
            over = {one.position for one in settled}
            items_left = [item for item in items if item.record.position not in over]
        else:
            items_left, known = list(items), []
        if items_left:
            slicer = None if again else _slicer_of(items_left[0])
            decoded, encoded = self._prepare(
                [_event(item) for item in items_left], known, report, apart=_goes_apart(items[0], report), slicer=slicer
            )
            settled += self._write_at_last(items_left, decoded, encoded, report)
        missing = {item.record.position for item in items} - {one.position for one in settled}
        if missing:
            raise UnavailableError(f"the writers said nothing of {sorted(missing)[0]} and {len(missing) - 1} more")
        return settled

    def _prepare(
        self,
        events: Sequence[Event],
        known: Sequence[Checkpoint],
        report: BatchReport,
        *,
        apart: bool,
        slicer: int | None = None,
    ) -> tuple[Ref[Decoded], Sequence[Ref[Encoded]]]:
        """Steps 2 to 4: a reference to `Decoded`, and one to each encoder's vectors.

        Args:
            events: of one modality.
            known: how far those of them are that were begun.
            report: of their batch.
            apart: sound and film go to the workers of long media.
            slicer: a number that says to which of these; None: to the least busy one.
        """
        roles = self._roles[events[0].modality]
        if events[0].modality in TIMED_MODALITIES:
            return self._prepare_slices(events, known, roles, report, apart=apart, slicer=slicer)
        decoded, inputs = self._decode(events, report)
        return decoded, [self._encode(role, batch, report) for role, batch in inputs.items()]

    def _prepare_slices(
        self,
        events: Sequence[Event],
        known: Sequence[Checkpoint],
        roles: Sequence[str],
        report: BatchReport,
        *,
        apart: bool,
        slicer: int | None,
    ) -> tuple[Ref[Decoded], Sequence[Ref[Encoded]]]:
        """The same for the next slice of each event.

        What may take long has workers of its own, each medium always the same one, which has it open still; any other,
        where that one was lost. Clips share theirs with text and pictures, so that none of these waits behind a film,
        or behind a host that is slow.
        """
        assert self._pools.transcriber is not None
        first = [role for role in roles if role != PASSAGE_TEXT]
        pool = self._pools.long_media if apart else self._pools.decode
        segments, by_role = pool.decode_segments(
            events, known, first, report.add_step_time, keep_open=apart, affinity=slicer if apart else None
        )
        inputs = dict(by_role)
        transcripts = self._pools.transcriber.transcribe(inputs.pop(SPEECH), report.add_step_time, is_long_media=apart)
        decoded, passages = self._pools.decode.compose(segments, transcripts, report.add_step_time)
        return decoded, [
            self._encode(role, batch, report) for role, batch in {**inputs, PASSAGE_TEXT: passages}.items()
        ]

    def _decode(self, events: Sequence[Event], report: BatchReport) -> tuple[Ref[Decoded], InputRefs]:
        """Steps 2 and 3: a reference to `Decoded`, and one to each encoder's input."""
        roles = self._roles[events[0].modality]
        if any(isinstance(event.payload, ClaimCheck) for event in events):
            fetched = self._pools.fetch.fetch(events, report.add_step_time)
            return self._pools.decode.decode(fetched, roles, report.add_step_time)
        return self._pools.decode.fetch_and_decode(events, roles, report.add_step_time)

    def _encode(self, role: str, batch: Ref[EncoderInput], report: BatchReport) -> Ref[Encoded]:
        """Step 4, one encoder."""
        return self._pools.encoders[role].encode(batch, report.add_step_time)

    def _write_at_last(
        self, items: Sequence[Delivery], decoded: Ref[Decoded], encoded: Sequence[Ref[Encoded]], report: BatchReport
    ) -> list[WriteResult]:
        """Step 5, until the store answers. What is decoded and encoded is kept: a claim check may be gone by then."""
        return self._until_the_store_answers(report, lambda: self._write(items, decoded, encoded, report))

    def _standing(self, items: Sequence[Delivery], report: BatchReport) -> tuple[list[WriteResult], list[Checkpoint]]:
        """Of long media, before anything is done: what is settled already, and how far the rest is. After a partition
        has moved, clips that were settled behind a film are known by this and not encoded again.
        """
        return self._until_the_store_answers(report, lambda: self._ask_standing(items))

    def _ask_standing(self, items: Sequence[Delivery]) -> tuple[list[WriteResult], list[Checkpoint]]:
        request = WriteRequest(self._lane, tuple({item.assignment for item in items}))
        events = tuple(_event(item) for item in items)
        with self._breaker.attempt():
            return self._pools.writers.lookup(request, events)

    def _until_the_store_answers(self, report: BatchReport, ask: Callable[[], T]) -> T:
        attempt = 0
        while True:
            self._await_store()
            try:
                return ask()
            except WorkerLostError as exc:  # or what it was to write
                # No item's fault, they passed the encoders; but all of them together may be too much for its memory.
                raise WorkerLostError(str(exc)) from exc
            except (UnavailableError, NotReadyError) as exc:
                metrics.RETRIES.labels("store").inc()
                logger.warning("a batch of %s waits for the store: %s", report.batch.topic, exc)
                attempt += 1
                self._pause(self._backoff.wait_s(attempt))

    def _write(
        self, items: Sequence[Delivery], decoded: Ref[Decoded], encoded: Sequence[Ref[Encoded]], report: BatchReport
    ) -> list[WriteResult]:
        """Step 5, on every writer: each takes the assets of its shard."""
        request = WriteRequest(self._lane, tuple({item.assignment for item in items}))
        with self._breaker.attempt():
            return self._pools.writers.write(request, decoded, encoded, report.add_step_time)

    def _known_good_passes(self, item: Delivery, report: BatchReport) -> bool:
        """Whether the workers still take a harmless event: then it is the item that kills them."""
        event = self._known_good[_event(item).modality]
        try:
            self._prepare([event], (), report, apart=_goes_apart(item, report))
        except TransientError as exc:
            logger.warning("even a harmless %s does not pass: %s", event.modality, exc)
            return False
        return True

    def _retract(self, items: Sequence[Delivery]) -> None:
        """Removes what a write that broke off, in this life of the lane or a former one, left of items that are now
        rejected; for as long as the store does not answer.
        """
        request = WriteRequest(self._lane, tuple({item.assignment for item in items}))
        events = tuple(_event(item) for item in items)
        attempt = 0
        while items:
            self._await_store()
            try:
                with self._breaker.attempt():
                    self._pools.writers.retract(request, events)
                return
            except (TransientError, UsageError) as exc:
                metrics.RETRIES.labels("store").inc()
                logger.warning("rejected items of %s wait for the store: %s", events[0].asset.topic, exc)
            except PenstockError as exc:
                logger.error("what was perhaps written of rejected items stays in the store: %s", exc)
                return
            attempt += 1
            self._pause(self._backoff.wait_s(attempt))

    # --- 6 settle ---------------------------------------------------------------------------------------------------

    def _settle_unparsed(self, report: BatchReport) -> None:
        """Dead letters for records that could not be understood when they were received."""
        unparsed = [(item, item.parsed) for item in report.batch.deliveries if isinstance(item.parsed, Rejected)]
        by_position = {item.record.position: item for item, _ in unparsed}
        halted = self._settle_rejected([rejected for _, rejected in unparsed], by_position, report)
        for item, rejected in unparsed:
            why = halted.get(item.record.position, "")
            outcome = None if why else Outcome.DEAD_LETTERED
            report.settlements.append(Settlement(item, outcome, rejected, why))

    def _settle_rejected(
        self, rejected: Sequence[Rejected], items: Mapping[Position, Delivery], report: BatchReport
    ) -> Mapping[Position, str]:
        """Writes dead letters and waits until each is acknowledged, for as long as the topic does not answer.

        Returns:
            why the topic can never take it, for each that it cannot: its partition has to halt.
        """
        halted: dict[Position, str] = {}
        waiting = list(rejected)
        attempt, started_s = 0, time.perf_counter()
        while waiting:
            again: list[Rejected] = []
            sent = [(one, self._send(items[one.position], one)) for one in waiting]
            for one, acknowledged in sent:
                try:
                    acknowledged(_ACK_TIMEOUT_S)
                except (TransientError, FutureTimeoutError) as exc:
                    metrics.RETRIES.labels("dead_letter").inc()
                    logger.warning("the dead letter of %s waits and is tried again: %r", one.position, exc)
                    again.append(one)
                except PenstockError as exc:
                    logger.error("the dead-letter topic can't take %s, its partition halts: %s", one.position, exc)
                    halted[one.position] = str(exc)
            waiting = again
            if waiting:
                attempt += 1
                self._pause(self._backoff.wait_s(attempt))
        if rejected:
            report.add_step_time("settle", time.perf_counter() - started_s)
        return halted

    def _send(self, item: Delivery, rejected: Rejected) -> Callable[[float], object]:
        """Sends one dead letter; calling what is returned waits for the acknowledgement, or raises why none came."""
        try:
            return self._dead_letters.send(item.record, rejected).result
        except PenstockError as exc:
            return _raiser(exc)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _await_store(self) -> None:
        while (wait_s := self._breaker.wait_s()) > 0:
            self._pause(wait_s)

    def _pause(self, seconds: float) -> None:
        if self._sleep(seconds):
            raise StoppedError


def _event(item: Delivery) -> Event:
    assert isinstance(item.parsed, Event)
    return item.parsed


def _goes_apart(item: Delivery, report: BatchReport) -> bool:
    """Whether sound or film may keep its worker for long: a later slice, or a claim check."""
    return report.batch.is_continuation or isinstance(_event(item).payload, ClaimCheck)


def _slicer_of(item: Delivery) -> int:
    """The same number for all slices of a medium."""
    return int(_event(item).asset.id[:8], 16)


def _for_their_turn(items: Sequence[Delivery], known: Sequence[Checkpoint]) -> list[Continues]:
    """Of media that were begun before, by this lane or another: their next slices go in turn with those of other long
    media, not with the clips among which they were delivered.
    """
    positions = {item.asset_id: item.record.position for item in items}
    return [Continues(positions[one.asset.id], one.position) for one in known]


def _by_asset(items: Iterable[Delivery]) -> list[list[Delivery]]:
    """Items by asset, each oldest first."""
    assets: dict[str, list[Delivery]] = {}
    for item in items:
        if item.asset_id is not None:
            assets.setdefault(item.asset_id, []).append(item)
    for versions in assets.values():
        versions.sort(key=cmp_to_key(_by_age))
    return list(assets.values())


def _by_age(one: Delivery, other: Delivery) -> int:
    return 1 if _event(one).version.newer_than(_event(other).version) else -1


def _rejected(item: Delivery, step: str, reason: Reason, detail: str) -> Settled:
    position = item.record.position
    return Settled(position, Outcome.DEAD_LETTERED, Rejected(position, step, reason, detail))


def _raiser(exc: Exception) -> Callable[[float], object]:
    def raise_it(_timeout_s: float) -> object:
        raise exc

    return raise_it
