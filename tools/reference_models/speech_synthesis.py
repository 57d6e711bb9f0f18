"""Synthesises speech with espeak-ng, with the time of every word, for the reference speech model and for tests.

The library and its voices come with PyPI's `espeakng-loader`; they are called through espeak-ng's C interface
(github.com/espeak-ng/espeak-ng, src/include/espeak-ng/speak_lib.h), which reports when each word begins.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from penstock.errors import ConfigError
from penstock.records import Float32

RATE_HZ = 16_000
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_END, _WORD, _PHONEME = 0, 1, 7  # espeak_EVENT_TYPE
_PHONEME_EVENTS = 1  # espeakINITIALIZE_PHONEME_EVENTS
_HALF_WIDTH = 24  # input samples on each side of the resampling filter
_library_lock = threading.Lock()  # the library has one state for the whole process


@dataclass(frozen=True, slots=True)
class Word:
    """A word as written in the text, or a phoneme, and its place in the audio, seconds."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """A synthesised text.

    Attributes:
        samples: float32[n] at 16 kHz, mono, within -1…1.
        words: in order.
        phonemes: in order, pauses among them, by espeak-ng's names.
    """

    samples: Float32
    words: Sequence[Word]
    phonemes: Sequence[Word]

    @property
    def duration_s(self) -> float:
        """Returns the length of the audio."""
        return len(self.samples) / RATE_HZ


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class SpeechSynthesizer:
    """A voice of espeak-ng.

    Args:
        voice: its name: `en-us`, `en`, `en-us+f3`.
        words_per_minute: espeak-ng's default is 175.
        pitch: 0 to 99.

    Raises:
        ConfigError: espeakng-loader is not installed, or there is no such voice.
    """

    def __init__(self, voice: str = "en-us", *, words_per_minute: int = 160, pitch: int = 50) -> None:
        self._library, self._rate_hz = _loaded()
        self._voice, self._words_per_minute, self._pitch = voice, words_per_minute, pitch
        self._select_voice()

    def synthesize(self, text: str) -> Utterance:
        """Returns the speech of a text.

        espeak-ng draws random numbers as it speaks: only the same texts, in the same order from the start of the
        process, give the same audio in each run.
        """
        blocks: list[Float32] = []
        words: list[tuple[int, float]] = []  # index of the first letter in the text, and start in seconds
        phonemes: list[tuple[str, float]] = []

        def take(samples: Any, count: int, events: Any) -> int:
            if count > 0:
                blocks.append(np.ctypeslib.as_array(samples, (count,)).astype(np.float32) / np.float32(32_768))
            number = 0
            while events[number].type != _END:
                event = events[number]
                begin_s = event.audio_position / 1000
                if event.type == _WORD:
                    words.append((event.text_position - 1, begin_s))
                elif event.type == _PHONEME:
                    phonemes.append((event.id.string.decode(), begin_s))
                number += 1
            return 0

        callback = _CALLBACK(take)
        data = text.encode()
        with _library_lock:
            self._select_voice()
            self._library.espeak_SetSynthCallback(callback)
            self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
            self._library.espeak_Synchronize()
        samples = _resampled(np.concatenate(blocks), self._rate_hz)
        duration_s = len(samples) / RATE_HZ
        return Utterance(samples, _words(text, words, duration_s), _spans(phonemes, duration_s))

    def _select_voice(self) -> None:
        if self._library.espeak_SetVoiceByName(self._voice.encode()) != 0:
            raise ConfigError(f"espeak-ng has no voice {self._voice!r}")
        self._library.espeak_SetParameter(_RATE, self._words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, self._pitch, 0)


def _words(text: str, begins: Sequence[tuple[int, float]], end_s: float) -> list[Word]:
    """Returns every word of the text with its time.

    espeak-ng speaks some pairs as one ("in the", "of the") and reports only their first word: the words of such a group
    share its time, in proportion to their letters.
    """
    words: list[Word] = []
    letters = [(match.start(), match[0]) for match in re.finditer(r"[\w'-]+", text)]
    edges = [*begins, (len(text), end_s)]
    for (first, start_s), (behind, last_s) in itertools.pairwise(edges):
        group = [word for index, word in letters if first <= index < behind]
        spelled = list(itertools.accumulate(map(len, group), initial=0))
        bounds_s = [start_s + (last_s - start_s) * count / spelled[-1] for count in spelled[:-1]] + [last_s]
        words += map(Word, group, bounds_s, bounds_s[1:])
    return words


def _spans(begins: Sequence[tuple[str, float]], end_s: float) -> list[Word]:
    """Returns phonemes with their times. Each lasts until the next one begins."""
    ends_s = [*(begin_s for _, begin_s in begins[1:]), end_s]
    return [Word(text, begin_s, last_s) for (text, begin_s), last_s in zip(begins, ends_s, strict=True)]


@cache
def _loaded() -> tuple[Any, int]:
    """Returns the library, initialised once, and its sample rate in Hz."""
    try:
        loader: Any = importlib.import_module("espeakng_loader")
    except ImportError as exc:
        raise ConfigError("speech needs espeakng-loader: uv pip install espeakng-loader") from exc
    library = ctypes.CDLL(loader.get_library_path())
    with _library_lock:
        rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, str(loader.get_data_path()).encode(), _PHONEME_EVENTS)
    if rate_hz <= 0:
        raise ConfigError(f"espeak-ng did not start with the voices in {loader.get_data_path()}")
    return library, int(rate_hz)


def _resampled(samples: Float32, rate_hz: int) -> Float32:
    """Resamples to 16 kHz, by a windowed sinc with its cutoff at the lower Nyquist rate.

    Smith, Digital Audio Resampling, 2002.
    """
    count = len(samples) * RATE_HZ // rate_hz
    weights = _filters(rate_hz)
    first = np.arange(count) * rate_hz // RATE_HZ  # the input sample at or before each output sample
    padded = np.pad(samples, _HALF_WIDTH)
    resampled = np.zeros(count, np.float32)
    for tap in range(2 * _HALF_WIDTH):
        resampled += padded[first + tap + 1] * np.resize(weights[tap], count)
    return np.clip(resampled, -1.0, 1.0)


@cache
def _filters(rate_hz: int) -> Float32:
    """Returns float32[taps, phases]. The positions of output samples between input samples repeat with that period."""
    phases = RATE_HZ // math.gcd(rate_hz, RATE_HZ)
    between = np.arange(phases) * rate_hz % RATE_HZ / RATE_HZ
    distance = np.arange(1 - _HALF_WIDTH, _HALF_WIDTH + 1)[:, None] - between
    cutoff = min(1.0, RATE_HZ / rate_hz)
    window = np.cos(np.pi * distance / (2 * _HALF_WIDTH)) ** 2
    filters: Float32 = (cutoff * np.sinc(cutoff * distance) * window).astype(np.float32)
    return filters
