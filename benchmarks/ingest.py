"""`penstock bench ingest`: the whole pipeline beside the loops it replaces, over the same images in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from benchmarks.baseline_rounds import baseline_loops, own_collections
from benchmarks.baselines import BATCH
from benchmarks.components import Component
from benchmarks.host_info import machine_facts
from benchmarks.load_generator import LoadGenerator
from benchmarks.long_media import MINUTES, LongPlan, bench_long
from benchmarks.memory import CONSTANT_MB, MemoryWatch, bound_mb, peak_by_component, pss_mb
from benchmarks.stack import LocalStack, running_stack, stack_settings, temporary_folder
from benchmarks.statistics import growth, median, quantile
from benchmarks.store_ceiling import StoreCeiling
from benchmarks.synthetic_images import SyntheticImages, small_image
from benchmarks.transcription import CLIPS, bench_transcription
from penstock.assembly import open_store
from penstock.broker.producer import MessageProducer
from penstock.encoders.profiles import JOINT_IMAGE, SpeechSpec, load_profile, profile_names
from penstock.records import Modality
from penstock.runtime_tuning import relax_gc

Reporter: TypeAlias = Callable[[str], None]

TRANSPORT_PROFILE = "null:512"
TRANSPORT_BYTES = 1024
MEMORY_BYTES = 100_000
_MEMORY_FROM, _MEMORY_TO = 2_000, 20_000
_MEMORY_PER_CALL = 500  # 50 MB of payloads are made, sent and let go at a time
_IDLE_S = 5.0
_WARM_UP_S = 2.0  # of events at the expected rate, at least one batch


class IngestMeasure(StrEnum):
    """A measurement of `bench ingest`."""

    ROUNDS = "rounds"
    FRESHNESS = "freshness"
    TRANSPORT = "transport"
    MEMORY = "memory"
    TRANSCRIPTION = "transcription"
    LONG = "long"


_WITHOUT_IMAGES = frozenset({IngestMeasure.TRANSCRIPTION, IngestMeasure.LONG})


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """The measurements of one run, and their sizes.

    Attributes:
        model: `reference`, `null`, any profile, or an architecture of open_clip, which then has random weights.
        measures: which figures.
        images: images of a round; (b), which is slow, gets a third of them.
        rounds: of (a) to (d), interleaved; medians are reported.
        freshness_s: how long events are sent at half of (d)'s rate.
        transport_events: events of a round of the transport.
        clips: audio clips of a round of transcription.
        long_minutes: that the recording lasts beside which clips stream.
        store_uri: a Milvus to use instead of the embedded Lite; its collections are written to.
        precision: of all encoders.
        encoder_threads: CPU threads of the encoders, in the loops as in the pipeline; 0: every core.
    """

    model: str
    measures: frozenset[IngestMeasure]
    images: int = 512
    rounds: int = 5
    freshness_s: float = 30.0
    transport_events: int = 10_000
    clips: int = CLIPS
    long_minutes: float = MINUTES
    store_uri: str | None = None
    precision: str = "auto"
    encoder_threads: int = 0

    @property
    def profile(self) -> str:
        if self.model in profile_names() or ":" in self.model:
            return self.model
        return TRANSPORT_PROFILE if self.model == "null" else f"random:{self.model}"


def bench_ingest(plan: IngestPlan, say: Reporter) -> dict[str, Any]:
    """Runs the measurements of the plan, with one stack a profile.

    Returns:
        plain JSON values; a figure that was not requested is None.

    Raises:
        PenstockError: something did not start, or events did not become searchable.
    """
    relax_gc()  # all that is sent is kept until it is acknowledged
    figures: dict[str, Any] = {}
    facts = machine_facts(precision=plan.precision)
    speech_profile = plan.profile if isinstance(load_profile(plan.profile).speech, SpeechSpec) else "reference"
    if IngestMeasure.TRANSCRIPTION in plan.measures:
        figures |= bench_transcription(
            speech_profile, clips=plan.clips, rounds=plan.rounds, threads=plan.encoder_threads, report=say
        )
    if IngestMeasure.LONG in plan.measures:
        figures |= bench_long(LongPlan(speech_profile, plan.long_minutes, threads=plan.encoder_threads), say)
    of_model = plan.measures & {IngestMeasure.ROUNDS, IngestMeasure.FRESHNESS}
    of_null = plan.measures & {IngestMeasure.TRANSPORT, IngestMeasure.MEMORY}
    if plan.profile == TRANSPORT_PROFILE:
        of_model, of_null = plan.measures - _WITHOUT_IMAGES, frozenset()
    for profile, measures in ((plan.profile, of_model), (TRANSPORT_PROFILE, of_null)):
        if measures:
            with _measured_stack(plan, profile, say) as bench:
                # Figures that both stacks have, such as their peaks, are those of the plan's own model.
                figures = dict(bench.measure_all(measures)) | figures
    return {
        "model": plan.model,
        "profile": plan.profile,
        "machine": facts,
        **dict.fromkeys(_FIGURES),
        **figures,
    }


_FIGURES = (
    "bare_per_s",
    "naive_per_s",
    "naive_batched_per_s",
    "pipeline_per_s",
    "efficiency",
    "transport_per_s",
    "store_alone_per_s",
    "hearing_across_per_s",
    "hearing_by_file_per_s",
    "hearing_ratio",
    "clips_alone_p95_s",
    "clips_beside_p95_s",
    "clips_ratio",
    "long_took_s",
    "long_peak_mb",
    "freshness_p50_s",
    "freshness_p95_s",
    "freshness_p99_s",
    "peak_rss_mb",
    "peak_by_part_mb",
    "memory_growth",
    "memory_constant_mb",
    "memory_bound_mb",
    "memory_within_bound",
)


@contextmanager
def _measured_stack(plan: IngestPlan, profile: str, say: Reporter) -> Iterator[_Bench]:
    """A stack of the profile, warm, and everything that measures it; gone afterwards."""
    with temporary_folder() as folder:
        settings = stack_settings(
            folder,
            profile=profile,
            store_uri=plan.store_uri,
            ingest={"modalities": (Modality.IMAGE,), "encoder_threads": plan.encoder_threads},
        ).model_copy(update={"precision": plan.precision})
        say(f"starting a whole Penstock with profile {profile} in {folder}")
        with running_stack(settings) as stack:
            producer, store = MessageProducer(stack.settings.kafka), open_store(stack.settings.store)
            try:
                stream = LoadGenerator(producer, store, settings.kafka.image_topic, settings.tenant)
                yield _Bench(plan, stack, stream, say)
            finally:
                producer.close(10.0)
                store.close()


@dataclass(slots=True)
class _Bench:
    """One stack and what was measured of it so far."""

    plan: IngestPlan
    stack: LocalStack
    stream: LoadGenerator
    report: Reporter
    _next: int = 0
    _per_s: float = 0.0
    _peaks_mb: Mapping[Component, float] = field(default_factory=dict)
    _images: SyntheticImages = field(default_factory=SyntheticImages)

    def measure_all(self, measures: frozenset[IngestMeasure]) -> Mapping[str, Any]:
        """The figures of some measures and, where memory was looked at, the most that it came to over all of them."""
        figures: dict[str, Any] = {}
        for measure in IngestMeasure:
            if measure in measures:
                figures |= self._measure(measure)
        if self._peaks_mb:
            figures["peak_rss_mb"] = self._peaks_mb[Component.INGEST]
            figures["peak_by_part_mb"] = {str(part): megabytes for part, megabytes in self._peaks_mb.items()}
        return figures

    def _measure(self, measure: IngestMeasure) -> Mapping[str, Any]:
        by_name: Mapping[IngestMeasure, Callable[[], Mapping[str, Any]]] = {
            IngestMeasure.ROUNDS: self._rounds,
            IngestMeasure.FRESHNESS: self._freshness,
            IngestMeasure.TRANSPORT: self._transport,
            IngestMeasure.MEMORY: self._memory,
        }
        return by_name[measure]()

    # --- (a) to (d) -------------------------------------------------------------------------------------------------

    def _rounds(self) -> Mapping[str, Any]:
        """Speed in rounds, then the memory of (d).

        A look at memory costs 70 to 100 ms of CPU time, of two cores that (d) has to itself otherwise, so that no timed
        round is looked at while its clock runs. There is a look right after each, and one more (d) round that is not
        timed, with looks every half a second.
        """
        self._warm_up()
        idle = self.stack.idle_cores(_IDLE_S)
        rates: dict[str, list[float]] = {name: [] for name in ("bare", "naive", "naive_batched", "pipeline")}
        with baseline_loops(self.stack.settings, threads=self.plan.encoder_threads) as loops:
            for number in range(1, self.plan.rounds + 1):
                for name, per_s in loops.round(self._next_payloads(self.plan.images)).items():
                    rates[name].append(per_s)
                rates["pipeline"].append(self._pipeline())
                self._sample_memory()
                latest = ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items())
                self.report(f"round {number} of {self.plan.rounds}, images/s: {latest}")
        medians = {f"{name}_per_s": median(values) for name, values in rates.items()}
        self._per_s = medians["pipeline_per_s"]
        with self._watched(interval_s=0.5):
            self._pipeline()
        return {
            **medians,
            "efficiency": medians["pipeline_per_s"] / medians["bare_per_s"],
            "rounds": rates,
            "idle_cores": idle,
            "memory_mb": self._sample_memory(),
        }

    def _pipeline(self) -> float:
        """(d), images per second: from the first message produced to the last asset searchable."""
        pictures = self._next_payloads(self.plan.images)
        return len(pictures) / self.stream.send_all(pictures, first=self._reserve_numbers(len(pictures)))

    def _warm_up(self) -> None:
        """Until a second batch is not slower than the first: models, code and connections are warm then."""
        before = 0.0
        for _ in range(5):
            per_s = BATCH / self.stream.send_all(self._next_payloads(BATCH), first=self._reserve_numbers(BATCH))
            if per_s < before * 1.1:
                break
            before = per_s

    # --- freshness --------------------------------------------------------------------------------------------------

    def _freshness(self) -> Mapping[str, Any]:
        if not self._per_s:
            self._warm_up()
            self._per_s = self._pipeline()
        per_s = self._per_s / 2
        count = max(10, round(self.plan.freshness_s * per_s))
        self.report(f"freshness: {count} events at {per_s:.1f}/s")
        first = self._reserve_numbers(count)
        with self._watched(interval_s=2.0):
            seconds = self.stream.send_paced(self._images.image, first=first, count=count, per_s=per_s)
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return {
            **{f"freshness_{name}_s": quantile(seconds, share) for name, share in shares.items()},
            "freshness_events": count,
            "freshness_rate_per_s": per_s,
            "memory_mb": self._sample_memory(),
        }

    # --- the transport alone ----------------------------------------------------------------------------------------

    def _transport(self) -> Mapping[str, Any]:
        rates: list[float] = []
        alone: list[float] = []
        cpu_ms: list[Mapping[str, float]] = []
        with own_collections(self.stack.settings) as store:
            one_writer = StoreCeiling(store, load_profile(self.stack.settings.profile).space(JOINT_IMAGE).dim)
            for number in range(self.plan.rounds + 1):
                events = self.plan.transport_events if number else min(1_000, self.plan.transport_events)
                first = self._reserve_numbers(events)
                payloads = [small_image(first + offset, TRANSPORT_BYTES) for offset in range(events)]
                before, own_s = self.stack.cpu_s(), time.process_time()
                took_s = self.stream.send_all(payloads, first=first)
                after, own_s = self.stack.cpu_s(), time.process_time() - own_s
                alone_per_s = one_writer.per_s(events)
                if number == 0:
                    continue  # warm-up
                rates.append(events / took_s)
                alone.append(alone_per_s)
                spent = {str(part): (cpu_s - before[part]) / events * 1000 for part, cpu_s in after.items()}
                cpu_ms.append(spent | {"producer": own_s / events * 1000})
                self.report(
                    f"transport round {number} of {self.plan.rounds}: {rates[-1]:.0f} events/s, "
                    f"one writer and the store alone {alone_per_s:.0f}"
                )
        return {
            "transport_per_s": median(rates),
            "transport_rounds": rates,
            "store_alone_per_s": median(alone),
            "store_alone_rounds": alone,
            "transport_cpu_ms_per_event": {part: median([sample[part] for sample in cpu_ms]) for part in cpu_ms[0]},
            "transport_store": self.stream.store.capabilities.product,
        }

    # --- memory -----------------------------------------------------------------------------------------------------

    def _memory(self) -> Mapping[str, Any]:
        """Whether memory grows with the number of events, at payloads of 100 kB, and keeps within its bound."""
        sent = 0
        with self._watched(interval_s=1.0, progress=lambda: sent) as watch:
            while sent < _MEMORY_TO:
                first = self._reserve_numbers(_MEMORY_PER_CALL)
                payloads = [small_image(first + offset, MEMORY_BYTES) for offset in range(_MEMORY_PER_CALL)]
                self.stream.send_all(payloads, first=first)
                sent += _MEMORY_PER_CALL
                if sent % 2_000 == 0:
                    self.report(f"memory: {sent} events, ingest plane {watch.samples[-1][1][Component.INGEST]:.0f} MB")
        series = [(events, by_part[Component.INGEST]) for events, by_part in watch.samples]
        bound = bound_mb(self.stack.settings.ingest)
        return {
            "memory_growth": growth(series, _MEMORY_FROM, _MEMORY_TO),
            "memory_series_mb": series,
            "memory_peak_mb": {str(part): megabytes for part, megabytes in watch.peaks_mb().items()},
            "memory_budget_mb": self.stack.settings.ingest.max_in_flight_bytes / 1e6,
            "memory_constant_mb": CONSTANT_MB,
            "memory_bound_mb": bound,
            "memory_within_bound": watch.peak_mb(Component.INGEST) <= bound,
        }

    def _sample_memory(self) -> dict[str, float]:
        """Memory by part as it is now, MB."""
        now = pss_mb(self.stack.processes())
        self._peaks_mb = peak_by_component([self._peaks_mb, now])
        return {str(part): megabytes for part, megabytes in now.items()}

    @contextmanager
    def _watched(self, *, interval_s: float, progress: Callable[[], int] = lambda: 0) -> Iterator[MemoryWatch]:
        """Samples memory during its block, and keeps the peaks."""
        with MemoryWatch(self.stack, interval_s, progress) as watch:
            yield watch
        self._peaks_mb = peak_by_component([self._peaks_mb, watch.peaks_mb()])

    # --- numbers ----------------------------------------------------------------------------------------------------

    def _next_payloads(self, count: int) -> list[bytes]:
        return list(self._images.images(self._next, count))

    def _reserve_numbers(self, count: int) -> int:
        first, self._next = self._next, self._next + count
        return first
