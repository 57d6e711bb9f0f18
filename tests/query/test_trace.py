"""Tests of the times, the reasons and the missing channels of one search."""

from __future__ import annotations

import math

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing
from penstock.query.trace import Trace
from penstock.records import Channel, Collection, Field
from tests.clock import Clock

IMAGE_JOINT = Channel(Collection.IMAGE, Field.JOINT)
TEXT_LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)


def test_a_step_lasts_from_the_end_of_the_step_before_it_to_its_own_last_end() -> None:
    clock = Clock(100.0)
    trace = Trace(clock)
    for step, ends_s in (("search", 100.25), ("search", 100.5), ("fuse", 101.0)):
        clock.now_s = ends_s
        trace.end(step)
    assert trace.took_ms() == {"search": 500.0, "fuse": 500.0, "total": 1000.0}


def test_a_step_that_overlaps_the_next_is_counted_up_to_its_end_and_the_next_from_there() -> None:
    clock = Clock(100.0)
    trace = Trace(clock)
    trace.begin("encode")
    clock.now_s = 100.25
    trace.end("encode")
    clock.now_s = 100.5
    trace.end("search")
    assert trace.took_ms() == {"encode": 250.0, "search": 250.0, "total": 500.0}


def test_a_step_that_never_ends_takes_no_time() -> None:
    clock = Clock(100.0)
    trace = Trace(clock)
    trace.begin("encode")
    clock.now_s = 100.5
    trace.end("search")
    assert trace.took_ms() == {"encode": 0.0, "search": 500.0, "total": 500.0}


def test_a_block_is_a_step_until_its_last_end_even_if_it_raises() -> None:
    clock = Clock(100.0)
    trace = Trace(clock)
    with trace.step("understand"):
        clock.now_s = 100.25
    clock.now_s = 101.0
    with pytest.raises(ValueError, match="broken"), trace.step("fuse"):
        raise ValueError("broken")
    assert trace.took_ms() == {"understand": 250.0, "fuse": 750.0, "total": 1000.0}
    clock.now_s = 101.5
    with trace.step("fuse"):
        clock.now_s = 102.0
    assert trace.took_ms() == {"understand": 250.0, "fuse": 1750.0, "total": 2000.0}


def test_the_time_that_is_left_ends_at_the_deadline() -> None:
    clock = Clock(100.0)
    trace = Trace(clock)
    assert trace.left_s() == math.inf
    trace.set_deadline(102.0)
    assert trace.left_s() == 2.0
    clock.now_s = 103.0
    assert trace.left_s() == 0.0


def test_a_reason_is_given_once() -> None:
    trace = Trace(Clock(100.0))
    for sentence in ("The rewrite was late.", "The route is images.", "The rewrite was late."):
        trace.add_reason(sentence)
    assert trace.because == ["The rewrite was late.", "The route is images."]


def test_only_failed_channels_make_a_result_partial() -> None:
    trace = Trace(Clock(100.0))
    trace.add_unavailable({IMAGE_JOINT: "not offered by this store"})
    trace.add_failed({})
    assert not trace.partial
    trace.add_failed({TEXT_LEXICAL: "did not answer within the deadline"})
    assert trace.partial
    assert trace.missing.keys() == {IMAGE_JOINT, TEXT_LEXICAL}


def test_published_steps_become_spans_with_their_times() -> None:
    exporter = InMemorySpanExporter()
    clock = Clock(100.0)
    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=1.0)):
        with tracing.current().request("/v1/search", ()):
            trace = Trace(clock)
            for step, ends_s in (("search", 100.5), ("fuse", 102.0)):
                clock.now_s = ends_s
                trace.end(step)
            trace.publish()
        trace.publish()  # outside of a sampled request
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"search", "fuse", "POST /v1/search"}
    search, fuse = spans["search"], spans["fuse"]
    assert search.end_time is not None
    assert fuse.start_time is not None
    assert fuse.end_time is not None
    assert fuse.start_time - search.end_time == pytest.approx(0, abs=5e7)  # each is counted back from its own now
    assert fuse.end_time - fuse.start_time == 1_500_000_000
