"""Steps 2 to 5 of audio, video and documents, a segment of each event at a time.

    0 look up   which events are settled already, and the checkpoints of those that were begun before
    2, 3        the next segment: shots, and windows of speech,   decode pool, or the workers of long media
                or pages: passages and images
    4 encode    images and transcripts → embeddings               transcriber and encoders
    5 write     the segment's entries, and then its checkpoint    writers

Clips and short documents are one segment. An event with more becomes a continuation, which any lane
can resume from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.encoders.profiles import PASSAGE_TEXT, SPEECH
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.executor.pool import Ref
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.pipeline.steps import WriteStep, encode_inputs
from penstock.ingest.pipeline.types import BatchReport
from penstock.records import (
    Checkpoint,
    ClaimCheck,
    Continues,
    Decoded,
    Encoded,
    Event,
    ImageTexts,
    Modality,
    WriteResult,
)
from penstock.store.write_plan import written_so_far


class LongMediaSteps:
    """Processes batches of audio and video, and of documents.

    What may take long has workers of its own, so that no text, image or clip waits behind it, or behind a slow host.

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
        """Looks up the events, and runs steps 2 to 5 once for the next segment of those that are due."""
        relabelled = [] if report.batch.is_continuation else self._write.relabel(deliveries, report)
        positions = {result.position for result in relabelled}
        deliveries = [delivery for delivery in deliveries if delivery.record.position not in positions]
        if not deliveries:
            return relabelled
        results, checkpoints = self._look_up(deliveries, report)  # 0
        results += relabelled
        if not report.batch.is_continuation:
            results, checkpoints = [*results, *_as_continuations(deliveries, checkpoints)], []
        known = {result.position for result in results}
        due = [delivery for delivery in deliveries if delivery.record.position not in known]
        if due:
            decoded, encoded = self._prepare(
                [delivery.event for delivery in due],
                checkpoints,
                report,
                apart=_uses_long_media_workers(deliveries[0], report.batch),
                affinity=_affinity(due[0]) if is_first else None,
            )  # 2 to 4
            results += self._write.write(due, decoded, encoded, report)  # 5
        return results

    def probe(self, event: Event, like: Delivery, report: BatchReport) -> None:
        """See `Flow.probe`."""
        self._prepare([event], (), report, apart=_uses_long_media_workers(like, report.batch))

    def _look_up(
        self, deliveries: Sequence[Delivery], report: BatchReport
    ) -> tuple[list[WriteResult], list[Checkpoint]]:
        """Returns the results that are known before anything is done, and the checkpoints of the other events.

        After a partition has moved, clips that were settled behind a long video are recognised and not encoded again.
        """
        events = [delivery.event for delivery in deliveries]
        return self._write.until_answered(
            lambda: self._pools.writers.lookup(self._write.request(deliveries), events), report.batch.topic
        )

    def _prepare(
        self,
        events: Sequence[Event],
        checkpoints: Sequence[Checkpoint],
        report: BatchReport,
        *,
        apart: bool,
        affinity: int | None = None,
    ) -> tuple[Ref[Decoded], Sequence[Ref[Encoded] | Ref[ImageTexts]]]:
        """Runs steps 2 to 4 for the next segment of each event.

        Args:
            events: of one modality.
            checkpoints: of those events that were begun before.
            report: of their batch.
            apart: whether they go to the workers of long media.
            affinity: leads all segments of a medium to the worker that has it open; None, after that one was lost: to
                any other.
        """
        timer = report.add_step_time
        pool = self._pools.long_media if apart else self._pools.decode
        if events[0].modality is Modality.DOCUMENT:
            all_roles = self._roles[Modality.DOCUMENT]
            pages, by_role = pool.decode_documents(
                events, checkpoints, all_roles, timer, keep_open=apart, affinity=affinity if apart else None
            )  # 2 and 3
            return pages, encode_inputs(self._pools, by_role, timer)  # 4
        assert self._pools.transcriber is not None
        roles = [role for role in self._roles[events[0].modality] if role != PASSAGE_TEXT]
        segments, by_role = pool.decode_segments(
            events, checkpoints, roles, timer, keep_open=apart, affinity=affinity if apart else None
        )  # 2 and 3
        inputs = dict(by_role)
        transcripts = self._pools.transcriber.transcribe(inputs.pop(SPEECH), timer, is_long_media=apart)  # 4
        decoded, passages = self._pools.decode.compose(segments, transcripts, timer)
        inputs[PASSAGE_TEXT] = passages
        return decoded, [self._pools.encoders[role].encode(batch, timer) for role, batch in inputs.items()]


def _as_continuations(deliveries: Sequence[Delivery], checkpoints: Sequence[Checkpoint]) -> list[WriteResult]:
    """Returns events that were begun before, by any lane, as continuations.

    Their next segments take turns with those of other long media, and not with the clips that arrived beside them.
    """
    positions = {delivery.asset_id: delivery.record.position for delivery in deliveries}
    return [
        Continues(positions[checkpoint.asset.id], checkpoint.position, written_so_far(checkpoint))
        for checkpoint in checkpoints
    ]


def _uses_long_media_workers(delivery: Delivery, batch: Batch) -> bool:
    """Returns whether a delivery may occupy its worker for long: a later segment, or a claim check."""
    return batch.is_continuation or isinstance(delivery.event.payload, ClaimCheck)


def _affinity(delivery: Delivery) -> int:
    """Returns the same number for all segments of a medium."""
    return int(delivery.event.asset.id[:8], 16)
