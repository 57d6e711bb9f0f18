"""Transcribes a spoken query as the ingest plane transcribes audio: decode, detect speech, and run the speech model.

The speech model takes memory that a replica without spoken queries does not need, so the first spoken query loads it.
One query is transcribed at a time: the model takes one call, and two would only share the cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

from penstock.config import QuerySettings
from penstock.errors import BadInputError, ConfigError, QueryError, UnavailableError
from penstock.media.av.audio import RATE_HZ, AudioTrack
from penstock.media.av.vad import SileroVAD, SpeechSegmenter, VadOptions
from penstock.media.sniff import sniff
from penstock.query.executor import BoundedExecutor
from penstock.records import Float32, Modality, Transcript

# The time that one query takes: see `QuerySettings.transcription_timeout_s`.
RETRY_AFTER_S = 2.0
_FIELD = "/audio"


class SpeechModel(Protocol):
    """A model that transcribes speech, such as `encoders.whisper.WhisperTranscriber`."""

    def transcribe(self, windows: Sequence[Float32]) -> Sequence[Transcript]:
        """Returns the transcript of each window (float32[n], 16 kHz mono, up to 30 s). Called by one thread only."""


class SpeechQueryTranscriber:
    """Transcribes spoken queries in one thread of this process. Belongs to one event loop.

    Args:
        load: loads the speech model; called in the thread by the first query, and again after it failed.
        settings: limits.
        detector: makes the detector of speech; called in the thread too.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        load: Callable[[], SpeechModel],
        settings: QuerySettings,
        *,
        detector: Callable[[], SileroVAD] = SileroVAD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._make_detector = detector
        self._max_s = settings.max_audio_s
        self._timeout_s = settings.transcription_timeout_s
        self._model: SpeechModel | None = None
        self._detector: SileroVAD | None = None
        self._executor = BoundedExecutor(
            threads=1,
            queue_size=settings.transcription_queue_size,
            clock=clock,
            calls="spoken queries",
            retry_after_s=RETRY_AFTER_S,
        )

    async def transcribe(self, data: bytes) -> str:
        """Returns the text spoken in an encoded audio file, or in the audio track of a video; never empty.

        Raises:
            QueryError: the bytes are not audio, it is too long, or it has no speech.
            OverloadedError: too many queries wait to be transcribed.
            UnavailableError: the transcript was not ready in time, or the speech model cannot be loaded.
        """
        deadline_s = self._executor.clock() + self._timeout_s
        try:
            return await self._executor.call(lambda _: self._transcribe(data), deadline_s=deadline_s)
        except TimeoutError as exc:
            raise UnavailableError(
                f"the audio was not transcribed within {self._timeout_s:g} s (setting query.transcription_timeout_s)"
            ) from exc

    def close(self) -> None:
        """Takes no more queries."""
        self._executor.close()

    def _transcribe(self, data: bytes) -> str:
        """Runs in the one thread. Audio without speech does not load the speech model."""
        if self._detector is None:
            self._detector = self._make_detector()
        windows = list(detect_speech(data, self._detector, max_s=self._max_s))
        if not windows:
            message = "no speech detected in the audio; record it again or send text"
            raise QueryError(message, status=422, field=_FIELD)
        transcripts = self._loaded().transcribe(windows)
        text = " ".join(segment.text for transcript in transcripts for segment in transcript.segments).strip()
        if not text:
            reason = next((f" ({transcript.failed})" for transcript in transcripts if transcript.failed), "")
            if any(transcript.segments for transcript in transcripts):  # without text
                reason = " (it is in a language that the speech model of this profile does not know)"
            message = f"the speech in the audio could not be transcribed{reason}; record it again or send text"
            raise QueryError(message, status=422, field=_FIELD)
        return text

    def _loaded(self) -> SpeechModel:
        if self._model is None:
            try:
                self._model = self._load()
            except ConfigError as exc:  # the client cannot correct it
                raise UnavailableError(f"the speech model cannot be loaded: {exc}") from exc
        return self._model


def detect_speech(data: bytes, detector: SileroVAD, *, max_s: float) -> Iterator[Float32]:
    """Yields the windows of an encoded audio file that have speech: float32[n] each, 16 kHz mono, at most 30 s.

    Raises:
        QueryError: 422, the bytes are not audio; 413, it is longer than `max_s`.
    """
    sniffed = sniff(data, declared=None)
    if sniffed.modality not in (Modality.AUDIO, Modality.VIDEO):
        raise QueryError(f"the audio is not audio but {sniffed.mime}", status=422, field=_FIELD)
    segmenter, samples = SpeechSegmenter(detector, VadOptions()), 0
    try:
        with closing(AudioTrack(data)) as track:
            if track.codec is None:
                raise QueryError(f"the audio is {sniffed.mime} without an audio track", status=422, field=_FIELD)
            for block in track.blocks():
                samples += len(block.samples)
                if samples > max_s * RATE_HZ:
                    message = f"the audio is longer than {max_s:g} s (setting query.max_audio_s); send a shorter query"
                    raise QueryError(message, status=413, field=_FIELD)
                yield from (window.samples for window in segmenter.add(block))
    except BadInputError as exc:
        raise QueryError(f"the audio cannot be decoded: {exc}", status=422, field=_FIELD) from exc
    yield from (window.samples for window in segmenter.end())
