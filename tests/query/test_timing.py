"""Tests of the times and the missing channels of one search."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing
from penstock.query.timing import Timing
from penstock.records import Channel, Collection, Field

IMAGE_JOINT = Channel(Collection.IMAGE, Field.JOINT)
TEXT_LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)


class SettableClock:
    """A clock that a test sets, seconds."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_step_lasts_from_the_end_of_the_step_before_it_to_its_own_last_end() -> None:
    clock = SettableClock()
    timing = Timing(clock)
    for step, ends_s in (("search", 100.25), ("search", 100.5), ("fuse", 101.0)):
        clock.now_s = ends_s
        timing.end(step)
    assert timing.took_ms() == {"search": 500.0, "fuse": 500.0, "total": 1000.0}


def test_a_step_that_overlaps_the_next_is_counted_up_to_its_end_and_the_next_from_there() -> None:
    clock = SettableClock()
    timing = Timing(clock)
    timing.begin("encode")
    clock.now_s = 100.25
    timing.end("encode")
    clock.now_s = 100.5
    timing.end("search")
    assert timing.took_ms() == {"encode": 250.0, "search": 250.0, "total": 500.0}


def test_a_step_that_never_ends_takes_no_time() -> None:
    clock = SettableClock()
    timing = Timing(clock)
    timing.begin("encode")
    clock.now_s = 100.5
    timing.end("search")
    assert timing.took_ms() == {"encode": 0.0, "search": 500.0, "total": 500.0}


def test_only_failed_channels_make_a_result_partial() -> None:
    timing = Timing(SettableClock())
    timing.add_unavailable({IMAGE_JOINT: "not offered by this store"})
    timing.add_failed({})
    assert not timing.partial
    timing.add_failed({TEXT_LEXICAL: "did not answer within the deadline"})
    assert timing.partial
    assert timing.missing.keys() == {IMAGE_JOINT, TEXT_LEXICAL}


def test_published_steps_become_spans_with_their_times() -> None:
    exporter = InMemorySpanExporter()
    clock = SettableClock()
    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=1.0)):
        with tracing.current().request("/v1/search", ()):
            timing = Timing(clock)
            for step, ends_s in (("search", 100.5), ("fuse", 102.0)):
                clock.now_s = ends_s
                timing.end(step)
            timing.publish()
        timing.publish()  # outside of a sampled request
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"search", "fuse", "POST /v1/search"}
    search, fuse = spans["search"], spans["fuse"]
    assert search.end_time is not None
    assert fuse.start_time is not None
    assert fuse.end_time is not None
    assert fuse.start_time - search.end_time == pytest.approx(0, abs=5e7)  # each is counted back from its own now
    assert fuse.end_time - fuse.start_time == 1_500_000_000
