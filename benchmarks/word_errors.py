"""Measures the word error rate of a profile's speech model on recordings whose words are known.

Audio goes the way of the ingest plane: decoded, cut into windows of speech, and transcribed in batches. Both texts are
normalised as in the paper on Whisper (Radford et al., 2022, appendix C): lower case, no punctuation, no fillers and
annotations in brackets, contractions and common spellings written out, and numbers as digits however they are written,
so that "press one" and "Press 1." are equal. No list of spellings of British and American English is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from penstock.cpus import usable_cpus
from penstock.encoders.load import load_transcriber
from penstock.encoders.profiles import Profile
from penstock.errors import ConfigError
from penstock.evaluate.datasets import read_set
from penstock.media.av.audio import AudioTrack, Block
from penstock.media.av.vad import SileroVAD, SpeechSegmenter, VadOptions
from penstock.records import Float32, Transcript

Normaliser: TypeAlias = Callable[[str], str]

_RATE_HZ = 16_000
_BATCH = 32  # windows in one call


@dataclass(frozen=True, slots=True)
class WordErrors:
    """The errors of one recording, or of several together.

    Attributes:
        words: of the reference.
        errors: substituted, deleted and inserted words.
    """

    words: int
    errors: int


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Returns the least number of words to substitute, delete or insert."""
    previous = list(range(len(hypothesis) + 1))
    for row, word in enumerate(reference, 1):
        current = [row]
        for column, other in enumerate(hypothesis, 1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (word != other)))
        previous = current
    return previous[-1]


def english_normaliser() -> Normaliser:
    """Returns the normaliser of Whisper's paper for English, without its list of spellings."""
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    normalise: Normaliser = EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
    return normalise


def bench_word_errors(profile: Profile, folder: Path, *, limit: int | None, threads: int) -> dict[str, Any]:
    """Transcribes the recordings of an evaluation set, and compares the words with the set's.

    Args:
        profile: names the speech model.
        folder: of the set, whose corpus has `audio` and `text`.
        limit: number of recordings, the first ones; None: all.
        threads: CPU threads; 0: every core.

    Raises:
        ConfigError: no speech model, or no recordings in the set.
    """
    documents = [document for document in read_set(folder).documents if document.audio is not None][:limit]
    if not documents:
        raise ConfigError(f"{folder} has no recordings: its corpus.jsonl needs `audio` and `text`")
    model = load_transcriber(profile, threads=threads or usable_cpus())
    audio = [_samples(document.audio) for document in documents if document.audio is not None]
    windows = [(row, window) for row, samples in enumerate(audio) for window in _windows(samples)]
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    transcripts: list[Transcript] = []
    for start in range(0, len(windows), _BATCH):
        transcripts += model.transcribe([window for _, window in windows[start : start + _BATCH]])
    elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    texts = [""] * len(documents)
    for (row, _), transcript in zip(windows, transcripts, strict=True):
        texts[row] = " ".join([texts[row], *(segment.text for segment in transcript.segments)]).strip()
    normalise = english_normaliser()
    counted = [_counted(normalise, document.text, text) for document, text in zip(documents, texts, strict=True)]
    audio_s = sum(len(samples) for samples in audio) / _RATE_HZ
    return {
        "recordings": len(documents),
        "words": sum(result.words for result in counted),
        "errors": sum(result.errors for result in counted),
        "word_error_rate": sum(result.errors for result in counted) / sum(result.words for result in counted),
        "audio_s": audio_s,
        "times_real_time": audio_s / elapsed_s,
        "times_real_time_by_cpu": audio_s / cpu_s,
        "languages": _languages(transcripts),
        "wrong": [
            {"id": document.id, "reference": document.text, "transcript": text}
            for document, text, result in zip(documents, texts, counted, strict=True)
            if result.errors
        ],
    }


def _counted(normalise: Normaliser, reference: str, hypothesis: str) -> WordErrors:
    words = _words(normalise(reference))
    return WordErrors(len(words), count_errors(words, _words(normalise(hypothesis))))


def _words(normalised: str) -> list[str]:
    """Returns the words; the full stops that the normaliser leaves of an ellipsis are none."""
    return [word for word in normalised.split() if any(character.isalnum() for character in word)]


def _samples(file: Path) -> Float32:
    with closing(AudioTrack(file)) as track:
        return np.concatenate([block.samples for block in track.blocks()])


def _windows(samples: Float32) -> list[Float32]:
    segmenter = SpeechSegmenter(SileroVAD(), VadOptions())
    return [window.samples for window in [*segmenter.add(Block(0, samples)), *segmenter.end()]]


def _languages(transcripts: Sequence[Transcript]) -> dict[str, int]:
    """Returns the number of windows in each language."""
    names = [transcript.language for transcript in transcripts]
    return {name: names.count(name) for name in sorted(set(names), key=lambda name: -names.count(name))}
