"""Keeps the contexts of watches, and prepares them again where they are new, changed or expired.

The watches of all tenants are prepared on one thread, so none of them may hold up the others for long:

1. Those that are due are prepared, a few concurrently, for a limited time. New ones come first, as they
   match nothing before; then those that expired first.
2. An expired watch that is not prepared keeps its old context.
3. For a new watch that is not prepared the caller waits. After some rounds in which no new watch was prepared, it
   continues with the channels that answered, or without the watch; it is tried again every 30 s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Protocol

from penstock.errors import QueryError, UnavailableError
from penstock.observability import metrics
from penstock.query.watches.context import WatchContext
from penstock.records import Watch

logger = logging.getLogger(__name__)

# Each takes some 60 ms, most of it waiting for the encoder and the store, which searches need, too.
_MAX_CONCURRENT = 4
# Far below `kafka.max_poll_interval_ms`, together with the timeout.
_BUDGET_S = 10.0
_TIMEOUT_S = 15.0  # above that of the preparation itself
_MAX_ROUNDS = 10
_RETRY_S = 30.0


class Prepare(Protocol):
    """Prepares a watch for the evaluator's thread."""

    def __call__(self, watch: Watch) -> Future[WatchContext]:
        """Starts to prepare a watch; the future fails as `WatchPreparer.prepare` raises."""


@dataclass(slots=True)
class _Failure:
    """A watch that could not be prepared in full.

    Attributes:
        watch: the watch.
        reason: for the log.
        partial: the context of the channels that answered, if any did.
        retry_s: when it is tried again.
        given_up: whether nothing waits for it any more.
    """

    watch: Watch
    reason: str
    partial: WatchContext | None
    retry_s: float
    given_up: bool = False


class PreparedWatches:
    """Keeps the contexts of watches. For one thread.

    Args:
        prepare: makes them.
        stop: ends a round early.
        clock: monotonic seconds, that of the contexts.
    """

    def __init__(self, prepare: Prepare, *, stop: threading.Event, clock: Callable[[], float]) -> None:
        self._prepare = prepare
        self._stop = stop
        self._clock = clock
        self._contexts: dict[str, WatchContext] = {}
        self._invalid: dict[str, Watch] = {}
        self._failures: dict[str, _Failure] = {}
        self._rounds = 0

    def keep(self, watches: Mapping[str, Watch]) -> None:
        """Forgets all watches but these, and measures them."""
        self._contexts = {id_: known for id_, known in self._contexts.items() if watches.get(id_) == known.watch}
        self._invalid = {id_: watch for id_, watch in self._invalid.items() if watches.get(id_) == watch}
        self._failures = {id_: known for id_, known in self._failures.items() if watches.get(id_) == known.watch}
        left_out = sum(known.given_up and known.partial is None for known in self._failures.values())
        metrics.WATCHES.labels("evaluated").set(len(watches) - len(self._invalid) - left_out)
        metrics.WATCHES.labels("invalid").set(len(self._invalid))

    def contexts_of(self, watches: Sequence[Watch]) -> list[WatchContext]:
        """Returns the contexts of these watches, but for those that are invalid or cannot be prepared.

        Raises:
            UnavailableError: new ones are not prepared yet; call it again for the same changes.
        """
        waiting = self._waited_for(watches)
        self._prepare_due(watches)  # 1
        missing = self._waited_for(waiting)
        if missing:  # 3
            self._rounds = 0 if len(missing) < len(waiting) else self._rounds + 1
            if self._stop.is_set() or self._rounds < _MAX_ROUNDS:
                known = [self._failures[watch.id].reason for watch in missing if watch.id in self._failures]
                reason = known[0] if known else "there was no time for them"
                raise UnavailableError(f"{len(missing)} new watches are not prepared yet: {reason}")
            self._give_up(missing)
        self._rounds = 0
        return [context for watch in watches if (context := self._context_of(watch)) is not None]

    def _context_of(self, watch: Watch) -> WatchContext | None:
        failure = self._failures.get(watch.id)
        return self._contexts.get(watch.id) or (failure.partial if failure is not None and failure.given_up else None)

    def _waited_for(self, watches: Iterable[Watch]) -> list[Watch]:
        """Returns those that have no context yet, and have not been given up."""
        return [
            watch
            for watch in watches
            if watch.id not in self._contexts
            and watch.id not in self._invalid
            and not ((failure := self._failures.get(watch.id)) and failure.given_up)
        ]

    def _prepare_due(self, watches: Iterable[Watch]) -> None:
        began_s = self._clock()
        due = sorted((watch for watch in watches if self._is_due(watch, began_s)), key=self._order)
        for first in range(0, len(due), _MAX_CONCURRENT):
            if self._stop.is_set() or self._clock() - began_s >= _BUDGET_S:
                break
            started = [(watch, self._start(watch)) for watch in due[first : first + _MAX_CONCURRENT]]
            wait([future for _, future in started], _TIMEOUT_S)
            for watch, future in started:
                self._take(watch, future)

    def _is_due(self, watch: Watch, now_s: float) -> bool:
        if watch.id in self._invalid:
            return False
        failure, known = self._failures.get(watch.id), self._contexts.get(watch.id)
        if failure is not None and (failure.given_up or known is not None):
            return now_s >= failure.retry_s
        return known is None or now_s >= known.expires_s

    def _order(self, watch: Watch) -> tuple[bool, bool, float]:
        """Returns the sort key: new ones first, those that failed after those that were not tried, then by age."""
        known, failure = self._contexts.get(watch.id), self._failures.get(watch.id)
        if known is None:
            return (failure is not None and failure.given_up, failure is not None, 0.0)
        return (True, failure is not None, known.expires_s)

    def _start(self, watch: Watch) -> Future[WatchContext]:
        try:
            return self._prepare(watch)
        except Exception as exc:
            failed: Future[WatchContext] = Future()
            failed.set_exception(exc)
            return failed

    def _take(self, watch: Watch, future: Future[WatchContext]) -> None:
        """Notes how a preparation ended, or that it did not."""
        if not future.done():
            future.cancel()
            self._note_failure(watch, f"it took longer than {_TIMEOUT_S:g} s")
            return
        try:
            context = future.result(0)
        except QueryError as exc:
            self._invalid[watch.id] = watch
            self._contexts.pop(watch.id, None)
            self._failures.pop(watch.id, None)
            logger.warning(
                "watch %s (%s) is not evaluated, as its search is invalid now: %s", watch.id, watch.name, exc
            )
        except Exception as exc:
            self._note_failure(watch, str(exc) or type(exc).__name__)
        else:
            self._note_prepared(watch, context)

    def _note_prepared(self, watch: Watch, context: WatchContext) -> None:
        if context.missing:
            reasons = "; ".join(f"{channel}: {reason}" for channel, reason in context.missing.items())
            self._note_failure(watch, reasons, context)
            return
        self._contexts[watch.id] = context
        failure = self._failures.pop(watch.id, None)
        if failure is not None:
            logger.info("watch %s (%s) is prepared again", watch.id, watch.name)

    def _note_failure(self, watch: Watch, reason: str, partial: WatchContext | None = None) -> None:
        before = self._failures.get(watch.id)
        if before is None:
            logger.warning("watch %s (%s) cannot be prepared, trying again: %s", watch.id, watch.name, reason)
        given_up = before is not None and before.given_up
        kept = partial or (before.partial if before is not None else None)
        self._failures[watch.id] = _Failure(watch, reason, kept, self._clock() + _RETRY_S, given_up)

    def _give_up(self, missing: Iterable[Watch]) -> None:
        for watch in missing:
            failure = self._failures.get(watch.id)
            if failure is None:
                failure = _Failure(watch, "there was no time for it", None, self._clock() + _RETRY_S)
            failure.given_up = True
            self._failures[watch.id] = failure
            how = "is left out" if failure.partial is None else "is evaluated by the channels that answer"
            logger.error("watch %s (%s) %s until it can be prepared: %s", watch.id, watch.name, how, failure.reason)
