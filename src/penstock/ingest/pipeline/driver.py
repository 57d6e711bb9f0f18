"""Drives one batch from its delivery to its report: fetch, decode, encode, write, settle.

    2 fetch     claim checks → bytes                      `steps`, `long_media`
    3 decode    bytes → pending entries, encoder inputs
    4 encode    encoder inputs → embeddings
    5 write     embeddings → store
    5b announce changes → change feed                         `announce`; acknowledged before they are reported as done
    6 settle    rejected events → dead letters            `settle`; acknowledged before they are reported as done

Step 1 (receive) and step 7 (commit) are the lane's. A batch is driven from one thread, until every event of it is
settled, fenced, halted or has a next segment: it outlasts an unavailable store and lost workers (`recovery`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cmp_to_key

from penstock.broker.base import DeadLetterSink
from penstock.ingest.changes import ChangeSink
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.pipeline.announce import AnnounceStep
from penstock.ingest.pipeline.long_media import LongMediaSteps
from penstock.ingest.pipeline.recovery import Recovery
from penstock.ingest.pipeline.settle import SettleStep
from penstock.ingest.pipeline.steps import Steps, WriteStep
from penstock.ingest.pipeline.types import (
    BatchReport,
    FencedDelivery,
    Flow,
    HaltedDelivery,
    SettledDelivery,
    Unfinished,
)
from penstock.ingest.pipeline.waiting import Waiting
from penstock.records import (
    SEGMENTED_MODALITIES,
    Continues,
    Event,
    Fenced,
    Modality,
    Outcome,
    Position,
    Settled,
    WriteResult,
)
from penstock.retries import Backoff, Breaker


class Pipeline:
    """Drives batches through the pools. Safe to call from several threads, one batch each.

    Args:
        lane: name of the lane, for the writers' log.
        pools: where the steps run.
        roles: the encoders that a modality needs.
        dead_letters: the topic of rejected records.
        backoff: the waits between attempts.
        breaker: of the store.
        sleep: waits for these seconds at most; returns whether the lane stops.
        known_good: by modality, an event that every healthy worker accepts.
        epoch: returns the epoch of the driver's lease; 0 without one.
        changes: takes the changes of the index; None: they are not announced.
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
        epoch: Callable[[], int] = lambda: 0,
        changes: ChangeSink | None = None,
    ) -> None:
        self._waiting = Waiting(backoff=backoff, breaker=breaker, sleep=sleep)
        self._write = WriteStep(lane=lane, writers=pools.writers, waiting=self._waiting, epoch=epoch)
        self._steps = Steps(pools=pools, roles=roles, write=self._write)
        self._long_media = LongMediaSteps(pools=pools, roles=roles, write=self._write)
        self._recovery = Recovery(waiting=self._waiting, known_good=known_good)
        self._announce = AnnounceStep(changes)
        self._settle = SettleStep(dead_letters=dead_letters, waiting=self._waiting)
        # A store that takes one write at a time is busy for all of it.
        self._io_bound_steps = frozenset({"announce", "settle"} | ({"write"} if pools.concurrent_writes > 1 else set()))

    @property
    def lease_error(self) -> str:
        """Returns why the writers refuse requests without the driver's lease; empty while they do not."""
        return self._waiting.lease_error

    @property
    def store_error(self) -> str:
        """Returns why the store does not answer; empty while it does."""
        return self._waiting.store_error

    def run(self, batch: Batch) -> BatchReport:
        """Settles every delivery of a batch, whatever it takes.

        Processes the newest version of each asset first. Older ones are superseded once it is indexed or deleted; if it
        is rejected, the next older one is processed.

        Raises:
            StoppedError: the lane stops, and nothing more is known of the batch. Entries that were written are written
                again when the batch is redelivered, with the same ids.
        """
        report = BatchReport(batch, self._io_bound_steps)
        self._settle.settle_unparsed(report)
        assets = _versions_by_asset(batch.deliveries)
        flow: Flow = self._long_media if _is_segmented(assets) else self._steps
        while assets:
            newest = [versions[-1] for versions in assets]
            results = {result.position: result for result in self._recovery.process(flow, newest, report)}  # 2 to 5
            self._announce.announce(newest, list(results.values()), report)  # 5b
            rejected = [
                (delivery, result.rejection)
                for delivery in newest
                if isinstance(result := results[delivery.record.position], Settled) and result.rejection is not None
            ]
            self._write.retract([delivery for delivery, _ in rejected])
            halts = self._settle.dead_letter(rejected, report)  # 6
            assets = _report_results(assets, results, halts, report)
        return report

    def close(self, timeout_s: float) -> None:
        """Gives the changes that the feed has not taken yet this long to reach it. Call it before `sleep` ends."""
        self._announce.close(timeout_s)


def _report_results(
    assets: Iterable[list[Delivery]],
    results: Mapping[Position, WriteResult],
    halts: Mapping[Position, str],
    report: BatchReport,
) -> list[list[Delivery]]:
    """Adds the newest version of each asset to the report, and the older ones that it supersedes.

    Returns:
        the older versions of each asset that have to be processed now.
    """
    remaining: list[list[Delivery]] = []
    for versions in assets:
        newest, older = versions[-1], versions[:-1]
        match results[newest.record.position]:
            case Continues(at=at):
                report.unfinished.append(Unfinished(newest, at, tuple(older)))
            case Fenced():
                report.settlements.append(FencedDelivery(newest))
                # Its partition is another lane's now; those of the older versions perhaps are not.
                remaining += [older] if older else []
            case Settled(position=position, outcome=outcome, rejection=rejection):
                if position in halts:
                    report.settlements.append(HaltedDelivery(newest, halts[position]))
                else:
                    report.settlements.append(SettledDelivery(newest, outcome, rejection))
                if rejection is None:
                    report.settlements += [SettledDelivery(version, Outcome.SUPERSEDED) for version in older]
                else:
                    remaining += [older] if older else []
    return remaining


def _is_segmented(assets: Sequence[Sequence[Delivery]]) -> bool:
    """Returns whether a batch is of audio, video or documents; its events have one modality."""
    return bool(assets) and assets[0][0].event.modality in SEGMENTED_MODALITIES


def _versions_by_asset(deliveries: Iterable[Delivery]) -> list[list[Delivery]]:
    """Groups parsed deliveries by asset, each oldest first."""
    assets: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        if delivery.asset_id is not None:
            assets.setdefault(delivery.asset_id, []).append(delivery)
    for versions in assets.values():
        versions.sort(key=cmp_to_key(_compare_versions))
    return list(assets.values())


def _compare_versions(left: Delivery, right: Delivery) -> int:
    return 1 if left.event.version.newer_than(right.event.version) else -1
