"""`penstock bench encode`: every encoder of a profile alone, without Kafka, Milvus or Ray.

So it runs on a bare machine with a GPU and this package, and is the script for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from penstock.bench.machine import machine_facts
from penstock.bench.statistics import median
from penstock.encoders.base import Encoder
from penstock.encoders.load import load_encoder, load_transcriber
from penstock.encoders.measure import device_facts, device_peak, flops
from penstock.encoders.precision import Precision, choose_device, choose_precision
from penstock.encoders.profiles import JOINT_IMAGE, SPEECH, NullModel, Profile, SpeechModel, load_profile
from penstock.records import EncoderInput, Float32

Say: TypeAlias = Callable[[str], None]
T = TypeVar("T")

_LEAST_CALLS = 3
_SEED = 20_24
_WINDOW_S = 30
_WORDS = 60  # of two tokens: a passage of 120, where TextSettings cuts at 200


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """What to measure.

    Attributes:
        profile: its encoders.
        batches: items handed over at once. An encoder may cut them into smaller passes, by its own setting.
        precisions: `auto`, fp32, bf16, fp16.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; 0: every core.
        seconds: how long each is measured, at least three calls.
    """

    profile: str
    batches: Sequence[int] = (1, 8, 32, 128)
    precisions: Sequence[str] = ("auto",)
    device: str = "auto"
    threads: int = 0
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class EncodeRow:
    """One line of the table.

    Attributes:
        items_per_s: at the median of the calls.
        batch_ms: the median call.
        gflop_per_item: as counted; 0 for a null encoder.
        share_of_peak: of what a large matrix product reaches on this device in this precision; None for a null encoder.
        media_hours_per_hour: of the transcriber, whose items are windows of 30 s; None for the others.
    """

    role: str
    model: str
    precision: str
    batch: int
    items_per_s: float
    batch_ms: float
    gflop_per_item: float
    share_of_peak: float | None
    media_hours_per_hour: float | None = None


def bench_encode(plan: EncodePlan, say: Say) -> dict[str, Any]:
    """Measures each encoder of the profile at each precision and batch size.

    Returns:
        plain JSON values: profile, machine, peak by precision in GFLOP/s, rows.

    Raises:
        ConfigError, UnavailableError: weights that are not to be had, a device that is not there.
    """
    profile = load_profile(plan.profile)
    facts = machine_facts(device=plan.device)
    device = choose_device(plan.device)
    precisions = list(dict.fromkeys(choose_precision(each, device) for each in plan.precisions))
    rows: list[EncodeRow] = []
    peaks: dict[str, float] = {}
    for precision in precisions:
        for role in profile.roles:
            encoder = load_encoder(
                role,
                profile,
                precision=precision,
                device=device,
                cache_size=0,
                threads=plan.threads or os.cpu_count(),
            )
            if precision not in peaks and not isinstance(profile.model(role), NullModel):
                peaks[precision] = device_peak(device, precision)
            for row in _rows(encoder, profile, precision, peaks.get(precision), plan):
                say(f"{row.role} {row.precision} batch {row.batch}: {row.items_per_s:.1f} items/s")
                rows.append(row)
        if isinstance(profile.speech, SpeechModel):
            for row in _speech_rows(profile, profile.speech.name, precision, device, plan):
                hours = f"{row.media_hours_per_hour:.0f} hours of sound an hour"
                say(f"{row.role} {row.precision} batch {row.batch}: {hours}")
                rows.append(row)
    return {
        "profile": plan.profile,
        "machine": facts | device_facts(device),
        "peak_gflop_per_s": {precision: peak / 1e9 for precision, peak in peaks.items()},
        "rows": [asdict(row) for row in rows],
    }


def _rows(
    encoder: Encoder, profile: Profile, precision: Precision, peak: float | None, plan: EncodePlan
) -> Iterator[EncodeRow]:
    model = profile.model(encoder.name)
    work = 0.0 if isinstance(model, NullModel) else float(flops(encoder, some_input(encoder.name, profile, 1, 0)))
    for batch in plan.batches:
        took_s = _call_s(encoder, profile, batch, plan.seconds)
        yield EncodeRow(
            role=encoder.name,
            model=cast(str, getattr(model, "name", encoder.name)),
            precision=precision,
            batch=batch,
            items_per_s=batch / took_s,
            batch_ms=took_s * 1000,
            gflop_per_item=work / 1e9,
            share_of_peak=batch * work / took_s / peak if peak else None,
        )


def _speech_rows(
    profile: Profile, model: str, precision: Precision, device: str, plan: EncodePlan
) -> Iterator[EncodeRow]:
    """Of the transcriber, on windows of 30 s in which somebody speaks all the time."""
    transcriber = load_transcriber(profile, precision=precision, device=device, threads=plan.threads or os.cpu_count())
    for batch in plan.batches:
        took_s = _median_s(partial(spoken_windows, batch), transcriber.transcribe, plan.seconds)
        yield EncodeRow(
            role=SPEECH,
            model=model,
            precision=precision,
            batch=batch,
            items_per_s=batch / took_s,
            batch_ms=took_s * 1000,
            gflop_per_item=0.0,
            share_of_peak=None,
            media_hours_per_hour=batch * _WINDOW_S / took_s,
        )


def spoken_windows(count: int, seed: int) -> list[Float32]:
    """Windows of 30 s, of the sentences that ship with the package in another order each: float32[480000] at 16 kHz."""
    from penstock.bench.hearing import sample_speech  # PyAV may be missing where no speech is measured
    from penstock.media.sound import RATE_HZ

    spoken = sample_speech()
    random = np.random.default_rng([_SEED, seed])
    return [
        np.concatenate([spoken[number] for number in random.integers(0, len(spoken), 30)])[: _WINDOW_S * RATE_HZ]
        for _ in range(count)
    ]


def _call_s(encoder: Encoder, profile: Profile, batch: int, seconds: float) -> float:
    """Seconds of the median call, once warm."""
    return _median_s(partial(some_input, encoder.name, profile, batch), encoder.encode, seconds)


def _median_s(make: Callable[[int], T], call: Callable[[T], object], seconds: float) -> float:
    """Seconds of the median call, once warm. What it works on is made before, from another number each time."""
    call(make(0))
    took: list[float] = []
    began_s = time.perf_counter()
    while len(took) < _LEAST_CALLS or time.perf_counter() - began_s < seconds:
        made = make(len(took) + 1)
        once_s = time.perf_counter()
        call(made)
        took.append(time.perf_counter() - once_s)
    return median(took)


def some_input(role: str, profile: Profile, items: int, seed: int) -> EncoderInput:
    """Items that no cache knows: noise for an encoder of pictures, words of a passage's number for one of texts."""
    random = np.random.default_rng([_SEED, seed])
    keys = tuple(f"{seed}-{number}" for number in range(items))
    if role == JOINT_IMAGE:
        size_px = profile.image.size_px
        pixels = random.integers(0, 256, size=(items, size_px, size_px, 3), dtype=np.uint8)
        return EncoderInput(role, keys, pixels=pixels)
    texts = tuple(" ".join(f"river{number}" for number in random.integers(10, 99, _WORDS)) for _ in range(items))
    return EncoderInput(role, keys, texts=texts)
