"""The training data of the reference speech model: spoken sentences placed in windows, with words and phonemes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from penstock.records import Float32
from tools.reference_models.grammar import sentence, word_string
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer, Utterance
from tools.reference_models.speech_tokens import STEP_S, Tokens

VOICES = ("en-us",)
PARTS = 16  # of the speech, whatever the number of processes
WORD_STRING_SHARE = 0.3  # of the utterances; see `grammar.word_string`
MAX_STRING_WORDS = 9
NO_SPEECH_SHARE = 0.1  # of the windows: silence, hiss, noise, a hum or notes
QUIET_SHARE = 0.5  # of the windows: have no background
CUT_SHARE = 0.5  # of the windows: end with their last word and are padded, as clips are
FRAME_SAMPLES = 320  # of one encoder frame, 20 ms
_MIN_GAIN, _MAX_GAIN = 0.3, 1.0  # of an utterance
_MAX_BACKGROUND = 0.004
_MIN_PAUSE, _MAX_PAUSE = RATE_HZ // 10, 3 * RATE_HZ // 2  # samples between two utterances


@dataclass(frozen=True, slots=True)
class Example:
    """One window.

    Attributes:
        mel: float32[80, 2 n], as faster-whisper computes it; padding is 0.0, as in faster-whisper.
        tokens: the decoder's target, from the start mark to the end mark.
        spans: for each token the encoder frames (first, behind the last) in which its word is spoken; (0, 0) for marks
            and times.
        phonemes: int64[n], the phoneme of each encoder frame; 0 is none.
        first_frame: the window's position in the encoder, from which times count.
    """

    mel: Float32
    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    phonemes: NDArray[np.int64]
    first_frame: int


def speak_sentences(hours: float, speakers: Sequence[SpeechSynthesizer], seed: int) -> Iterator[Utterance]:
    """Yields utterances of a few seconds until they last `hours` in all."""
    choose, total_s = random.Random(seed), 0.0
    for speaker in itertools.cycle(speakers):
        if total_s >= hours * 3_600:
            return
        string = choose.random() < WORD_STRING_SHARE
        text = word_string(choose, choose.randint(2, MAX_STRING_WORDS)) if string else sentence(choose)
        utterance = speaker.synthesize(text)
        total_s += utterance.duration_s
        yield utterance


def utterances(hours: float, seed: int, processes: int) -> list[Utterance]:
    """Returns the utterances of all voices, the same on any machine.

    Each part is spoken in a process of its own, as espeak-ng draws random numbers.
    """
    with ProcessPoolExecutor(processes, max_tasks_per_child=1, mp_context=get_context("spawn")) as pool:
        parts = pool.map(_part, [hours / PARTS] * PARTS, range(seed, seed + PARTS))
        return [utterance for part in parts for utterance in part]


def _part(hours: float, seed: int) -> list[Utterance]:
    return list(speak_sentences(hours, [SpeechSynthesizer(voice) for voice in VOICES], seed))


class Windows:
    """Draws windows of any length from utterances.

    Args:
        utterances: to draw from.
        tokens: of the model.
    """

    def __init__(self, utterances: Sequence[Utterance], tokens: Tokens) -> None:
        self._utterances = utterances
        self._tokens = tokens
        self._mel = FeatureExtractor()
        names = sorted({phoneme.text for utterance in utterances for phoneme in utterance.phonemes})
        self._phoneme_of = {name: number for number, name in enumerate(names, 1)}

    @property
    def phonemes(self) -> int:
        """Returns the number of phonemes, none included."""
        return len(self._phoneme_of) + 1

    def draw(self, seconds: float, choose: random.Random, *, single: bool = False) -> Example:
        """Draws one window: utterances and pauses as far as they fit, or a single utterance and silence after it."""
        samples = _background(round(seconds * RATE_HZ), choose)
        placed = [] if choose.random() < NO_SPEECH_SHARE else self._place(samples, choose, single=single)
        if not placed:
            _add_noise(samples, choose)
        longest = round((30 - seconds) / STEP_S)
        first_frame = choose.randint(0, longest) if longest > 0 else 0
        kept = len(samples)
        if choose.random() < CUT_SHARE:
            end = placed[-1][0] + len(placed[-1][1].samples) if placed else choose.randint(0, len(samples))
            kept = min(kept, end + RATE_HZ // 4)
        return self._example(samples, placed, first_frame, kept)

    def _place(self, samples: Float32, choose: random.Random, *, single: bool) -> list[tuple[int, Utterance]]:
        """Adds utterances to the samples. Returns them with their first samples."""
        placed: list[tuple[int, Utterance]] = []
        at = choose.randint(0, RATE_HZ // 2)
        while True:
            utterance = choose.choice(self._utterances)
            end = at + len(utterance.samples)
            if end > len(samples) or (single and placed):
                return placed
            samples[at:end] += utterance.samples * choose.uniform(_MIN_GAIN, _MAX_GAIN)
            placed.append((at, utterance))
            at = end + choose.randint(_MIN_PAUSE, _MAX_PAUSE)

    def _example(
        self, samples: Float32, placed: Sequence[tuple[int, Utterance]], first_frame: int, kept: int
    ) -> Example:
        tokens, spans = [self._tokens.start], [(0, 0)]
        phonemes = np.zeros(len(samples) // FRAME_SAMPLES, np.int64)

        def write(token: int, span: tuple[int, int] = (0, 0)) -> None:
            tokens.append(token)
            spans.append(span)

        for at, utterance in placed:
            at_s = at / RATE_HZ
            write(self._tokens.time(first_frame * STEP_S + at_s))
            for word in utterance.words:
                write(self._tokens.word(word.text), (_frame(at_s + word.start_s), _frame(at_s + word.end_s) + 1))
            write(self._tokens.time(first_frame * STEP_S + at_s + utterance.duration_s))
            for phoneme in utterance.phonemes:
                phonemes[_frame(at_s + phoneme.start_s) : _frame(at_s + phoneme.end_s)] = self._phoneme_of[phoneme.text]
        if not placed:
            write(self._tokens.no_speech)
        write(self._tokens.end)
        return Example(self._features(samples, kept), tuple(tokens), tuple(spans), phonemes, first_frame)

    def _features(self, samples: Float32, kept: int) -> Float32:
        """Returns the features of the first `kept` samples, padded after them as a clip is."""
        whole = 2 * (len(samples) // FRAME_SAMPLES)
        mel: Float32 = self._mel(samples[:kept])[:, :-1][:, :whole].astype(np.float32)
        return np.pad(mel, ((0, 0), (0, whole - mel.shape[1])))


def _background(count: int, choose: random.Random) -> Float32:
    if choose.random() < QUIET_SHARE:
        return np.zeros(count, np.float32)
    return _noise(count, choose) * np.float32(choose.uniform(0, _MAX_BACKGROUND))


def _add_noise(samples: Float32, choose: random.Random) -> None:
    """Adds audio without speech: nothing, noise, a hum of a few tones, or a sequence of notes."""
    kind, count = choose.choice(("nothing", "noise", "hum", "notes")), len(samples)
    if kind == "noise":
        samples += _noise(count, choose) * np.float32(choose.uniform(0.01, 0.3))
    elif kind == "hum":
        samples += _tones(count, choose)
    elif kind == "notes":
        at = 0
        while at < count:
            length = min(count - at, choose.randint(RATE_HZ // 8, RATE_HZ))
            samples[at : at + length] += _tones(length, choose)
            at += length


def _tones(count: int, choose: random.Random) -> Float32:
    """Returns a few simultaneous tones: of any pitch, or the multiples of one, as a voice's vowels have."""
    times_s, lowest = np.arange(count) / RATE_HZ, choose.uniform(60, 500)
    harmonic, tones = choose.random() < 0.5, np.zeros(count)
    for number in range(1, choose.randint(1, 5) + 1):
        hertz = lowest * number if harmonic else choose.uniform(60, 2_500)
        tones += choose.uniform(0.02, 0.15) * np.sin(2 * np.pi * hertz * times_s)
    return tones.astype(np.float32)


def _noise(count: int, choose: random.Random) -> Float32:
    return np.random.default_rng(choose.getrandbits(64)).standard_normal(count, np.float32)


def _frame(seconds: float) -> int:
    return int(seconds / STEP_S)
