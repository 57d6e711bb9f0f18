"""Typed calls to the workers of each pool: the only place that connects the steps with the workers' methods.

A call returns references, or the small reports of the writers, and adds its time to its step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from penstock.encoders.profiles import SPEECH
from penstock.ingest.executor.pool import Pool, Ref
from penstock.ingest.executor.workers import EncodeWorker, FetchedBatch, MediaWorker, TranscribeWorker
from penstock.records import Checkpoint, Decoded, Encoded, EncoderInput, Event, Transcript, WriteResult
from penstock.store.writer import Writer, WriteRequest

if TYPE_CHECKING:
    from penstock.media.segments.compose import DecodedSegments

StepTimer: TypeAlias = Callable[[str, float], None]
"""Adds seconds to a step of the batch for which a call is made."""

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
        pool, returns = self._pool, 1 + len(roles)
        args = (tuple(events), tuple(checkpoints), tuple(roles), keep_open)
        if affinity is None:
            call = pool.run(MediaWorker.decode_segments, *args, returns=returns)
        else:
            call = pool.run_on(affinity % pool.size, MediaWorker.decode_segments, *args, returns=returns)
        timer("decode", call.busy_s)
        segments, inputs = call.first_and_rest()
        return segments, dict(zip(roles, inputs, strict=True))

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


class WriterPool:
    """Step 5 on all writers; each takes the assets of its shard."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def write(
        self, request: WriteRequest, decoded: Ref[Decoded], encoded: Sequence[Ref[Encoded]], timer: StepTimer
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
        """Returns typed calls over these pools. `encoders` is by role and holds the speech model's as well."""
        return cls(
            FetchPool(fetch),
            DecodePool(decode),
            DecodePool(long_media),
            {role: EncodePool(pool) for role, pool in encoders.items() if role != SPEECH},
            TranscribePool(encoders[SPEECH]) if SPEECH in encoders else None,
            WriterPool(writers),
            concurrent_writes,
        )
