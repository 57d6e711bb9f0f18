"""A question by voice becomes words, as the ingest plane makes them of recordings: decoded, cut where somebody speaks,
and put to the profile's speech model.

The model costs memory that a replica which is only asked in words need not have, so it is loaded when somebody first
asks by voice. One question is listened to at a time: the model takes one caller, and two would only share the cores.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from penstock.config import QuerySettings
from penstock.errors import BadInputError, ConfigError, QueryError, UnavailableError
from penstock.media.av.audio import RATE_HZ, AudioTrack
from penstock.media.av.vad import SileroVAD, SpeechSegmenter, VadOptions
from penstock.media.sniff import sniff
from penstock.query.executor import BoundedExecutor
from penstock.records import Float32, Modality, Transcript

# What a question takes: see `QuerySettings.transcription_timeout_s`.
RETRY_AFTER_S = 2.0
_FIELD = "/audio"


class SpeechModel(Protocol):
    """A speech model; `encoders.whisper.WhisperTranscriber` is one."""

    def transcribe(self, windows: Sequence[Float32]) -> Sequence[Transcript]:
        """What is said in each window of float32[n], 16 kHz mono, at most 30 s. Called by one thread at a time."""


class SpeechQueryTranscriber:
    """Makes words of sounds, in one thread of this process. Belongs to one event loop.

    Args:
        load: loads the speech model; called in the thread, when it is first needed, and again after it failed.
        settings: limits.
        detector: finds where somebody speaks; made in the thread likewise.
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
        self._ear: SpeechModel | None = None
        self._detector: SileroVAD | None = None
        self.threads = BoundedExecutor(
            threads=1,
            backlog=settings.transcription_queue_size,
            clock=clock,
            calls="questions by voice",
            retry_after_s=RETRY_AFTER_S,
        )

    async def transcribe(self, data: bytes) -> str:
        """What is said in an encoded sound, or in the sound track of a film; never empty.

        Raises:
            QueryError: it is no sound, too long, or nothing is said in it.
            OverloadedError: too many questions wait to be listened to.
            UnavailableError: the words were not there in time, or the speech model cannot be loaded.
        """
        deadline_s = self.threads.clock() + self._timeout_s
        try:
            return await self.threads.call(lambda _: self._transcript(data), deadline_s=deadline_s)
        except TimeoutError as exc:
            raise UnavailableError(
                f"what is said was not made out within {self._timeout_s:g} s (setting query.transcription_timeout_s)"
            ) from exc

    def close(self) -> None:
        """Takes no more questions."""
        self.threads.close()

    def _transcript(self, data: bytes) -> str:
        """In the one thread. The speech model is not loaded for what it has not to hear."""
        if self._detector is None:
            self._detector = self._make_detector()
        windows = list(speech_in(data, self._detector, max_s=self._max_s))
        if not windows:
            raise QueryError("nobody speaks in the sound: ask again, or in words", status=422, field=_FIELD)
        transcripts = self._loaded().transcribe(windows)
        words = " ".join(segment.text for one in transcripts for segment in one.segments).strip()
        if not words:
            why = next((f" ({one.failed})" for one in transcripts if one.failed), "")
            message = f"somebody speaks in the sound, but no words could be made out{why}: ask again, or in words"
            raise QueryError(message, status=422, field=_FIELD)
        return words

    def _loaded(self) -> SpeechModel:
        if self._ear is None:
            try:
                self._ear = self._load()
            except ConfigError as exc:  # nothing that whoever asks could put right
                raise UnavailableError(f"the speech model cannot be loaded: {exc}") from exc
        return self._ear


def speech_in(data: bytes, detector: SileroVAD, *, max_s: float) -> Iterator[Float32]:
    """The windows of an encoded sound in which somebody speaks: float32[n] each, 16 kHz mono, at most 30 s.

    Raises:
        QueryError: 422, it is no sound; 413, it is longer than `max_s`.
    """
    found = sniff(data, declared=None)
    if found.modality not in (Modality.AUDIO, Modality.VIDEO):
        raise QueryError(f"the sound is none that can be heard, but {found.mime}", status=422, field=_FIELD)
    finder, heard = SpeechSegmenter(detector, VadOptions()), 0
    try:
        with AudioTrack(io.BytesIO(data)) as sound:
            if sound.codec is None:
                raise QueryError(f"the {found.mime} to search by has no sound track", status=422, field=_FIELD)
            for block in sound.blocks():
                heard += len(block.samples)
                if heard > max_s * RATE_HZ:
                    message = f"the sound is longer than {max_s:g} s (setting query.max_audio_s): ask in fewer words"
                    raise QueryError(message, status=413, field=_FIELD)
                yield from (window.samples for window in finder.add(block))
    except BadInputError as exc:
        raise QueryError(f"the sound cannot be heard: {exc}", status=422, field=_FIELD) from exc
    yield from (window.samples for window in finder.end())
