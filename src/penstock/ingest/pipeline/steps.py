"""Steps 2 to 5 of text and images, and the write step that all modalities share.

2 fetch     claim checks → bytes                      fetch pool
3 decode    bytes → pending entries, encoder inputs   decode pool
4 encode    encoder inputs → embeddings, and words    one pool a model
5 write     embeddings → store                        writers
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from penstock.assets import asset_uri, sha256_of
from penstock.errors import NotReadyError, PenstockError, TransientError, UnavailableError, UsageError, WorkerLostError
from penstock.ingest.delivery import Delivery
from penstock.ingest.executor.pool import Ref
from penstock.ingest.executor.proxies import InputRefs, Pools, StepTimer, WriterPool
from penstock.ingest.pipeline.types import BatchReport
from penstock.ingest.pipeline.waiting import Waiting
from penstock.records import ClaimCheck, Decoded, Encoded, Event, ImageTexts, Modality, WriteResult
from penstock.store.writer import WriteRequest

T = TypeVar("T")

logger = logging.getLogger(__name__)


class WriteStep:
    """Step 5: sends requests to the writers until the store answers.

    Args:
        lane: name of the lane, for the writers' log.
        writers: one a shard.
        waiting: paces the attempts.
        epoch: returns the epoch of the driver's lease.
    """

    def __init__(self, *, lane: str, writers: WriterPool, waiting: Waiting, epoch: Callable[[], int]) -> None:
        self._lane = lane
        self._epoch = epoch
        self._writers = writers
        self._waiting = waiting

    def write(
        self,
        deliveries: Sequence[Delivery],
        decoded: Ref[Decoded],
        encoded: Sequence[Ref[Encoded] | Ref[ImageTexts]],
        report: BatchReport,
    ) -> list[WriteResult]:
        """Writes a batch. Keeps its decoded and encoded form in the meantime: a claim check may be gone by then.

        Raises:
            WorkerLostError: a writer died, or the worker that held something to write.
            PermanentError: the store refuses an entry of the batch.
        """
        return self.until_answered(
            lambda: self._writers.write(self.request(deliveries), decoded, encoded, report.add_step_time),
            report.batch.topic,
        )

    def relabel(self, deliveries: Sequence[Delivery], report: BatchReport) -> list[WriteResult]:
        """Writes the events that name labels and have the media that are stored: no model runs for them.

        Costs a read of asset rows, and that only for events that name labels and whose media are in the message, and
        for replays: what is stored of these already is settled before anything is fetched.

        Returns:
            the results of those that need no other step.

        Raises:
            WorkerLostError: a writer died.
        """
        events = [stored for delivery in deliveries if (stored := _as_stored(delivery.event)) is not None]
        if not events:
            return []
        return self.until_answered(lambda: self._writers.relabel(self.request(deliveries), events), report.batch.topic)

    def retract(self, deliveries: Sequence[Delivery]) -> None:
        """Removes what interrupted writes left of deliveries that are now rejected.

        Such a write may be one of this lane, or of a former one. Waits until the store answers.
        """
        if not deliveries:
            return
        events = [delivery.event for delivery in deliveries]
        try:
            self._waiting.until_store_answers(
                lambda: self._writers.retract(self.request(deliveries), events),
                subject=f"rejected events of {events[0].asset.topic}",
                retry_on=(TransientError, UsageError),
            )
        except PenstockError as exc:
            logger.error("possible entries of rejected events remain in the store: %s", exc)

    def request(self, deliveries: Sequence[Delivery]) -> WriteRequest:
        """Returns the request to write these deliveries under their assignments and the present epoch.

        Make another one for each attempt: the epoch may have changed.
        """
        return WriteRequest(self._lane, tuple({delivery.assignment for delivery in deliveries}), self._epoch())

    def until_answered(self, request: Callable[[], T], topic: str) -> T:
        """Sends a request of a batch until the store answers.

        Raises:
            WorkerLostError: a writer died, or the worker that held an argument. No single event is to blame, as all of
                them passed the encoders; but all of them together may be too large for the writer's memory.
        """
        try:
            return self._waiting.until_store_answers(
                request, subject=f"a batch of {topic}", retry_on=(UnavailableError, NotReadyError)
            )
        except WorkerLostError as exc:
            raise WorkerLostError(str(exc)) from exc  # without its blame


def _as_stored(event: Event) -> Event | None:
    """Returns an event that may be stored already, with the address of its media in the asset store; else None.

    It names labels, or is a replay.
    """
    is_replay = event.origin != event.position
    if event.payload is None or not (event.names_acl or is_replay):
        return None
    if isinstance(event.payload, ClaimCheck):
        return event if is_replay or sha256_of(event.payload.uri) is not None else None
    return replace(event, payload=ClaimCheck(asset_uri(hashlib.sha256(event.payload.data).hexdigest())))


def encode_inputs(pools: Pools, inputs: InputRefs, timer: StepTimer) -> list[Ref[Encoded] | Ref[ImageTexts]]:
    """Runs step 4 for a batch: embeddings by the encoders, and words by the models that read images."""
    encoded: list[Ref[Encoded] | Ref[ImageTexts]] = []
    for role, batch in inputs.items():
        if role in pools.image_texts:
            encoded += pools.image_texts[role].texts(batch, timer)
        else:
            encoded.append(pools.encoders[role].encode(batch, timer))
    return encoded


class Steps:
    """Processes batches of text and images.

    Args:
        pools: where the steps run.
        roles: the encoders that a modality needs.
        write: step 5.
    """

    def __init__(self, *, pools: Pools, roles: Mapping[Modality, Sequence[str]], write: WriteStep) -> None:
        self._pools = pools
        self._roles = roles
        self._write = write

    def attempt(self, deliveries: Sequence[Delivery], report: BatchReport, *, is_first: bool) -> list[WriteResult]:
        """Runs steps 2 to 5 once. Fetches nothing of a batch into this process but the writers' small reports."""
        results = self._write.relabel(deliveries, report)
        known = {result.position for result in results}
        due = [delivery for delivery in deliveries if delivery.record.position not in known]
        if due:
            decoded, encoded = self._prepare([delivery.event for delivery in due], report)  # 2 to 4
            results += self._write.write(due, decoded, encoded, report)  # 5
        return results

    def probe(self, event: Event, like: Delivery, report: BatchReport) -> None:
        """See `Flow.probe`."""
        self._prepare([event], report)

    def _prepare(
        self, events: Sequence[Event], report: BatchReport
    ) -> tuple[Ref[Decoded], Sequence[Ref[Encoded] | Ref[ImageTexts]]]:
        """Runs steps 2 to 4 for events of one modality."""
        decoded, inputs = self._decode(events, report)  # 2 and 3
        return decoded, encode_inputs(self._pools, inputs, report.add_step_time)  # 4

    def _decode(self, events: Sequence[Event], report: BatchReport) -> tuple[Ref[Decoded], InputRefs]:
        """Runs steps 2 and 3, in one call where all media are inline."""
        roles, timer = self._roles[events[0].modality], report.add_step_time
        if any(isinstance(event.payload, ClaimCheck) for event in events):
            fetched = self._pools.fetch.fetch(events, timer)  # 2
            return self._pools.decode.decode(fetched, roles, timer)  # 3
        return self._pools.decode.fetch_and_decode(events, roles, timer)  # 2 and 3
