"""Speech to text: windows of many assets in one batch, through Whisper as faster-whisper loads it.

faster-whisper's own pipelines take one file at a time, so that forty short clips are forty batches of one. Here its
model, features and tokenizer are called directly, and the windows of a batch may belong to any assets. Which text is
accepted follows Whisper's paper (Radford et al., 2022, section 4.5): text that repeats itself or that has a low
probability is decoded again at a higher temperature, and left out where that does not help; so is text where the model
detects no speech.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.speech_language import UNKNOWN_LANGUAGE, choose_language
from penstock.encoders.sub_batching import FailureCause, SubBatcher, classify_message
from penstock.records import Float32, TimedText, Transcript

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

_RATE_HZ = 16_000
_STEP_S = 0.02  # between two of Whisper's timestamps
_FRAMES = 3_000  # of features: 30 s
# Frames of padding behind the longest window, where 30 s need not be full; an even number. With half a second two words
# of 641 were wrong after Opus and AAC, with one to eight seconds none.
_SILENT_FRAMES = 200
_MAX_TOKENS = 448
_ENGLISH = "en"
# Whisper may end its text seconds before the speech does, at a breath between two sentences. What it left out is
# decoded as a window of its own; windows end where speech does, so a shorter remainder is the end of the last word.
_MIN_REMAINDER_S = 1.5
_MAX_REMAINDERS = 4
# A shorter window has too few words to distinguish speech of another language from a word cut short.
_MIN_TELLING_S = 2.0


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Options of decoding and of accepting a window's text, by faster-whisper's names.

    Attributes:
        no_speech_threshold: above this probability of no speech, text of low probability counts as silence.
        avg_logprob_threshold: below this mean logarithm of the tokens' probabilities, text has a low probability.
        compression_ratio_threshold: above this ratio of its bytes to their compressed ones (zlib), text repeats itself.
        temperatures: of the attempts, in order.
        beam_size: hypotheses that are followed at temperature 0.
        unknown_below: see `SpeechSpec`.
    """

    no_speech_threshold: float = 0.6
    avg_logprob_threshold: float = -1.0
    compression_ratio_threshold: float = 2.4
    temperatures: tuple[float, ...] = (0.0, 0.4, 0.8)
    beam_size: int = 5
    unknown_below: float | None = None


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """The best decoding of one window at one temperature."""

    tokens: Sequence[int]
    avg_logprob: float
    no_speech_prob: float


class WhisperTranscriber:
    """A loaded Whisper. Not thread-safe: a worker owns one.

    Args:
        model: as faster-whisper loaded it.
        options: see `DecodingOptions`.
        fingerprint: of the model.
        max_windows: windows in one batch of the model.
        chunk_s: see `Transcriber.chunk_s`.
        language: of all windows; None: the model detects it for each.
        any_length: see `SpeechSpec`.
    """

    def __init__(
        self,
        model: WhisperModel,
        options: DecodingOptions,
        fingerprint: Fingerprint,
        *,
        max_windows: int,
        chunk_s: float = 0.1,
        language: str | None = None,
        any_length: bool = False,
    ) -> None:
        self.fingerprint = fingerprint
        self.max_windows = max_windows
        self.chunk_s = chunk_s
        self._model = model
        self._options = options
        self._language = language
        self._any_length = any_length
        # CTranslate2 keeps no more memory than it needs: there is nothing to give back.
        self._batcher = SubBatcher(max_windows, classify=classify_error, release_memory=lambda: None)
        self._tokenizers: dict[str, Tokenizer] = {}  # by language

    @property
    def model(self) -> WhisperModel:
        """Returns the model that faster-whisper loaded."""
        return self._model

    def transcribe(self, windows: Sequence[Float32]) -> tuple[Transcript, ...]:
        """Returns the transcript of each window, in order: see `Transcriber.transcribe`."""
        results = self._batcher.run(
            range(len(windows)),
            lambda rows: self._transcribe_batch([windows[row] for row in rows]),
            probe=lambda: self._transcribe_batch([np.zeros(_RATE_HZ, np.float32)]),
        )
        by_row = {row: Transcript("", 0.0, (), failed=reason) for row, reason in results.failed}
        for rows, transcripts in results.encoded:
            by_row.update(zip(rows, transcripts, strict=True))
        return tuple(by_row[row] for row in range(len(windows)))

    def _transcribe_batch(self, windows: Sequence[Float32]) -> list[Transcript]:
        """Decodes all windows, and what the model left out behind the end of its text."""
        transcripts = self._decode_windows(windows, None)
        unfinished = list(range(len(windows)))
        for _ in range(_MAX_REMAINDERS):
            ends_s = {row: transcripts[row].segments[-1].end_s for row in unfinished if _has_text(transcripts[row])}
            starts = {row: round(end_s * _RATE_HZ) for row, end_s in ends_s.items()}
            remainders = {
                row: windows[row][start:]
                for row, start in starts.items()
                if len(windows[row]) - start >= _MIN_REMAINDER_S * _RATE_HZ
            }
            if not remainders:
                break
            languages = [(transcripts[row].language, transcripts[row].probability) for row in remainders]
            further = self._decode_windows(list(remainders.values()), languages)
            for row, transcript in zip(remainders, further, strict=True):
                transcripts[row] = _continued(transcripts[row], transcript, ends_s[row])
            unfinished = [row for row, transcript in zip(remainders, further, strict=True) if _has_text(transcript)]
        return transcripts

    def _decode_windows(
        self, windows: Sequence[Float32], languages: Sequence[tuple[str, float]] | None
    ) -> list[Transcript]:
        """Encodes all windows, and decodes those whose text is not accepted again at the next temperature."""
        encoded = self._model.encode(self._features(windows))
        if languages is None:
            languages = self._languages(encoded, windows)
        transcripts: dict[int, Transcript] = {}
        waiting = list(range(len(windows)))
        for temperature in self._options.temperatures:
            # A retry encodes its windows again: CTranslate2 takes no rows out of a batch, and retries are few.
            features = encoded if len(waiting) == len(windows) else self._encode_rows(windows, waiting)
            hypotheses = self._decode(features, [languages[row][0] for row in waiting], temperature)
            retries = []
            for row, hypothesis in zip(waiting, hypotheses, strict=True):
                duration_s = len(windows[row]) / _RATE_HZ
                segments = self._segments(hypothesis, duration_s, languages[row][0])
                if self._is_silence(hypothesis):
                    segments = ()
                elif self._is_unknown(hypothesis, segments, duration_s):
                    transcripts[row] = Transcript(UNKNOWN_LANGUAGE, 0.0, (TimedText(0.0, duration_s, ""),))
                    continue
                elif not self._is_accepted(hypothesis, segments):
                    retries.append(row)
                    segments = ()
                transcripts[row] = Transcript(*languages[row], segments)
            waiting = retries
            if not waiting:
                break
        return [transcripts[row] for row in range(len(windows))]

    def _encode_rows(self, windows: Sequence[Float32], rows: Sequence[int]) -> Any:
        return self._model.encode(self._features([windows[row] for row in rows]))

    def _features(self, windows: Sequence[Float32]) -> Float32:
        """Returns float32[n, mels, frames], padded with 0.0. Frames are 3,000, or less and an even number."""
        features = [self._model.feature_extractor(window)[..., :-1][..., :_FRAMES] for window in windows]
        longest = max(feature.shape[1] for feature in features)
        frames = min(_FRAMES, longest + longest % 2 + _SILENT_FRAMES) if self._any_length else _FRAMES
        padded = [np.pad(feature, ((0, 0), (0, frames - feature.shape[1]))) for feature in features]
        return np.stack(padded).astype(np.float32)

    def _languages(self, encoded: Any, windows: Sequence[Float32]) -> list[tuple[str, float]]:
        """Returns the language of each window, with its probability."""
        if not self._model.model.is_multilingual:
            return [(_ENGLISH, 1.0)] * len(windows)
        if self._language is not None:
            return [(self._language, 1.0)] * len(windows)
        detected = self._model.model.detect_language(encoded)
        return [
            choose_language(
                {mark.strip("<|>"): float(probability) for mark, probability in ranked}, len(window) / _RATE_HZ
            )
            for ranked, window in zip(detected, windows, strict=True)
        ]

    def _decode(self, encoded: Any, languages: Sequence[str], temperature: float) -> list[_Hypothesis]:
        sampling = {"beam_size": self._options.beam_size} if temperature == 0 else {"beam_size": 1, "sampling_topk": 0}
        results = self._model.model.generate(
            encoded,
            [self._tokenizer(language).sot_sequence for language in languages],
            max_length=_MAX_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed_tokens(languages[0]),
            sampling_temperature=temperature or 1.0,
            **sampling,
        )
        return [
            # The score is the mean over the tokens; with the end mark there is one more than `sequences_ids` holds.
            _Hypothesis(
                result.sequences_ids[0],
                result.scores[0] * len(result.sequences_ids[0]) / (len(result.sequences_ids[0]) + 1),
                result.no_speech_prob,
            )
            for result in results
        ]

    # --- acceptance -------------------------------------------------------------------------------------------------

    def _is_silence(self, hypothesis: _Hypothesis) -> bool:
        no_speech = hypothesis.no_speech_prob > self._options.no_speech_threshold
        return no_speech and hypothesis.avg_logprob < self._options.avg_logprob_threshold

    def _is_unknown(self, hypothesis: _Hypothesis, segments: Sequence[TimedText], duration_s: float) -> bool:
        """Returns whether the speech is in a language that the model does not know. It then writes its own language:
        improbable words, or one phrase over and over.
        """
        limit = self._options.unknown_below
        if limit is None or duration_s < _MIN_TELLING_S:
            return False
        return hypothesis.avg_logprob < limit or self._repeats(segments)

    def _repeats(self, segments: Sequence[TimedText]) -> bool:
        data = " ".join(segment.text for segment in segments).encode()
        return bool(data) and len(data) / len(zlib.compress(data)) > self._options.compression_ratio_threshold

    def _is_accepted(self, hypothesis: _Hypothesis, segments: Sequence[TimedText]) -> bool:
        return hypothesis.avg_logprob >= self._options.avg_logprob_threshold and not self._repeats(segments)

    # --- tokens -----------------------------------------------------------------------------------------------------

    def _segments(self, hypothesis: _Hypothesis, duration_s: float, language: str) -> tuple[TimedText, ...]:
        """Cuts tokens into transcript segments at the timestamps before and after their words.

        Words without an end last to the end of the window.
        """
        tokenizer = self._tokenizer(language)
        segments: list[TimedText] = []
        start_s, words = 0.0, list[int]()

        def close(end_s: float) -> None:
            text = tokenizer.decode(words).strip()
            if text:
                segments.append(TimedText(min(start_s, duration_s), max(start_s, min(end_s, duration_s)), text))
            words.clear()

        for token in hypothesis.tokens:
            if token >= tokenizer.timestamp_begin:
                time_s = (token - tokenizer.timestamp_begin) * _STEP_S
                close(time_s)
                start_s = time_s
            elif token < tokenizer.eot:
                words.append(token)
        close(duration_s)
        return tuple(segments)

    def _tokenizer(self, language: str) -> Tokenizer:
        """Returns the tokenizer of a language. They are kept, as each one searches for the non-speech symbols again."""
        from faster_whisper.tokenizer import Tokenizer

        if language not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            tokenizer = Tokenizer(self._model.hf_tokenizer, multilingual, task="transcribe", language=language)
            self._tokenizers[language] = tokenizer
        return self._tokenizers[language]

    def _suppressed_tokens(self, language: str) -> list[int]:
        """Returns marks, and symbols that stand for noises and not for words."""
        from faster_whisper.transcribe import get_suppressed_tokens

        return list(get_suppressed_tokens(self._tokenizer(language), [-1]))


def _has_text(transcript: Transcript) -> bool:
    return any(segment.text for segment in transcript.segments)


def _continued(transcript: Transcript, remainder: Transcript, start_s: float) -> Transcript:
    """Returns a transcript with that of its window's remainder, which starts at `start_s`."""
    later = tuple(
        TimedText(segment.start_s + start_s, segment.end_s + start_s, segment.text)
        for segment in remainder.segments
        if segment.text
    )
    return replace(transcript, segments=(*transcript.segments, *later))


def classify_error(exc: Exception) -> FailureCause:
    """Returns the cause of an exception of CTranslate2, which has no exception types of its own."""
    if isinstance(exc, MemoryError):
        return FailureCause.MEMORY
    return classify_message(str(exc)) if isinstance(exc, RuntimeError) else FailureCause.ITEM
