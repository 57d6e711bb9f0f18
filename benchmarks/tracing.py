"""The share of an event's CPU time that tracing takes: with it off, at a rate of sampling, and with every trace kept.

    python -m benchmarks.tracing                       # the null model, the smallest events there are
    python -m benchmarks.tracing --profile reference   # a short text with models

Two figures for each rate, of the same lane, steps and workers in this process, over a broker and a store in memory:

    by rounds   CPU time of an event in rounds with tracing, over that of the round without it just before or after;
                the median of all rounds. It says that nothing is forgotten, and holds the noise of the machine.
    by calls    CPU time of the calls that the lane and its workers make to trace an event, alone, with their export;
                over the CPU time of an event with tracing off. Both are the least of all repetitions, as whatever
                else runs on the machine only adds to it.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.host_info import machine_facts
from benchmarks.local_ingest import LocalIngest
from penstock.broker.base import Message
from penstock.broker.traced_producer import TracedProducer
from penstock.config import Settings, load_settings
from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing, export_traces
from penstock.observability.tracing import Tracing
from penstock.records import Position, Record

TOPIC = "media.text"
_BATCH = 32
_CALLS = ("fetch_and_decode", "encode", "encode", "write")  # to the workers, for a batch of texts
_FLUSH_S = 30.0


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


def calls_cpu_us(traces: Tracing, events: int) -> float:
    """Returns the CPU time in µs of what traces an event: the calls of lane and workers alone, and the export."""
    records = [_record(number, traces.send(TOPIC).headers) for number in range(events)]
    traces.flush(_FLUSH_S)
    began_s = time.process_time()
    for start in range(0, events, _BATCH):
        spans = [traces.receive(record, "") for record in records[start : start + _BATCH]]
        with traces.batch(TOPIC, spans):
            carriers = [traces.carrier() for _ in _CALLS]
        for name, carrier in zip(_CALLS, carriers, strict=True):
            with traces.span(name, parent=carrier, worker="worker-0"):
                pass
        for span in spans:
            span.end("indexed")
        with traces.commit(lambda _: True):
            pass
    traces.flush(_FLUSH_S)
    return (time.process_time() - began_s) / events * 1e6


def _record(number: int, headers: Any) -> Record:
    return Record(Position(TOPIC, 0, number), b"key", b"value", (*_HEADERS, *headers), 0)


def measure(settings: Settings, *, events: int, rounds: int, rates: tuple[float, ...]) -> Mapping[str, object]:
    """Returns the figures of each rate."""
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
    by_calls = {rate: _calls(traces) for rate, traces in traced.items()}
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


def _calls(traces: Tracing) -> float:
    """Returns the least of repeated measurements, less what the same calls take with tracing off."""
    with_us, without_us = (min(calls_cpu_us(way, 3_200) for _ in range(15)) for way in (traces, tracing.NO_TRACING))
    return with_us - without_us


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
