"""Measures the reference speech model on sentences that are not in its training data.

    python -m tools.reference_models.evaluate_speech [--model DIR] [--sentences N] [--json]

It measures a sentence alone in its window, as the transcriber receives it; minutes of sentences with pauses between,
through the detector's windows, as in the pipeline; and audio without speech, in which there should be no words.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from penstock.encoders.base import Transcriber
from penstock.encoders.load import load_transcriber
from penstock.encoders.profiles import SpeechSpec, load_profile
from penstock.encoders.reference.speech_model import SPEECH_DIR, SPEECH_MODEL
from penstock.encoders.weights import FolderWeights
from penstock.media.av.audio import RATE_HZ, Block
from penstock.media.av.vad import SileroVAD, SpeechSegmenter, VadOptions
from penstock.records import Float32, Transcript
from tools.reference_models.grammar import sentence
from tools.reference_models.speech_corpus import VOICES
from tools.reference_models.speech_synthesis import SpeechSynthesizer, Utterance

SEED = 900_001  # no seed of the training, whose parts count up from its own
MINUTES = 4
_PAUSES_S = (0.4, 2.5)


@dataclass(frozen=True)
class Figures:
    """Shares from 0 to 1, times in seconds.

    Attributes:
        sentence_errors: wrong, missing and added words of those spoken, each sentence alone.
        start_off_s, end_off_s: median error of the first and of the last time of a sentence.
        off_95_s: 95th percentile of both.
        minute_errors: wrong, missing and added words, through the detector, minutes at a time.
        words_in_noise: words transcribed in a minute of noise, hum and silence, 10 s each.
    """

    sentence_errors: float
    start_off_s: float
    end_off_s: float
    off_95_s: float
    minute_errors: float
    words_in_noise: int


def evaluate(transcriber: Transcriber, sentences: int) -> Figures:
    """Returns the figures of a loaded transcriber."""
    choose, speakers = random.Random(SEED), [SpeechSynthesizer(voice) for voice in VOICES]
    spoken = [(text := sentence(choose), choose.choice(speakers).synthesize(text)) for _ in range(sentences)]
    errors, starts_s, ends_s = _alone(transcriber, spoken)
    words = sum(len(text.split()) for text, _ in spoken)
    wrong, total = _minutes(transcriber, spoken, choose)
    return Figures(
        sentence_errors=errors / words,
        start_off_s=float(np.median(starts_s)),
        end_off_s=float(np.median(ends_s)),
        off_95_s=float(np.quantile([*starts_s, *ends_s], 0.95)),
        minute_errors=wrong / total,
        words_in_noise=sum(len(_words(transcript)) for transcript in transcriber.transcribe(_no_speech())),
    )


def word_errors(spoken: Sequence[str], transcribed: Sequence[str]) -> int:
    """Returns the number of words to change, insert or remove: Levenshtein's distance over words."""
    before = list(range(len(transcribed) + 1))
    for row, word in enumerate(spoken, 1):
        after = [row]
        for column, other in enumerate(transcribed, 1):
            after.append(min(before[column] + 1, after[-1] + 1, before[column - 1] + (word != other)))
        before = after
    return before[-1]


def _alone(transcriber: Transcriber, spoken: Sequence[tuple[str, Utterance]]) -> tuple[int, list[float], list[float]]:
    """Returns word errors, and the errors of starts and ends, of sentences that begin after a quarter of a second."""
    lead = RATE_HZ // 4
    windows = [np.pad(utterance.samples, (lead, lead)) for _, utterance in spoken]
    errors, starts_s, ends_s = 0, list[float](), list[float]()
    for (text, utterance), transcript in zip(spoken, transcriber.transcribe(windows), strict=True):
        errors += word_errors(text.split(), _words(transcript))
        if transcript.segments:
            starts_s.append(abs(transcript.segments[0].start_s - lead / RATE_HZ))
            ends_s.append(abs(transcript.segments[-1].end_s - lead / RATE_HZ - utterance.duration_s))
    return errors, starts_s, ends_s


def _minutes(
    transcriber: Transcriber, spoken: Sequence[tuple[str, Utterance]], choose: random.Random
) -> tuple[int, int]:
    """Returns errors and spoken words in `MINUTES` minutes."""
    wrong = total = 0
    for _ in range(MINUTES):
        samples, texts = np.zeros(60 * RATE_HZ, np.float32), list[str]()
        at = RATE_HZ
        while True:
            text, utterance = choose.choice(spoken)
            if at + len(utterance.samples) > len(samples):
                break
            samples[at : at + len(utterance.samples)] = utterance.samples
            texts += text.split()
            at += len(utterance.samples) + round(choose.uniform(*_PAUSES_S) * RATE_HZ)
        finder = SpeechSegmenter(SileroVAD(), VadOptions())
        windows = [*finder.add(Block(0, samples)), *finder.end()]
        transcripts = transcriber.transcribe([window.samples for window in windows])
        words = [word for transcript in transcripts for word in _words(transcript)]
        wrong += word_errors(texts, words)
        total += len(texts)
    return wrong, total


def _no_speech() -> list[Float32]:
    noise, count = np.random.default_rng(SEED), 10 * RATE_HZ
    times_s = np.arange(count) / RATE_HZ
    hum = sum(0.1 * np.sin(2 * np.pi * hertz * times_s) for hertz in (110, 220, 330))
    hiss = [noise.standard_normal(count) * loud for loud in (0.003, 0.02, 0.1, 0.3)]
    return [np.asarray(samples, np.float32) for samples in (np.zeros(count), hum, *hiss)]


def _words(transcript: Transcript) -> list[str]:
    return [word for segment in transcript.segments for word in segment.text.split()]


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SPEECH_DIR)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = SpeechSpec("reference-whisper", FolderWeights(arguments.model, SPEECH_MODEL), "float32", any_length=True)
    figures = evaluate(load_transcriber(replace(load_profile("reference"), speech=model)), arguments.sentences)
    if arguments.json:
        print(json.dumps(asdict(figures)))
        return 0
    for name, value in asdict(figures).items():
        print(f"{name:16} {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
