"""Measures every encoder of a profile alone, for `penstock bench encode`.

It needs no Kafka, Milvus or Ray, so that it runs on a bare machine with a GPU and this package.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from benchmarks.flops import device_facts, device_peak, flops
from benchmarks.host_info import machine_facts
from benchmarks.statistics import median
from benchmarks.whisper_flops import CountedWhisper, computes_in, whisper_size
from penstock.cpus import usable_cpus
from penstock.encoders.base import Encoder
from penstock.encoders.load import load_encoder, load_transcriber
from penstock.encoders.precision import Precision, choose_device, choose_precision
from penstock.encoders.profiles import (
    JOINT_IMAGE,
    SPEECH,
    ClipSpec,
    NullSpec,
    Profile,
    SentenceSpec,
    SpeechSpec,
    load_profile,
)
from penstock.encoders.runtimes import precision_of, runtime_of
from penstock.encoders.weights import OnDisk, locate
from penstock.encoders.whisper import WhisperTranscriber
from penstock.records import EncoderInput, Float32

Reporter: TypeAlias = Callable[[str], None]
T = TypeVar("T")

_MIN_CALLS = 3
_SEED = 20_24
_WINDOW_S = 30
_NO_MODEL = "there is no model that computes"
# CTranslate2's names of the number formats whose products torch can measure, and the other way round.
_FLOATS: Mapping[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_NAMES: Mapping[Precision, str] = {precision: name for name, precision in _FLOATS.items()}
_WORDS = 60  # of two tokens: a passage of 120, where TextSettings cuts at 200


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """The options of a measurement.

    Attributes:
        profile: whose encoders are measured.
        batches: items of one call. An encoder may cut them into smaller passes, by its own setting.
        precisions: `auto`, fp32, bf16, fp16.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; 0: every core.
        seconds: duration of each measurement, of at least three calls.
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
        precision: in which it computes. With `auto` the transcriber's may be another, as CTranslate2 has its own.
        gflop_per_item: as counted, or calculated for the transcriber with its retries; 0 where there is no model.
        share_of_peak: of the rate of a large matrix product on this device in this precision.
        no_share: the reason why there is no share of the peak, a line; None where there is one.
        media_hours_per_hour: for the transcriber, whose items are windows of 30 s; None for the others.
    """

    role: str
    model: str
    precision: str
    batch: int
    items_per_s: float
    batch_ms: float
    gflop_per_item: float
    share_of_peak: float | None
    no_share: str | None = None
    media_hours_per_hour: float | None = None


@dataclass(slots=True)
class _Peaks:
    """The peak of the device in FLOP/s, measured once for each precision that an encoder computes in."""

    device: str
    measured: dict[Precision, float] = field(default_factory=dict)

    def of(self, precision: Precision) -> float:
        """Returns the peak, which is measured if it has not been."""
        if precision not in self.measured:
            self.measured[precision] = device_peak(self.device, precision)
        return self.measured[precision]


def bench_encode(plan: EncodePlan, report: Reporter) -> dict[str, Any]:
    """Measures each encoder of the profile at each precision and batch size.

    Returns:
        plain JSON values: profile, machine, peak by precision in GFLOP/s, rows, and a line for each measurement
        that was left out.

    Raises:
        ConfigError, UnavailableError: weights or the device are not available.
    """
    profile = load_profile(plan.profile)
    facts = machine_facts(device=plan.device)
    device = choose_device(plan.device)
    requested: dict[Precision, str] = {}
    for name in plan.precisions:
        requested.setdefault(choose_precision(name, device), name)
    peaks = _Peaks(device)
    rows: list[EncodeRow] = []
    left_out: list[str] = []
    for precision, name in requested.items():
        for result in _all_rows(profile, precision, name, peaks, plan):
            if isinstance(result, str):
                left_out.append(result)
                report(result)
            else:
                rows.append(result)
                report(_line(result))
    return {
        "profile": plan.profile,
        "machine": facts | device_facts(device),
        "peak_gflop_per_s": {precision: peak / 1e9 for precision, peak in peaks.measured.items()},
        "rows": [asdict(row) for row in rows],
        "left_out": left_out,
    }


def _line(row: EncodeRow) -> str:
    rate = f"{row.items_per_s:.1f} items/s"
    if row.media_hours_per_hour is not None:
        rate = f"{row.media_hours_per_hour:.0f} hours of audio an hour"
    return f"{row.role} {row.precision} batch {row.batch}: {rate}"


def _all_rows(
    profile: Profile, precision: Precision, requested: str, peaks: _Peaks, plan: EncodePlan
) -> Iterator[EncodeRow | str]:
    """Yields the rows of every encoder and of the transcriber, and a line for what cannot be measured here."""
    threads = plan.threads or usable_cpus()
    for role in profile.roles:
        options: dict[str, Any] = {"device": peaks.device, "cache_size": 0, "threads": threads}
        model = profile.model(role)
        encoder = load_encoder(role, profile, precision=requested, **options)
        # Operations are counted in torch, which has the same ones.
        counted = encoder
        if runtime_of(model, requested, peaks.device) == "numpy":
            counted = load_encoder(role, in_torch(profile), precision="fp32", **options)
        work = float(flops(counted, synthetic_input(role, profile, 1, 0))) if not isinstance(model, NullSpec) else 0.0
        yield from _rows(encoder, profile, precision_of(model, requested, peaks.device), peaks, plan, work=work)
    if not isinstance(profile.speech, SpeechSpec):
        return
    if requested != "auto" and not computes_in(_NAMES[precision], peaks.device):
        yield f"{SPEECH} {precision}: left out, as CTranslate2 does not compute in it on {peaks.device} here"
        return
    yield from _speech_rows(profile, profile.speech, requested, peaks, plan)


def in_torch(profile: Profile) -> Profile:
    """Returns a profile whose encoders are computed in torch."""
    parts = {
        name: replace(model, runtime="torch")
        for name, model in (("joint", profile.joint), ("passage", profile.passage))
        if isinstance(model, ClipSpec | SentenceSpec)
    }
    return replace(profile, **parts)  # type: ignore[arg-type]


def _rows(
    encoder: Encoder, profile: Profile, precision: Precision, peaks: _Peaks, plan: EncodePlan, *, work: float
) -> Iterator[EncodeRow]:
    """Yields the rows of an encoder, whose operations for one item are `work`."""
    model = profile.model(encoder.name)
    computes = not isinstance(model, NullSpec)
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
            share_of_peak=batch * work / took_s / peaks.of(precision) if computes else None,
            no_share=None if computes else _NO_MODEL,
        )


def _speech_rows(
    profile: Profile, model: SpeechSpec, precision: str, peaks: _Peaks, plan: EncodePlan
) -> Iterator[EncodeRow]:
    """Yields the rows of the transcriber, on windows of 30 s that are full of speech.

    Operations are counted in the measured calls themselves, as they depend on the transcripts and on the retries.
    """
    transcriber = cast(
        WhisperTranscriber,
        load_transcriber(profile, precision=precision, device=peaks.device, threads=plan.threads or usable_cpus()),
    )
    computed_in = str(transcriber.model.model.compute_type)
    counted, no_share = _counted(transcriber, model)
    floats = _FLOATS.get(computed_in)
    if floats is None:
        no_share = f"the peak is measured with products of floats, and it computes in {computed_in}"
    for batch in plan.batches:
        calls: list[int] = []
        if counted is not None:
            counted.flops = 0
        took_s = _median_s(partial(speech_windows, batch), partial(_transcribe, transcriber, calls), plan.seconds)
        work = counted.flops / sum(calls) if counted is not None else 0.0
        yield EncodeRow(
            role=SPEECH,
            model=model.name,
            precision=floats or computed_in,
            batch=batch,
            items_per_s=batch / took_s,
            batch_ms=took_s * 1000,
            gflop_per_item=work / 1e9,
            share_of_peak=None if no_share or floats is None else batch * work / took_s / peaks.of(floats),
            no_share=no_share,
            media_hours_per_hour=batch * _WINDOW_S / took_s,
        )


def _counted(transcriber: WhisperTranscriber, model: SpeechSpec) -> tuple[CountedWhisper | None, str | None]:
    """Counts the transcriber's operations from here. Returns the counter, or the reason why there is none."""
    try:
        size = whisper_size(locate(cast(OnDisk, model.source), model.name).weights)
    except ValueError as exc:
        return None, f"its operations cannot be calculated: {exc}"
    counted = CountedWhisper(transcriber.model.model, size)
    transcriber.model.model = counted
    return counted, None


def _transcribe(transcriber: WhisperTranscriber, calls: list[int], windows: Sequence[Float32]) -> None:
    """Transcribes windows, and notes their number."""
    calls.append(len(windows))
    transcriber.transcribe(windows)


def speech_windows(count: int, seed: int) -> list[Float32]:
    """Returns windows of 30 s of shipped sentences, in another order each: float32[480000] at 16 kHz.

    No sentence is repeated before all have occurred: the transcriber rejects repetitive text, and retries twice.
    """
    from benchmarks.transcription import sample_speech  # PyAV may be missing where no speech is measured
    from penstock.media.av.audio import RATE_HZ

    spoken = sample_speech()
    samples, shortest = _WINDOW_S * RATE_HZ, min(map(len, spoken))
    random = np.random.default_rng([_SEED, seed])
    windows = []
    for _ in range(count):
        order = np.resize(random.permutation(len(spoken)), -(-samples // shortest))
        windows.append(np.concatenate([spoken[number] for number in order])[:samples])
    return windows


def _call_s(encoder: Encoder, profile: Profile, batch: int, seconds: float) -> float:
    """Returns the seconds of the median call, after a warm-up."""
    return _median_s(partial(synthetic_input, encoder.name, profile, batch), encoder.encode, seconds)


def _median_s(make: Callable[[int], T], call: Callable[[T], object], seconds: float) -> float:
    """Returns the seconds of the median call, after a warm-up. Each input is made before, from a number of its own."""
    call(make(0))
    elapsed_s: list[float] = []
    began_s = time.perf_counter()
    while len(elapsed_s) < _MIN_CALLS or time.perf_counter() - began_s < seconds:
        argument = make(len(elapsed_s) + 1)
        start_s = time.perf_counter()
        call(argument)
        elapsed_s.append(time.perf_counter() - start_s)
    return median(elapsed_s)


def synthetic_input(role: str, profile: Profile, items: int, seed: int) -> EncoderInput:
    """Returns items that no cache has: noise for an image encoder, words of a passage's number for a text encoder."""
    random = np.random.default_rng([_SEED, seed])
    keys = tuple(f"{seed}-{number}" for number in range(items))
    if role == JOINT_IMAGE:
        size_px = profile.image.size_px
        pixels = random.integers(0, 256, size=(items, size_px, size_px, 3), dtype=np.uint8)
        return EncoderInput(role, keys, pixels=pixels)
    texts = tuple(" ".join(f"river{number}" for number in random.integers(10, 99, _WORDS)) for _ in range(items))
    return EncoderInput(role, keys, texts=texts)
