"""Step 6: writes dead letters, and reports a rejected event as settled only after its letter is acknowledged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError

from penstock.broker.base import DeadLetterSink
from penstock.errors import PenstockError, TransientError
from penstock.ingest.delivery import Delivery
from penstock.ingest.pipeline.types import BatchReport, HaltedDelivery, SettledDelivery
from penstock.ingest.pipeline.waiting import Waiting
from penstock.observability import metrics, tracing
from penstock.records import Outcome, Position, Rejected

logger = logging.getLogger(__name__)

_ACK_TIMEOUT_S = 180.0  # above the producer's own delivery timeout: only a producer that is stuck takes this long


class SettleStep:
    """Dead-letters rejected deliveries.

    Args:
        dead_letters: the dead-letter topic.
        waiting: paces the attempts.
    """

    def __init__(self, *, dead_letters: DeadLetterSink, waiting: Waiting) -> None:
        self._dead_letters = dead_letters
        self._waiting = waiting

    def settle_unparsed(self, report: BatchReport) -> None:
        """Dead-letters the records of a batch that could not be parsed when they were received."""
        rejected = {
            delivery.record.position: (delivery, delivery.parsed)
            for delivery in report.batch.deliveries
            if isinstance(delivery.parsed, Rejected)
        }
        halts = self.dead_letter(list(rejected.values()), report)
        for position, (delivery, rejection) in rejected.items():
            if position in halts:
                report.settlements.append(HaltedDelivery(delivery, halts[position]))
            else:
                report.settlements.append(SettledDelivery(delivery, Outcome.DEAD_LETTERED, rejection))

    def dead_letter(self, rejected: Sequence[tuple[Delivery, Rejected]], report: BatchReport) -> Mapping[Position, str]:
        """Writes dead letters until each is acknowledged, however long the topic does not answer.

        1. All letters are sent, and then each acknowledgement is awaited.
        2. Those without an acknowledgement are sent again, after a wait.

        Returns:
            the reason for each letter that the topic can never take: its partition has to halt.

        Raises:
            StoppedError: the lane stops.
        """
        if not rejected:
            return {}
        halts: dict[Position, str] = {}
        pending, attempts, started_s = list(rejected), self._waiting.attempts(), time.perf_counter()
        with tracing.current().span("settle", dead_letters=len(rejected)):
            while pending := self._send(pending, halts):  # 1
                attempts.back_off()  # 2
        report.add_step_time("settle", time.perf_counter() - started_s)
        return halts

    def _send(
        self, rejected: Sequence[tuple[Delivery, Rejected]], halts: dict[Position, str]
    ) -> list[tuple[Delivery, Rejected]]:
        """Sends letters and awaits their acknowledgements; returns those without one, and adds the reasons to halt."""
        unacknowledged: list[tuple[Delivery, Rejected]] = []
        sent = [(delivery, rejection, self._start(delivery, rejection)) for delivery, rejection in rejected]
        for delivery, rejection, acknowledged in sent:
            try:
                acknowledged(_ACK_TIMEOUT_S)
            except (TransientError, FutureTimeoutError) as exc:
                metrics.RETRIES.labels("dead_letter").inc()
                logger.warning(
                    "the dead letter of %s is not acknowledged and is sent again: %r", rejection.position, exc
                )
                unacknowledged.append((delivery, rejection))
            except PenstockError as exc:
                halts[rejection.position] = f"the dead-letter topic cannot take {rejection.position}: {exc}"
        return unacknowledged

    def _start(self, delivery: Delivery, rejection: Rejected) -> Callable[[float], object]:
        """Sends a letter; returns a function that awaits its acknowledgement, or raises why there is none."""
        try:
            return self._dead_letters.send(delivery.record, rejection).result
        except PenstockError as exc:
            return _raiser(exc)


def _raiser(exc: Exception) -> Callable[[float], object]:
    def raise_it(_timeout_s: float) -> object:
        raise exc

    return raise_it
