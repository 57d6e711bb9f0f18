"""The share of an event's CPU time that tracing takes: with it off, at a rate of sampling, and with every trace kept.

    python -m benchmarks.tracing                       # the null model, the smallest events there are
    python -m benchmarks.tracing --profile reference   # a short text with models

Two figures for each rate, of the same lane, steps and workers in this process, over a broker and a store in memory:

    by rounds   CPU time of an event in rounds with tracing, over that of the round without it just before or after;
                the median of all rounds. It says that nothing is forgotten, and holds the noise of the machine.
    by calls    CPU time of the calls that the lane and its workers make to trace an event, alone, and of the export of
                their spans, over the CPU time of an event with tracing off. Each is the least of its repetitions, as
                whatever else runs on the machine only adds to them.

Spans go to a collector in another process on loopback, whose CPU time is not counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from benchmarks.host_info import machine_facts
from benchmarks.local_ingest import LocalIngest
from penstock.broker.base import Message
from penstock.broker.traced_producer import TracedProducer
from penstock.config import Settings, TracingSettings, load_settings
from penstock.ingest.delivery import Delivery
from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing, export_traces, make_exporter
from penstock.observability.tracing import Tracing
from penstock.records import AssetRef, Assignment, Event, Inline, Modality, Position, Record

TOPIC = "media.text"
_BATCH = 32
_CALLS = ("fetch_and_decode", "encode", "encode", "write")  # to the workers, for a batch of texts
_CALLED = 800  # events of one repetition: less than a slice of the scheduler
_EXPORTED = 512  # spans of one request, as `SpanQueue` sends them under load
_ASSIGNMENT = Assignment(TOPIC, 0, 1)
_EVENT = Event(AssetRef("t", TOPIC, "k"), Position(TOPIC, 0, 0), Position(TOPIC, 0, 0), 0, Modality.TEXT, Inline(b"v"))
_FLUSH_S = 30.0
_RESOURCE = Resource.create({"service.name": "penstock", "penstock.process": "lane"})


class TracedEvents:
    """Rounds of events through one lane, which replace the same assets again and again.

    Args:
        settings: of the plane.
        events: of a round.
    """

    def __init__(self, settings: Settings, events: int) -> None:
        self._ingest = LocalIngest(settings)
        self._events = events
        self._settled = 0

    def cpu_us(self, traces: Tracing) -> float:
        """Returns the CPU time of an event in µs, from its receipt to its commit, with the export of its spans."""
        with tracing.using(traces):
            producer = TracedProducer(self._ingest.broker.producer())
            for number in range(self._events):
                text = f"Text {number} of round {self._settled}: boats in a harbour, and what they carry. " * 4
                producer.send(Message(TOPIC, f"{number}".encode(), text.encode(), _HEADERS)).result()
            traces.flush(_FLUSH_S)
            began_s = time.process_time()
            with self._ingest.running():
                self._settled += self._events
                self._ingest.await_settled(self._settled)
            traces.flush(_FLUSH_S)
            return (time.process_time() - began_s) / self._events * 1e6


_HEADERS = (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"penstock/bench"), ("ce_type", b"changed"))


class SpanList(SpanProcessor):
    """Keeps the spans that end.

    Attributes:
        spans: all so far.
    """

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keeps a span."""
        self.spans.append(span)


def calls_cpu_us(settings: TracingSettings, rate: float, repetitions: int) -> float:
    """Returns the CPU time in µs to trace an event: the calls of lane and workers, and the export of their spans.

    Every hundredth event is sampled at a rate of 0.01, and never more or fewer by chance.
    """
    records = [_record(number, sampled=number % round(1 / rate) == 0) for number in range(_CALLED)]
    kept = SpanList()
    traces = OpenTelemetryTracing(kept, sample_rate=0.0, resource=_RESOURCE)
    recorded_us = min(_recording_us(traces, records) for _ in range(repetitions))
    without_us = min(_recording_us(tracing.NO_TRACING, records) for _ in range(repetitions))
    spans_per_event = len(kept.spans) / repetitions / _CALLED
    exporter, batch = make_exporter(settings), kept.spans[-_EXPORTED:]
    exported_us = min(_export_us(exporter, batch) for _ in range(repetitions)) / len(batch)
    return recorded_us - without_us + spans_per_event * exported_us


def _recording_us(traces: Tracing, records: Sequence[Record]) -> float:
    with tracing.using(traces):
        return _receive_to_commit_us(traces, records)


def _receive_to_commit_us(traces: Tracing, records: Sequence[Record]) -> float:
    began_s = time.thread_time()
    for start in range(0, len(records), _BATCH):
        spans = [Delivery.receive(record, _ASSIGNMENT, _EVENT).span for record in records[start : start + _BATCH]]
        with traces.batch(TOPIC, spans):
            carriers = [traces.carrier() for _ in _CALLS]
        for name, carrier in zip(_CALLS, carriers, strict=True):
            with traces.span(name, parent=carrier, worker="worker-0"):
                pass
        for span in spans:
            span.end("indexed")
        with traces.commit(lambda _: True):
            pass
    return (time.thread_time() - began_s) / len(records) * 1e6


def _export_us(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> float:
    began_s = time.thread_time()
    exporter.export(spans)
    return (time.thread_time() - began_s) * 1e6


def _record(number: int, *, sampled: bool) -> Record:
    traceparent = f"00-{number + 1:032x}-{number + 1:016x}-{int(sampled):02x}"
    headers = (*_HEADERS, ("traceparent", traceparent.encode()))
    return Record(Position(TOPIC, 0, number), b"key", b"value", headers, 0)


def measure(
    settings: Settings, *, events: int, rounds: int, rates: tuple[float, ...], repetitions: int = 200
) -> Mapping[str, object]:
    """Returns the figures of each rate.

    Args:
        settings: with a collector.
        events: of a round.
        rounds: with and without tracing, for each rate.
        rates: of sampling.
        repetitions: of the calls alone.
    """
    traced = {rate: _traces(settings, rate) for rate in rates}
    lane = TracedEvents(settings, events)
    lane.cpu_us(tracing.NO_TRACING)  # warms up
    off_us: list[float] = []
    ratios: dict[float, list[float]] = {rate: [] for rate in rates}
    for number in range(rounds):
        for rate, traces in traced.items():
            with_us, without_us = _in_turn(lane, traces, without_first=number % 2 == 0)
            off_us.append(without_us)
            ratios[rate].append(with_us / without_us)
            print(f"round {number}, rate {rate:g}: {with_us:.0f} and {without_us:.0f} µs", file=sys.stderr, flush=True)
    event_us = min(off_us)
    by_calls = {rate: calls_cpu_us(settings.tracing, rate, repetitions) for rate in rates}
    return {
        "event_us": round(event_us, 1),
        "event_us_median": round(statistics.median(off_us), 1),
        "rates": {
            f"{rate:g}": {
                "by_rounds": round(statistics.median(ratios[rate]) - 1, 4),
                "by_rounds_quartiles": [round(value - 1, 4) for value in statistics.quantiles(ratios[rate])[::2]],
                "calls_us": round(by_calls[rate], 2),
                "by_calls": round(by_calls[rate] / event_us, 5),
            }
            for rate in rates
        },
        "rounds": rounds,
        "events": events,
        "profile": settings.profile,
    }


def _in_turn(lane: TracedEvents, traces: Tracing, *, without_first: bool) -> tuple[float, float]:
    if without_first:
        without_us = lane.cpu_us(tracing.NO_TRACING)
        return lane.cpu_us(traces), without_us
    with_us = lane.cpu_us(traces)
    return with_us, lane.cpu_us(tracing.NO_TRACING)


def _traces(settings: Settings, rate: float) -> OpenTelemetryTracing:
    return export_traces(settings.tracing.model_copy(update={"sample_rate": rate}), "lane")


@contextmanager
def collector() -> Iterator[str]:
    """Runs a collector in another process, and yields its address."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_collect, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def _collect(parent: Connection) -> None:
    from tests.otlp import collecting

    with collecting() as receiver:
        parent.send(receiver.url)
        parent.recv()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="null:512")
    parser.add_argument("--events", type=int, default=2_000, help="of a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rates", default="0.01,1", help="of sampling")
    arguments = parser.parse_args()
    rates = tuple(map(float, arguments.rates.split(",")))
    with tempfile.TemporaryDirectory() as folder, collector() as url:
        settings = load_settings(
            profile=arguments.profile,
            data_dir=Path(folder),
            ingest={"modalities": ["text"], "min_free_disk_bytes": 0, "encoder_threads": 1},
            tracing={"endpoint": url},
        )
        figures = measure(settings, events=arguments.events, rounds=arguments.rounds, rates=rates)
    print(json.dumps({**figures, "machine": machine_facts()}, indent=2, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
