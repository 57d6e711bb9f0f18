"""Measures the reference speech model on sentences that training never said.

    python -m tools.reference_models.evaluate_speech [--model DIR] [--sentences N] [--json]

Three ways: a sentence alone in its window, as the transcriber is given it; minutes of sentences with pauses between,
through the detector's windows, as the pipeline does it; and what is no speech, in which nothing should be heard.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

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

SEED = 900_001  # no seed of the training's: its parts count up from its own
MINUTES = 4
_PAUSES_S = (0.4, 2.5)


@dataclass(frozen=True)
class Figures:
    """Shares from 0 to 1, times in seconds.

    Attributes:
        sentence_errors: wrong, missing and added words of those spoken, each sentence alone.
        start_off_s, end_off_s: by how much the first and the last time of a sentence are off, in the median.
        off_95_s: and both, for 95 of 100.
        minute_errors: wrong, missing and added words, through the detector, minutes at a time.
        words_in_noise: words transcribed in a minute of noise, hum and silence, 10 s each.
    """

    sentence_errors: float
    start_off_s: float
    end_off_s: float
    off_95_s: float
    minute_errors: float
    words_in_noise: int


def evaluate(transcriber: Any, sentences: int) -> Figures:
    """Figures of a loaded transcriber."""
    choose, speakers = random.Random(SEED), [SpeechSynthesizer(voice) for voice in VOICES]
    spoken = [(text := sentence(choose), choose.choice(speakers).synthesize(text)) for _ in range(sentences)]
    errors, starts_s, ends_s = _alone(transcriber, spoken)
    words = sum(len(text.split()) for text, _ in spoken)
    wrong, said = _minutes(transcriber, spoken, choose)
    return Figures(
        sentence_errors=errors / words,
        start_off_s=float(np.median(starts_s)),
        end_off_s=float(np.median(ends_s)),
        off_95_s=float(np.quantile([*starts_s, *ends_s], 0.95)),
        minute_errors=wrong / said,
        words_in_noise=sum(len(_words(one)) for one in transcriber.transcribe(_no_speech())),
    )


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words that have to be changed, put in or left out: Levenshtein's distance over words."""
    before = list(range(len(heard) + 1))
    for row, word in enumerate(said, 1):
        after = [row]
        for column, other in enumerate(heard, 1):
            after.append(min(before[column] + 1, after[-1] + 1, before[column - 1] + (word != other)))
        before = after
    return before[-1]


def _alone(transcriber: Any, spoken: Sequence[tuple[str, Utterance]]) -> tuple[int, list[float], list[float]]:
    """Each after a quarter of a second: errors, and by how much starts and ends are off."""
    lead = RATE_HZ // 4
    windows = [np.pad(one.samples, (lead, lead)) for _, one in spoken]
    errors, starts_s, ends_s = 0, list[float](), list[float]()
    for (text, one), heard in zip(spoken, transcriber.transcribe(windows), strict=True):
        errors += word_errors(text.split(), _words(heard))
        if heard.segments:
            starts_s.append(abs(heard.segments[0].start_s - lead / RATE_HZ))
            ends_s.append(abs(heard.segments[-1].end_s - lead / RATE_HZ - one.duration_s))
    return errors, starts_s, ends_s


def _minutes(transcriber: Any, spoken: Sequence[tuple[str, Utterance]], choose: random.Random) -> tuple[int, int]:
    """Errors, and words that were spoken, in `MINUTES` minutes."""
    wrong = said = 0
    for _ in range(MINUTES):
        samples, texts = np.zeros(60 * RATE_HZ, np.float32), list[str]()
        at = RATE_HZ
        while True:
            text, one = choose.choice(spoken)
            if at + len(one.samples) > len(samples):
                break
            samples[at : at + len(one.samples)] = one.samples
            texts += text.split()
            at += len(one.samples) + round(choose.uniform(*_PAUSES_S) * RATE_HZ)
        finder = SpeechSegmenter(SileroVAD(), VadOptions())
        windows = [*finder.add(Block(0, samples)), *finder.end()]
        heard = [word for one in transcriber.transcribe([window.samples for window in windows]) for word in _words(one)]
        wrong += word_errors(texts, heard)
        said += len(texts)
    return wrong, said


def _no_speech() -> list[Float32]:
    noise, count = np.random.default_rng(SEED), 10 * RATE_HZ
    times_s = np.arange(count) / RATE_HZ
    hum = sum(0.1 * np.sin(2 * np.pi * hertz * times_s) for hertz in (110, 220, 330))
    hiss = [noise.standard_normal(count) * loud for loud in (0.003, 0.02, 0.1, 0.3)]
    return [np.asarray(one, np.float32) for one in (np.zeros(count), hum, *hiss)]


def _words(heard: Transcript) -> list[str]:
    return [word for segment in heard.segments for word in segment.text.split()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SPEECH_DIR)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    model = SpeechSpec("reference-whisper", FolderWeights(wanted.model, SPEECH_MODEL), "float32", any_length=True)
    found = evaluate(load_transcriber(replace(load_profile("reference"), speech=model)), wanted.sentences)
    if wanted.json:
        print(json.dumps(asdict(found)))
        return 0
    for name, value in asdict(found).items():
        print(f"{name:16} {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
