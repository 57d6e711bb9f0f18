"""Speech to text: windows of many assets in one batch, through Whisper as faster-whisper loads it.

faster-whisper's own pipelines take one file at a time, so that forty short clips are forty batches of one. Here its
model, features and tokenizer are called directly, and a window neither knows nor cares whose it is. What counts as
heard is decided as in Whisper's paper (Radford et al., 2022, section 4.5): text that repeats itself or that the model
doubts is tried again at a higher temperature, and left out where that does not help; so is text where nobody speaks.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.sub_batching import FailureCause, SubBatcher, classify_message
from penstock.records import Float32, TimedText, Transcript

_STEP_S = 0.02  # between two of Whisper's times
_FRAMES = 3_000  # of features: 30 s
# Of padding behind the longest window, where 30 s need not be full; an even number. With half a second two words of 641
# were wrong after Opus and AAC, with one to eight seconds none.
_SILENT_FRAMES = 200
_MOST_TOKENS = 448
_ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """When a window's text is believed.

    Attributes:
        no_speech_threshold: above this probability of no speech, text that is doubted too is silence.
        avg_logprob_threshold: below this mean logarithm of the tokens' probabilities text is doubted.
        compression_ratio_threshold: above this ratio of its bytes to their compressed ones (zlib) text repeats itself.
        temperatures: of the tries, in order.
        beam_size: hypotheses that are followed at temperature 0.
    """

    no_speech_threshold: float = 0.6
    avg_logprob_threshold: float = -1.0
    compression_ratio_threshold: float = 2.4
    temperatures: tuple[float, ...] = (0.0, 0.4, 0.8)
    beam_size: int = 5


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """One window after one try."""

    tokens: Sequence[int]
    avg_logprob: float
    no_speech_prob: float


class WhisperTranscriber:
    """One loaded model. Not thread-safe: a worker owns one.

    Args:
        model: `faster_whisper.WhisperModel`.
        options: see `DecodingOptions`.
        fingerprint: of the model.
        max_windows: windows in one batch of the model.
        chunk_s: how long a call for media that nobody waits for should take, unless the settings say otherwise.
        language: of all windows; None: each is asked for its own.
        any_length: see `SpeechModel`.
    """

    def __init__(
        self,
        model: Any,
        options: DecodingOptions,
        fingerprint: Fingerprint,
        *,
        max_windows: int,
        chunk_s: float = 0.1,
        language: str | None = None,
        any_length: bool = False,
    ) -> None:
        self.fingerprint = fingerprint
        self._model = model
        self._options = options
        self._language = language
        self._any_length = any_length
        self.max_windows = max_windows
        self.chunk_s = chunk_s
        # CTranslate2 keeps no more memory than it needs: there is nothing to give back.
        self._batcher = SubBatcher(max_windows, classify=classify_error, release_memory=lambda: None)
        self._tokenizers: dict[str, Any] = {}  # by language

    @property
    def model(self) -> Any:
        """What faster-whisper has loaded."""
        return self._model

    def transcribe(self, windows: Sequence[Float32]) -> tuple[Transcript, ...]:
        """What is said in each window, in order.

        Args:
            windows: float32[n] each, 16 kHz mono, at most 30 s.

        Raises:
            OverloadedError, WorkerBrokenError: as `Encoder.encode`.
        """
        outcome = self._batcher.run(
            range(len(windows)),
            lambda rows: self._batch([windows[row] for row in rows]),
            probe=lambda: self._batch([np.zeros(16_000, np.float32)]),
        )
        found = {row: Transcript("", 0.0, (), failed=why) for row, why in outcome.failed}
        for rows, transcripts in outcome.encoded:
            found.update(zip(rows, transcripts, strict=True))
        return tuple(found[row] for row in range(len(windows)))

    def _batch(self, windows: Sequence[Float32]) -> list[Transcript]:
        """Encoded once; tried again at the next temperature are those that are not believed."""
        encoded = self._model.encode(self._features(windows))
        languages = self._languages(encoded, len(windows))
        transcripts: dict[int, Transcript] = {}
        waiting = list(range(len(windows)))
        for temperature in self._options.temperatures:
            # What is tried again is encoded again: CTranslate2 takes no rows out of a batch, and few are.
            tried = encoded if len(waiting) == len(windows) else self._encoded_again(windows, waiting)
            heard = self._decode(tried, [languages[row][0] for row in waiting], temperature)
            again = []
            for row, one in zip(waiting, heard, strict=True):
                segments = self._segments(one, len(windows[row]) / 16_000, languages[row][0])
                if self._is_silence(one):
                    segments = ()
                elif not self._is_accepted(one, segments):
                    again.append(row)
                    segments = ()
                transcripts[row] = Transcript(*languages[row], segments)
            waiting = again
            if not waiting:
                break
        return [transcripts[row] for row in range(len(windows))]

    def _encoded_again(self, windows: Sequence[Float32], rows: Sequence[int]) -> Any:
        return self._model.encode(self._features([windows[row] for row in rows]))

    def _features(self, windows: Sequence[Float32]) -> Float32:
        """float32[n, mels, 3000], or less, an even number; padded with 0.0."""
        made = [self._model.feature_extractor(window)[..., :-1][..., :_FRAMES] for window in windows]
        longest = max(one.shape[1] for one in made)
        frames = min(_FRAMES, longest + longest % 2 + _SILENT_FRAMES) if self._any_length else _FRAMES
        return np.stack([np.pad(one, ((0, 0), (0, frames - one.shape[1]))) for one in made]).astype(np.float32)

    def _languages(self, encoded: Any, count: int) -> list[tuple[str, float]]:
        """Of each window, with its probability."""
        if not self._model.model.is_multilingual:
            return [(_ENGLISH, 1.0)] * count
        if self._language is not None:
            return [(self._language, 1.0)] * count
        found = [ranked[0] for ranked in self._model.model.detect_language(encoded)]
        return [(mark.strip("<|>"), float(probability)) for mark, probability in found]

    def _decode(self, encoded: Any, languages: Sequence[str], temperature: float) -> list[_Hypothesis]:
        sampling = {"beam_size": self._options.beam_size} if temperature == 0 else {"beam_size": 1, "sampling_topk": 0}
        results = self._model.model.generate(
            encoded,
            [self._tokenizer(language).sot_sequence for language in languages],
            max_length=_MOST_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed_tokens(languages[0]),
            sampling_temperature=temperature or 1.0,
            **sampling,
        )
        return [
            # The score is the mean over the tokens; with the end mark there is one more than it says.
            _Hypothesis(
                result.sequences_ids[0],
                result.scores[0] * len(result.sequences_ids[0]) / (len(result.sequences_ids[0]) + 1),
                result.no_speech_prob,
            )
            for result in results
        ]

    # --- what is believed -------------------------------------------------------------------------------------------

    def _is_silence(self, heard: _Hypothesis) -> bool:
        return (
            heard.no_speech_prob > self._options.no_speech_threshold
            and heard.avg_logprob < self._options.avg_logprob_threshold
        )

    def _is_accepted(self, heard: _Hypothesis, segments: Sequence[TimedText]) -> bool:
        data = " ".join(segment.text for segment in segments).encode()
        repeats = bool(data) and len(data) / len(zlib.compress(data)) > self._options.compression_ratio_threshold
        return heard.avg_logprob >= self._options.avg_logprob_threshold and not repeats

    # --- tokens -----------------------------------------------------------------------------------------------------

    def _segments(self, heard: _Hypothesis, duration_s: float, language: str) -> tuple[TimedText, ...]:
        """Times stand before and after the words that they enclose; words without an end last to the window's."""
        tokenizer = self._tokenizer(language)
        made: list[TimedText] = []
        start_s, words = 0.0, list[int]()

        def close(end_s: float) -> None:
            text = tokenizer.decode(words).strip()
            if text:
                made.append(TimedText(min(start_s, duration_s), max(start_s, min(end_s, duration_s)), text))
            words.clear()

        for token in heard.tokens:
            if token >= tokenizer.timestamp_begin:
                time_s = (token - tokenizer.timestamp_begin) * _STEP_S
                close(time_s)
                start_s = time_s
            elif token < tokenizer.eot:
                words.append(token)
        close(duration_s)
        return tuple(made)

    def _tokenizer(self, language: str) -> Any:
        """Kept, as each one looks up anew which symbols are no speech."""
        from faster_whisper.tokenizer import Tokenizer

        if language not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            made = Tokenizer(self._model.hf_tokenizer, multilingual, task="transcribe", language=language)
            self._tokenizers[language] = made
        return self._tokenizers[language]

    def _suppressed_tokens(self, language: str) -> list[int]:
        """Marks, and symbols that stand for sounds and not for words."""
        from faster_whisper.transcribe import get_suppressed_tokens

        return list(get_suppressed_tokens(self._tokenizer(language), [-1]))


def classify_error(exc: Exception) -> FailureCause:
    """Whose fault an exception of CTranslate2 is; it knows no types of its own."""
    if isinstance(exc, MemoryError):
        return FailureCause.MEMORY
    return classify_message(str(exc)) if isinstance(exc, RuntimeError) else FailureCause.ITEM
