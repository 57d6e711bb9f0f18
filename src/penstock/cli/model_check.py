"""Loads each model of a profile, runs it on a known input, and measures its speed, for `penstock models check`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from penstock.config import Settings
from penstock.encoders.base import Encoder
from penstock.encoders.load import load_encoder, load_transcriber
from penstock.encoders.load_image_text import load_image_to_text
from penstock.encoders.ocr.options import OcrOptions
from penstock.encoders.profiles import CAPTION, JOINT_IMAGE, OCR, PASSAGE_TEXT, SOUND_AUDIO, SPEECH, Profile
from penstock.encoders.rerank import load_scorer
from penstock.errors import PenstockError, first_line
from penstock.media.av.audio import AudioTrack
from penstock.records import EncoderInput, Float32, Modality, UInt8
from penstock.samples.timed_media import sample_timed_media

_TEXT = "A grey heron stands at the edge of the water and waits for a fish."
_RERANK = "rerank"
_ITEMS = 16  # as many as an encoder takes in one batch of texts on a CPU
_RATE_HZ = 16_000
_IMAGES = 4
_SPEECH_S = 28.0  # one window of a speech model, full


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The result for one role.

    Attributes:
        role: `passage.text`, `joint.image`, `joint.text`, `speech`…
        model: its name with its tag.
        works: it was loaded and gave a valid result.
        detail: why not, in one line; else what the result was.
        load_s: seconds to load it; None if that failed.
        rate: items a second, or seconds of audio a second; None if it does not work.
        unit: of the rate: `texts/s`, `images/s`, `windows/s` or `× real time`.
    """

    role: str
    model: str
    works: bool
    detail: str
    load_s: float | None = None
    rate: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class _Result:
    detail: str
    load_s: float
    rate: float
    unit: str


def check_models(profile: Profile, settings: Settings) -> Iterator[ModelCheck]:
    """Yields the result for each role of the profile. Weights of the hub are fetched if they are not there yet."""
    for role in profile.roles:
        yield _checked(role, profile.model(role).name, partial(_check_encoder, role, profile, settings))
    if profile.speech is not None:
        yield _checked(SPEECH, profile.speech.name, partial(_check_speech, profile, settings))
    for role, spec in ((OCR, profile.ocr), (CAPTION, profile.caption)):
        if spec is not None:
            yield _checked(role, spec.name, partial(_check_image_text, role, profile, settings))
    if profile.rerank is not None:
        yield _checked(_RERANK, profile.rerank.name, partial(_check_rerank, profile, settings))


def _checked(role: str, model: str, check: Callable[[], _Result]) -> ModelCheck:
    try:
        result = check()
    except PenstockError as exc:
        return ModelCheck(role, model, False, str(exc))
    except Exception as exc:  # a model from elsewhere fails in ways of its own, and the others are still to be checked
        return ModelCheck(role, model, False, f"{type(exc).__name__}: {first_line(exc)}")
    return ModelCheck(role, model, True, result.detail, result.load_s, result.rate, result.unit)


def _check_encoder(role: str, profile: Profile, settings: Settings) -> _Result:
    began_s = time.perf_counter()
    encoder = load_encoder(role, profile, precision=settings.precision, device=settings.device, cache_size=0)
    load_s = time.perf_counter() - began_s
    encode = partial(_encode, encoder, role, profile)
    encode(1)  # warm
    began_s = time.perf_counter()
    encode(_ITEMS)
    rate = _ITEMS / (time.perf_counter() - began_s)
    unit = {JOINT_IMAGE: "images/s", SOUND_AUDIO: "windows/s"}.get(role, "texts/s")
    return _Result(f"{encoder.space.dim} dimensions", load_s, rate, unit)


def _encode(encoder: Encoder, role: str, profile: Profile, items: int) -> None:
    """Encodes known items, and checks that each has a vector.

    Raises:
        ValueError: an item failed.
    """
    keys = tuple(str(number) for number in range(items))
    if role == JOINT_IMAGE:
        size_px = profile.image.size_px
        pixels = np.random.default_rng(0).integers(0, 256, (items, size_px, size_px, 3), dtype=np.uint8)
        batch = EncoderInput(role, keys, pixels=pixels)
    elif role == SOUND_AUDIO:
        assert profile.sound is not None
        shape = (items, profile.sound.window_ms * _RATE_HZ // 1000)
        waveforms = tuple(np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32))
        batch = EncoderInput(role, keys, waveforms=waveforms)
    else:
        batch = EncoderInput(role, keys, texts=tuple(f"{_TEXT} {number}" for number in range(items)))
    encoded = encoder.encode(batch)
    if encoded.failed:
        raise ValueError(f"it fails on a plain item: {encoded.failed[0][1]}")


def _check_speech(profile: Profile, settings: Settings) -> _Result:
    began_s = time.perf_counter()
    model = load_transcriber(
        profile, precision=settings.precision, device=settings.device, language=settings.speech.language
    )
    load_s = time.perf_counter() - began_s
    window = _speech()
    began_s = time.perf_counter()
    transcript = model.transcribe([window])[0]
    elapsed_s = time.perf_counter() - began_s
    if transcript.failed:
        raise ValueError(f"it fails on plain speech: {transcript.failed}")
    words = " ".join(segment.text for segment in transcript.segments).split()
    detail = f"{len(words)} words of {transcript.language}"
    return _Result(detail, load_s, len(window) / _RATE_HZ / elapsed_s, "× real time")


def _check_image_text(role: str, profile: Profile, settings: Settings) -> _Result:
    began_s = time.perf_counter()
    ocr = OcrOptions(settings.ocr.glance_px, settings.ocr.min_confidence, settings.ocr.max_image_s)
    model = load_image_to_text(role, profile, ocr=ocr, precision=settings.precision, device=settings.device)
    load_s = time.perf_counter() - began_s
    image = _written_image()
    model.texts([image])  # warm
    began_s = time.perf_counter()
    texts = model.texts([image] * _IMAGES)
    rate = _IMAGES / (time.perf_counter() - began_s)
    if texts[0].failed:
        raise ValueError(f"it fails on a plain image: {texts[0].failed}")
    return _Result(f"words in a sample: {texts[0].text!r}", load_s, rate, "images/s")


def _check_rerank(profile: Profile, settings: Settings) -> _Result:
    encoder = load_encoder(PASSAGE_TEXT, profile, precision=settings.precision, device=settings.device, cache_size=0)
    began_s = time.perf_counter()
    scorer = load_scorer(profile, encoder, precision=settings.precision, device=settings.device)
    load_s = time.perf_counter() - began_s
    if scorer is None:
        raise ValueError("the sentence encoder has no token vectors, which the scorer needs")
    scorer.score(_TEXT, [_TEXT])  # warm
    passages = [f"{_TEXT} {number}" for number in range(_ITEMS)]
    began_s = time.perf_counter()
    scores = scorer.score("which bird waits for a fish", passages)
    rate = _ITEMS / (time.perf_counter() - began_s)
    if not np.isfinite(scores.scores).all():
        raise ValueError("it gives a plain passage no score")
    return _Result(f"scores of {_ITEMS} passages", load_s, rate, "passages/s")


def _written_image() -> UInt8:
    """Returns uint8[120, 480, 3]: dark words on a light ground."""
    image = Image.new("RGB", (480, 120), "white")
    ImageDraw.Draw(image).text((20, 30), "PENSTOCK 42", "black", font_size=48)
    return np.asarray(image)


def _speech() -> Float32:
    """Returns the shipped clips one after the other, float32[n] at 16 kHz, to the length of a window."""
    clips = []
    for sample in sample_timed_media():
        if sample.modality is Modality.AUDIO:
            with closing(AudioTrack(sample.file)) as track:
                clips += [block.samples for block in track.blocks()]
    return np.concatenate(clips)[: round(_SPEECH_S * _RATE_HZ)]
