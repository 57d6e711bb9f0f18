"""Typed calls to the workers of each pool: the only place that connects the steps with the workers' methods.

A call returns references, or the small reports of the writers, and adds its time to its step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from penstock.encoders.profiles import IMAGE_TEXT_ROLES, SPEECH
from penstock.errors import UnavailableError, WorkerLostError
from penstock.ingest.executor.pool import MAX_OOM_KILLS_BY_OTHERS, Pool, Ref
from penstock.ingest.executor.workers import (
    EncodeWorker,
    FetchedBatch,
    ImageTextWorker,
    MediaWorker,
    TranscribeWorker,
)
from penstock.observability import metrics
from penstock.records import (
    Checkpoint,
    Decoded,
    Encoded,
    EncoderInput,
    Event,
    ImageTexts,
    Transcript,
    WriteResult,
)
from penstock.store.writer import Writer, WriteRequest, shard_of

if TYPE_CHECKING:
    from penstock.media.segments.compose import DecodedSegments

StepTimer: TypeAlias = Callable[[str, float], None]
"""Adds seconds to a step of the batch for which a call is made."""

logger = logging.getLogger(__name__)

_CRASHES_TO_SKIP = 2  # of one image alone; then it is indexed without its words
_KNOWN_GOOD_PX = 64

InputRefs: TypeAlias = Mapping[str, Ref[EncoderInput]]
"""References to the inputs of the encoders, by role."""


class FetchPool:
    """Step 2 on the fetch workers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def fetch(self, events: Sequence[Event], timer: StepTimer) -> Ref[FetchedBatch]:
        """Reads the bytes of every event. See `MediaWorker.fetch`."""
        call = self._pool.run(MediaWorker.fetch, tuple(events))
        timer("fetch", call.busy_s)
        return call.result


class DecodePool:
    """Step 3 on the decode workers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def decode(
        self, batch: Ref[FetchedBatch], roles: Sequence[str], timer: StepTimer
    ) -> tuple[Ref[Decoded], InputRefs]:
        """Decodes a batch. See `MediaWorker.decode`."""
        call = self._pool.run(MediaWorker.decode, batch, tuple(roles), returns=1 + len(roles))
        timer("decode", call.busy_s)
        decoded, inputs = call.first_and_rest()
        return decoded, dict(zip(roles, inputs, strict=True))

    def fetch_and_decode(
        self, events: Sequence[Event], roles: Sequence[str], timer: StepTimer
    ) -> tuple[Ref[Decoded], InputRefs]:
        """Runs steps 2 and 3 in one call, for inline media. See `MediaWorker.fetch_and_decode`."""
        call = self._pool.run(MediaWorker.fetch_and_decode, tuple(events), tuple(roles), returns=1 + len(roles))
        timer("decode", call.busy_s)
        decoded, inputs = call.first_and_rest()
        return decoded, dict(zip(roles, inputs, strict=True))

    def decode_documents(
        self,
        events: Sequence[Event],
        checkpoints: Sequence[Checkpoint],
        roles: Sequence[str],
        timer: StepTimer,
        *,
        keep_open: bool,
        affinity: int | None = None,
    ) -> tuple[Ref[Decoded], InputRefs]:
        """Decodes the next pages of each document. See `MediaWorker.decode_documents`; arguments as below."""
        args = (tuple(events), tuple(checkpoints), tuple(roles), keep_open)
        return self._decode_next(MediaWorker.decode_documents, args, roles, timer, affinity)

    def decode_segments(
        self,
        events: Sequence[Event],
        checkpoints: Sequence[Checkpoint],
        roles: Sequence[str],
        timer: StepTimer,
        *,
        keep_open: bool,
        affinity: int | None = None,
    ) -> tuple[Ref[DecodedSegments], InputRefs]:
        """Decodes the next segment of each event. See `MediaWorker.decode_segments`.

        Args:
            events, checkpoints, roles, keep_open: as there.
            timer: of the batch.
            affinity: any number; calls with the same one go to the same worker. None: to the least busy one.
        """
        args = (tuple(events), tuple(checkpoints), tuple(roles), keep_open)
        return self._decode_next(MediaWorker.decode_segments, args, roles, timer, affinity)

    def _decode_next(
        self, method: Callable[..., Any], args: tuple[Any, ...], roles: Sequence[str], timer: StepTimer,
        affinity: int | None,
    ) -> tuple[Ref[Any], InputRefs]:  # fmt: skip
        """Runs a method that decodes the next part of each event on the worker that `affinity` leads to."""
        pool, returns = self._pool, 1 + len(roles)
        if affinity is None:
            call = pool.run(method, *args, returns=returns)
        else:
            call = pool.run_on(affinity % pool.size, method, *args, returns=returns)
        timer("decode", call.busy_s)
        decoded, inputs = call.first_and_rest()
        return decoded, dict(zip(roles, inputs, strict=True))

    def compose(
        self, segments: Ref[DecodedSegments], transcripts: Sequence[Ref[tuple[Transcript, ...]]], timer: StepTimer
    ) -> tuple[Ref[Decoded], Ref[EncoderInput]]:
        """Completes segments with their transcripts. See `MediaWorker.compose`."""
        call = self._pool.run(MediaWorker.compose, segments, *transcripts, returns=2)
        timer("decode", call.busy_s)
        return call.pair()


class EncodePool:
    """Step 4 on the workers of one encoder."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def encode(self, batch: Ref[EncoderInput], timer: StepTimer) -> Ref[Encoded]:
        """Encodes a batch. See `EncodeWorker.encode`."""
        call = self._pool.run(EncodeWorker.encode, batch)
        timer("encode", call.busy_s)
        return call.result


class TranscribePool:
    """Step 4 of speech on the workers of the speech model."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def transcribe(
        self, windows: Ref[EncoderInput], timer: StepTimer, *, is_long_media: bool
    ) -> list[Ref[tuple[Transcript, ...]]]:
        """Transcribes some windows at a time, so that calls of other batches run in between.

        See `TranscribeWorker.transcribe`.
        """
        transcripts: list[Ref[tuple[Transcript, ...]]] = []
        start: int | None = 0
        while start is not None:
            call = self._pool.run(TranscribeWorker.transcribe, windows, start, is_long_media, returns=2)
            timer("encode", call.busy_s)
            part, next_start = call.pair()
            transcripts.append(part)
            start = self._pool.fetch(next_start)
        return transcripts


class ImageTextPool:
    """Step 4 for the words of images, on the workers of one model.

    Args:
        role: of the model.
        pool: its workers.
    """

    def __init__(self, role: str, pool: Pool) -> None:
        self._role = role
        self._pool = pool

    def texts(self, batch: Ref[EncoderInput], timer: StepTimer) -> list[Ref[ImageTexts]]:
        """Returns the words of a batch's images, some images a call. See `ImageTextWorker.texts`.

        No image is rejected for its words: after a worker died in a call, the images of the batch go one by one, and
        one that kills further workers is left out, if these read a known-good image in between. A node without memory
        is no fault of an image, unless it happens again and again.

        Raises:
            WorkerLostError: a worker was lost, and no image of the batch is to blame.
            UnavailableError: the workers die of any image; the batch is worth trying again.
        """
        texts: list[Ref[ImageTexts]] = []
        start, crashes, kills = 0, 0, 0
        one_by_one = False
        while True:
            try:
                call = self._pool.run(ImageTextWorker.texts, batch, start, 1 if one_by_one else None, returns=2)
            except WorkerLostError as loss:
                if not (loss.blamed or loss.hung or loss.starved):
                    raise
                logger.warning("%s: a worker was lost over an image: %s", self._role, loss)
                if one_by_one:
                    kills += loss.starved
                    if not loss.starved or kills > MAX_OOM_KILLS_BY_OTHERS:
                        self._check_known_good(loss)
                        crashes += 1
                one_by_one = True
                if crashes >= _CRASHES_TO_SKIP:
                    metrics.IMAGE_TEXTS.labels(self._role, "failed").inc()
                    start, crashes, kills = start + 1, 0, 0
                continue
            timer("encode", call.busy_s)
            part, next_ref = call.pair()
            texts.append(part)
            next_start = self._pool.fetch(next_ref)
            if next_start is None:
                return texts
            start, crashes, kills = next_start, 0, 0

    def _check_known_good(self, loss: WorkerLostError) -> None:
        """Checks that the workers read a known-good image, so that another one can be blamed for their deaths.

        Raises:
            UnavailableError: they die of this one, too.
        """
        grey = np.full((_KNOWN_GOOD_PX, _KNOWN_GOOD_PX, 3), 128, dtype=np.uint8)
        known_good = self._pool.put(EncoderInput(self._role, ("known-good",), images=(grey,)))
        try:
            self._pool.run(ImageTextWorker.texts, known_good, 0, 1, returns=2)
        except WorkerLostError as exc:
            raise UnavailableError(f"{self._role}: a known-good image does not pass the workers: {loss}") from exc


class WriterPool:
    """Step 5 on all writers; each takes the assets of its shard."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def write(
        self,
        request: WriteRequest,
        decoded: Ref[Decoded],
        encoded: Sequence[Ref[Encoded] | Ref[ImageTexts]],
        timer: StepTimer,
    ) -> list[WriteResult]:
        """Writes a batch. See `Writer.write`."""
        calls = self._pool.run_on_all(Writer.write, request, decoded, *encoded)
        results = [result for call in calls for result in self._pool.fetch(call.result)]
        timer("write", max(call.busy_s for call in calls))
        return results

    def lookup(self, request: WriteRequest, events: Sequence[Event]) -> tuple[list[WriteResult], list[Checkpoint]]:
        """Returns the results that are known already, and the checkpoints of other events. See `Writer.lookup`."""
        results: list[WriteResult] = []
        checkpoints: list[Checkpoint] = []
        for call in self._pool.run_on_all(Writer.lookup, request, tuple(events)):
            shard_results, shard_checkpoints = self._pool.fetch(call.result)
            results += shard_results
            checkpoints += shard_checkpoints
        return results, checkpoints

    def relabel(self, request: WriteRequest, events: Sequence[Event]) -> list[WriteResult]:
        """Writes the events whose entries are stored already but for their labels. See `Writer.relabel`.

        Only writers that own one of the assets are called: each call is a round trip before the batch is decoded.
        """
        shards = sorted({shard_of(event.asset.id, self._pool.size) for event in events})
        calls = self._pool.run_on_each(shards, Writer.relabel, request, tuple(events))
        return [result for call in calls for result in self._pool.fetch(call.result)]

    def retract(self, request: WriteRequest, events: Sequence[Event]) -> None:
        """Removes what interrupted writes left of rejected events. See `Writer.retract`."""
        self._pool.run_on_all(Writer.retract, request, tuple(events))


@dataclass(frozen=True, slots=True)
class Pools:
    """The workers on which the steps run, all of one kind: local or Ray.

    Attributes:
        fetch, decode: workers of text, images and clips.
        long_media: decode workers for what would keep these waiting: claim checks of audio and video, and all segments
            but the first. Empty where neither is consumed.
        encoders: by role (`passage.text`).
        image_texts: the models that give the words of images, by role.
        transcriber: the speech model; None where neither audio nor video is consumed.
        writers: one a shard.
        concurrent_writes: batches that each writer has under way.
    """

    fetch: FetchPool
    decode: DecodePool
    long_media: DecodePool
    encoders: Mapping[str, EncodePool]
    transcriber: TranscribePool | None
    writers: WriterPool
    concurrent_writes: int = 1
    image_texts: Mapping[str, ImageTextPool] = field(default_factory=dict)

    @classmethod
    def over(
        cls,
        *,
        fetch: Pool,
        decode: Pool,
        long_media: Pool,
        encoders: Mapping[str, Pool],
        writers: Pool,
        concurrent_writes: int = 1,
    ) -> Pools:
        """Returns typed calls over these pools. `encoders` is by role and holds those of all other models as well."""
        others = {SPEECH, *IMAGE_TEXT_ROLES}
        return cls(
            FetchPool(fetch),
            DecodePool(decode),
            DecodePool(long_media),
            {role: EncodePool(pool) for role, pool in encoders.items() if role not in others},
            TranscribePool(encoders[SPEECH]) if SPEECH in encoders else None,
            WriterPool(writers),
            concurrent_writes,
            {role: ImageTextPool(role, pool) for role, pool in encoders.items() if role in IMAGE_TEXT_ROLES},
        )
