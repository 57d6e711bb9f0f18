"""Keeps track of what holds ingest up: counts the holds that last, and logs the begin and end of each.

A lane is paused for the disk, the lease of the driver, its memory budget, the store or the broker; a partition is
halted by an event that can be neither processed nor dead-lettered. Nothing is lost, and each hold ends by itself once
its cause is gone.

    lane, driver  ─► Holds: which last; the metric `held`      each its own
    driver        ─► HoldLog: one line at the begin, one at the end   for all of them, as one cause stops many lanes
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from penstock.observability import metrics

logger = logging.getLogger(__name__)


class Why(StrEnum):
    """Names the causes of a hold, as the metric `held` and `/readyz` show them."""

    DISK = "disk"  # too little free space
    LEASE = "lease"  # of the driver: not confirmed
    BUDGET = "budget"  # as many bytes or offsets in flight as the lane may have
    STORE = "store"  # it does not answer
    BROKER = "broker"  # it does not answer, or refuses this client
    HALTED = "halted"  # a partition that cannot continue


HoldKey: TypeAlias = tuple[Why, str]
"""The cause of a hold, and the partition that it holds; empty for all of a lane."""

# A lane under full load reaches its budget for moments all the time, which is the purpose of a budget. A lane that has
# just started waits for the first confirmation of the lease, and joins the group for a second or two.
_BEGINS_AFTER_S = {Why.BUDGET: 10.0, Why.BROKER: 3.0, Why.LEASE: 5.0}
# A halted partition is tried again every 30 s; while it halts again within this time, the hold has not ended.
_ENDS_AFTER_S = {Why.HALTED: 10.0}

_REMEDIES = {
    Why.DISK: "",
    Why.LEASE: "; nothing is written until it is. Check that Kafka and the driver run",
    Why.BUDGET: "; the steps after the lane are too slow: add workers, or raise the limit if memory allows",
    Why.STORE: "; events wait and none is lost. Check that it runs (store.uri)",
    Why.BROKER: "; nothing is received until it does",
    Why.HALTED: "; it is tried again every 30 s",
}


@dataclass(slots=True)
class _PresentHold:
    reason: str
    since_s: float
    seen_s: float
    has_begun: bool = False


class Holds:
    """The present holds of one lane, or of the plane's driver. For one thread.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._holds: dict[HoldKey, _PresentHold] = {}

    @property
    def reasons(self) -> Mapping[str, str]:
        """Returns the reason of each present hold by its name: `disk`, `halted media.text[1]`."""
        return {_name(key): hold.reason for key, hold in self._holds.items() if hold.has_begun}

    def update(self, reasons: Mapping[HoldKey, str]) -> None:
        """Compares the holds with what holds now; call it every second or so.

        Args:
            reasons: the human-readable reason of each; one that is empty does not hold.
        """
        now_s = self._clock()
        for key, reason in reasons.items():
            if reason:
                hold = self._holds.setdefault(key, _PresentHold(reason, now_s, now_s))
                hold.reason, hold.seen_s = reason, now_s
                hold.has_begun |= now_s - hold.since_s >= _BEGINS_AFTER_S.get(key[0], 0.0)
        for key, hold in list(self._holds.items()):
            if now_s > hold.seen_s and now_s - hold.seen_s >= _ENDS_AFTER_S.get(key[0], 0.0):
                del self._holds[key]
        counts = Counter(key[0] for key, hold in self._holds.items() if hold.has_begun)
        for why in Why:
            metrics.HELD.labels(why).set(counts[why])


class HoldLog:
    """Logs a warning when a hold begins anywhere in the plane, and one when it has ended everywhere. For one thread.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since_s: dict[str, float] = {}

    def update(self, reasons: Mapping[str, str], *, complete: bool) -> None:
        """Logs what has changed.

        Args:
            reasons: the reason of each present hold, by name (`Holds.reasons`).
            complete: whether all lanes answered; otherwise none has ended.
        """
        now_s = self._clock()
        for name, reason in reasons.items():
            if name not in self._since_s:
                self._since_s[name] = now_s
                logger.warning("ingest is held (%s): %s%s", name, reason, _REMEDIES[Why(name.partition(" ")[0])])
        for name in [name for name in self._since_s if complete and name not in reasons]:
            logger.warning("ingest is no longer held (%s), after %.0f s", name, now_s - self._since_s.pop(name))


def lane_holds(
    *,
    refusals: Mapping[Why, str],
    budget: str,
    lease: str,
    store: str,
    broker: str,
    halted: Mapping[str, str],
) -> Mapping[HoldKey, str]:
    """Returns what holds a lane up, from the reason of each cause and of each halted partition.

    The lease may be unconfirmed to the lane, which is a refusal, or to a writer alone.
    """
    holds: dict[HoldKey, str] = {
        **{(why, ""): reason for why, reason in refusals.items()},
        (Why.LEASE, ""): refusals.get(Why.LEASE, "") or lease,
        (Why.BUDGET, ""): budget,
        (Why.STORE, ""): store,
        (Why.BROKER, ""): broker,
    }
    return holds | {(Why.HALTED, partition): reason for partition, reason in halted.items()}


def _name(key: HoldKey) -> str:
    return " ".join(filter(None, key))
