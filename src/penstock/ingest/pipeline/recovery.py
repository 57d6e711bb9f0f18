"""Repeats the steps of a batch until each event has a result, and isolates an event that crashes workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from penstock.errors import PermanentError, Reason, TransientError, UnavailableError, UsageError, WorkerLostError
from penstock.ingest.delivery import Delivery
from penstock.ingest.executor.pool import MAX_OOM_KILLS_BY_OTHERS
from penstock.ingest.pipeline.types import BatchReport, Flow
from penstock.ingest.pipeline.waiting import Waiting
from penstock.observability import metrics
from penstock.records import Event, Modality, Outcome, Rejected, Settled, WriteResult

logger = logging.getLogger(__name__)

CRASHES_TO_SPLIT = 2
CRASHES_TO_REJECT = 3  # of an event that is alone; the tally of a batch starts again with each half
UNATTRIBUTED_TO_SPLIT = 3  # one or two losses are mostly caused by another batch, or by the loss of a node


class Verdict(Enum):
    """The consequence of a worker's loss for the batch that was using it."""

    RETRY = auto()
    SPLIT = auto()
    REJECT = auto()


@dataclass(slots=True)
class CrashTally:
    """Worker losses of one batch, and the conclusion that they allow.

    A loss is attributed to the batch if its call was running when the worker died. Losses that cannot be attributed (a
    node was lost, several calls shared the worker) may split a batch, as it may be too large for them, but never reject
    an event.

    Attributes:
        is_suspect: whether the batch is half of one that was split.
        attributed: losses that this batch caused.
        unattributed: losses of unknown cause.
        oom_kills: losses because the node ran out of memory.
    """

    is_suspect: bool = False
    attributed: int = 0
    unattributed: int = 0
    oom_kills: int = 0

    def record(self, loss: WorkerLostError, *, confirmed: Callable[[], bool]) -> None:
        """Counts a loss.

        Args:
            loss: the error of the call.
            confirmed: checks that the workers still accept a known-good event; evaluated only if the loss seems to be
                the batch's own.
        """
        self.oom_kills += loss.starved
        # Ray kills the newest worker on a full node, whichever filled it: only repeated kills point at this batch.
        is_repeated_oom = loss.starved and self.oom_kills > MAX_OOM_KILLS_BY_OTHERS
        if loss.blamed or is_repeated_oom:
            self.attributed += confirmed()
        else:
            self.unattributed += 1

    def verdict(self, loss: WorkerLostError, batch_size: int) -> Verdict:
        """Returns the consequence of the loss that was recorded last."""
        if batch_size == 1:
            return Verdict.REJECT if self.attributed >= CRASHES_TO_REJECT else Verdict.RETRY
        limit = 1 if self.is_suspect or loss.hung else CRASHES_TO_SPLIT
        must_split = self.attributed >= limit or self.unattributed >= UNATTRIBUTED_TO_SPLIT
        return Verdict.SPLIT if must_split else Verdict.RETRY


class Recovery:
    """Drives steps 2 to 5 through failures.

    Args:
        waiting: paces the attempts.
        known_good: by modality, an event that every healthy worker accepts: it distinguishes an event that crashes
            workers from broken workers.
    """

    def __init__(self, *, waiting: Waiting, known_good: Mapping[Modality, Event]) -> None:
        self._waiting = waiting
        self._known_good = known_good

    def process(
        self, flow: Flow, deliveries: Sequence[Delivery], report: BatchReport, *, is_suspect: bool = False
    ) -> list[WriteResult]:
        """Runs steps 2 to 5 of one event an asset until each has a result.

        A batch that repeatedly crashes its worker, that hangs it, or that the store refuses is split until the event at
        fault is alone.

        Raises:
            StoppedError: the lane stops.
        """
        crashes = CrashTally(is_suspect)
        attempts = self._waiting.attempts()
        while True:
            try:
                return _attempt(flow, deliveries, report, is_first=attempts.number == 1)
            except WorkerLostError as loss:
                metrics.RETRIES.labels("worker_lost").inc()
                logger.warning("a batch of %s restarts from its records: %s", report.batch.topic, loss)
                crashes.record(loss, confirmed=lambda: self._is_culprit(flow, deliveries, report))
                match crashes.verdict(loss, len(deliveries)):
                    case Verdict.SPLIT:
                        return self._split(flow, deliveries, report)
                    case Verdict.REJECT:
                        detail = f"{crashes.attributed} workers died of it: {loss}"
                        # The step of the lost call is not known here: "encode" stands for any of 2 to 4.
                        return [_rejection(deliveries[0], "encode", Reason.CRASHES_WORKER, detail)]
                    case Verdict.RETRY:
                        pass
            except (TransientError, UsageError) as exc:  # settings that stopped fitting are fixed by an operator
                metrics.RETRIES.labels("unavailable").inc()
                logger.warning("a batch of %s will be retried: %s", report.batch.topic, exc)
            except PermanentError as exc:  # the store refuses the batch
                if len(deliveries) > 1:
                    return self._split(flow, deliveries, report)
                return [_rejection(deliveries[0], "write", Reason.REFUSED, str(exc))]
            attempts.back_off()

    def _split(self, flow: Flow, deliveries: Sequence[Delivery], report: BatchReport) -> list[WriteResult]:
        middle = len(deliveries) // 2
        first = self.process(flow, deliveries[:middle], report, is_suspect=True)
        return first + self.process(flow, deliveries[middle:], report, is_suspect=True)

    def _is_culprit(self, flow: Flow, deliveries: Sequence[Delivery], report: BatchReport) -> bool:
        """Returns whether an event that is alone, rather than its worker, is at fault: a known-good event passes.

        A larger batch is split in any case.
        """
        if len(deliveries) > 1:
            return True
        event = self._known_good[deliveries[0].event.modality]
        try:
            flow.probe(event, deliveries[0], report)
        except TransientError as exc:
            logger.warning("a known-good %s does not pass the workers: %s", event.modality, exc)
            return False
        return True


def _attempt(flow: Flow, deliveries: Sequence[Delivery], report: BatchReport, *, is_first: bool) -> list[WriteResult]:
    """Runs the steps once.

    Raises:
        UnavailableError: the writers left events out.
    """
    results = flow.attempt(deliveries, report, is_first=is_first)
    missing = {delivery.record.position for delivery in deliveries} - {result.position for result in results}
    if missing:
        raise UnavailableError(f"the writers returned no result for {min(missing)} and {len(missing) - 1} others")
    return results


def _rejection(delivery: Delivery, step: str, reason: Reason, detail: str) -> Settled:
    position = delivery.record.position
    return Settled(position, Outcome.DEAD_LETTERED, Rejected(position, step, reason, detail))
