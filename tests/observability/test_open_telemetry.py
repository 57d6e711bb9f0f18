from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.config import TracingSettings
from penstock.observability.open_telemetry import OpenTelemetryTracing, export_traces
from penstock.observability.tracing import NO_BLOCK, NO_REQUEST, NO_SPAN, OpenSpan
from penstock.records import Position, Record
from tests.otlp import Collector, collecting

TOPIC = "media.text"
TRACE, PARENT = "a" * 32, "b" * 16
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Traces:
    """Tracing into a list."""

    def __init__(self, sample_rate: float = 1.0, draw: float = 0.5) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = OpenTelemetryTracing(
            SimpleSpanProcessor(self.exporter), sample_rate=sample_rate, draw=lambda: draw
        )

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def record(offset: int = 0, **headers: str) -> Record:
    named = tuple((name, value.encode()) for name, value in headers.items())
    return Record(Position(TOPIC, 0, offset), b"k", b"value", named, 0)


def ids(span: ReadableSpan) -> tuple[int, int]:
    return span.get_span_context().trace_id, span.get_span_context().span_id


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


# --- which traces are sampled ---


@pytest.mark.parametrize(("rate", "draw", "sampled"), [(0.3, 0.29, True), (0.3, 0.3, False), (0.0, 0.0, False)])
def test_a_new_trace_is_sampled_at_the_rate(rate: float, draw: float, sampled: bool) -> None:
    tracing = Traces(rate, draw).tracing
    assert (tracing.receive(record(), "") is not NO_SPAN) == sampled
    assert (tracing.send(TOPIC).traceparent != "") == sampled
    assert (tracing.call("/v1/search").traceparent != "") == sampled
    assert (tracing.request("/v1/search", ()) is not NO_REQUEST) == sampled


def test_an_unsampled_message_says_so_to_its_receivers() -> None:
    span = Traces(0.0).tracing.send(TOPIC)
    ((name, value),) = span.headers
    assert (name, value[-3:]) == ("traceparent", b"-00")
    span.end("acknowledged")
    assert Traces(1.0).tracing.receive(record(traceparent=value.decode()), "") is NO_SPAN


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_decision_of_a_traceparent_counts_and_not_the_rate(rate: float) -> None:
    tracing = Traces(rate).tracing
    assert tracing.receive(record(traceparent=SAMPLED), "") is not NO_SPAN
    assert tracing.receive(record(traceparent=UNSAMPLED), "") is NO_SPAN
    assert tracing.request("/", [(b"traceparent", SAMPLED.encode())]) is not NO_REQUEST
    assert tracing.request("/", [(b"traceparent", UNSAMPLED.encode())]) is NO_REQUEST


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "nonsense",
        SAMPLED.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{SAMPLED}-more",
        SAMPLED[:-1],
        f" {SAMPLED}",
    ],
)
def test_a_malformed_traceparent_is_ignored(malformed: str) -> None:
    assert Traces(0.0).tracing.receive(record(traceparent=malformed), "") is NO_SPAN
    fresh = Traces(1.0).tracing.receive(record(traceparent=malformed), "")
    assert TRACE not in fresh.traceparent


def test_a_later_version_of_traceparent_may_have_more() -> None:
    assert TRACE in Traces().tracing.receive(record(traceparent=f"01-{TRACE}-{PARENT}-01-more"), "").traceparent


def test_a_header_that_is_not_text_is_ignored() -> None:
    odd = Record(Position(TOPIC, 0, 0), b"k", b"v", (("traceparent", b"\xff\xfe"), ("tracestate", b"\xff")), 0)
    assert Traces(0.0).tracing.receive(odd, "") is NO_SPAN


def test_the_cloudevents_attribute_counts_where_there_is_no_header() -> None:
    traces, other = Traces(0.0), "c" * 32
    assert TRACE in traces.tracing.receive(record(), SAMPLED).traceparent
    assert other in traces.tracing.receive(record(traceparent=f"00-{other}-{PARENT}-01"), SAMPLED).traceparent


# --- events and batches ---


def test_the_span_of_an_event_continues_the_trace_of_its_headers(traces: Traces) -> None:
    span = traces.tracing.receive(record(7, traceparent=SAMPLED, tracestate="vendor=x"), "")
    span.end("dead_lettered", failed=True, step="decode", reason="corrupt")
    span.end("indexed")
    done = traces.spans[f"process {TOPIC}"]
    assert (f"{ids(done)[0]:032x}", f"{parent_of(done):016x}") == (TRACE, PARENT)
    assert done.get_span_context().trace_state.to_header() == "vendor=x"
    assert done.attributes is not None
    assert done.attributes["messaging.kafka.offset"] == 7
    assert done.attributes["messaging.destination.partition.id"] == "0"
    assert done.attributes["penstock.outcome"] == "dead_lettered"
    assert done.attributes["penstock.reason"] == "corrupt"
    assert not done.status.is_ok
    assert len(traces.exporter.get_finished_spans()) == 1


def test_a_batch_is_in_the_trace_of_its_first_sampled_event_and_links_to_all(traces: Traces) -> None:
    tracing = traces.tracing
    first, second = (tracing.receive(record(offset, traceparent=SAMPLED), "") for offset in range(2))
    with tracing.batch(TOPIC, [NO_SPAN, first, NO_SPAN, second]):
        pass
    first.end("indexed")
    second.end("indexed")
    batch = traces.spans[f"batch {TOPIC}"]
    left, right = (span for span in traces.exporter.get_finished_spans() if span.name.startswith("process"))
    assert parent_of(batch) == ids(left)[1]
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 4
    assert [link.context.span_id for link in batch.links] == [ids(left)[1], ids(right)[1]]
    assert [link.context.span_id for event in (left, right) for link in event.links] == [ids(batch)[1]] * 2


def test_a_batch_without_a_sampled_event_is_not_traced(traces: Traces) -> None:
    unsampled = Traces(0.0).tracing.send(TOPIC)
    assert traces.tracing.batch(TOPIC, [NO_SPAN, unsampled]) is NO_BLOCK


def test_a_call_in_another_process_is_below_the_block_that_made_it(traces: Traces) -> None:
    tracing, elsewhere = traces.tracing, Traces(0.0)
    event = tracing.receive(record(traceparent=SAMPLED, tracestate="vendor=x"), "")
    with tracing.batch(TOPIC, [event]):
        carrier = tracing.carrier()
    assert tracing.carrier() == ""
    with elsewhere.tracing.span("decode", parent=carrier, worker="decode-0"):
        pass
    call = elsewhere.spans["decode"]
    assert parent_of(call) == ids(traces.spans[f"batch {TOPIC}"])[1]
    assert call.attributes == {"penstock.worker": "decode-0"}
    assert call.get_span_context().trace_state.to_header() == "vendor=x"


@pytest.mark.parametrize("carrier", ["", "nonsense", "00-0-0-01"])
def test_a_call_without_a_carrier_is_not_traced(traces: Traces, carrier: str) -> None:
    with traces.tracing.span("decode", parent=carrier):
        assert traces.tracing.carrier() == ""
    assert traces.spans == {}


def test_an_error_is_recorded_by_its_type_and_never_by_its_message(traces: Traces) -> None:
    event = traces.tracing.receive(record(), "")
    with pytest.raises(KeyError), traces.tracing.batch(TOPIC, [event]), traces.tracing.span("write"):
        raise KeyError("http://user:password@host")
    for name in ("write", f"batch {TOPIC}"):
        span = traces.spans[name]
        assert not span.status.is_ok
        assert span.status.description is None
        assert span.attributes is not None
        assert span.attributes["error.type"] == "KeyError"
        assert span.events == ()


def test_a_commit_links_to_the_events_that_it_commits_and_to_no_other(traces: Traces) -> None:
    tracing = traces.tracing
    spans = [tracing.receive(record(offset), "") for offset in range(3)]
    settle(spans)
    with tracing.commit(lambda position: position.offset < 2):
        pass
    assert len(traces.spans["commit"].links) == 2
    assert tracing.commit(lambda position: position.offset < 2) is NO_BLOCK
    assert tracing.commit(lambda _: True) is not NO_BLOCK


def test_a_commit_that_fails_is_traced_again(traces: Traces) -> None:
    settle([traces.tracing.receive(record(), "")])
    with pytest.raises(TimeoutError), traces.tracing.commit(lambda _: True):
        raise TimeoutError
    with traces.tracing.commit(lambda _: True):
        pass
    commits = [span for span in traces.exporter.get_finished_spans() if span.name == "commit"]
    assert [span.status.is_ok for span in commits] == [False, True]


def settle(spans: list[OpenSpan]) -> None:
    for span in spans:
        span.end("indexed")


# --- requests ---


def test_a_request_ends_with_its_answer_and_takes_links_after_it(traces: Traces) -> None:
    tracing = traces.tracing
    with tracing.request("/v1/search", ()) as span:
        with tracing.span("search text.passage"):
            pass
        tracing.add_ended("fuse", began_s_ago=3.0, ended_s_ago=1.0)
        span.end("200")
        answered_ns = time.time_ns()
        tracing.link(SAMPLED, Position(TOPIC, 3, 17))
    spans = traces.spans
    request, fuse = spans["POST /v1/search"], spans["fuse"]
    assert request.end_time is not None
    assert request.end_time <= answered_ns
    assert parent_of(spans["search text.passage"]) == parent_of(fuse) == ids(request)[1]
    assert fuse.start_time is not None
    assert fuse.end_time is not None
    assert fuse.end_time - fuse.start_time == pytest.approx(2e9, abs=1e6)
    (link,) = request.links
    assert link.attributes == {
        "messaging.destination.name": TOPIC,
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
    }


def test_concurrent_requests_keep_their_steps_apart(traces: Traces) -> None:
    tracing = traces.tracing

    async def request(name: str) -> None:
        with tracing.request(name, ()):
            await asyncio.sleep(0)
            with tracing.span(f"step of {name}"):
                await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(request("one"), request("two"))

    asyncio.run(both())
    for name in ("one", "two"):
        assert parent_of(traces.spans[f"step of {name}"]) == ids(traces.spans[f"POST {name}"])[1]


# --- the collector ---


def test_spans_reach_the_collector_with_its_headers_and_what_they_share(collector: Collector) -> None:
    settings = TracingSettings.model_validate(
        {"endpoint": collector.url, "headers": "x-key=s%20cret,other=2", "service_name": "search"}
    )
    tracing = export_traces(settings, "decode")
    tracing.receive(record(traceparent=SAMPLED), "").end("indexed")
    tracing.flush(10)
    span = collector.one(f"process {TOPIC}")
    assert (span.trace_id, span.parent_id, span.kind) == (TRACE, PARENT, "CONSUMER")
    assert span.resource["service.name"] == "search"
    assert span.resource["penstock.process"] == "decode"
    assert collector.headers[0]["x-key"] == "s cret"
    assert "s cret" not in repr(settings)


def test_an_endpoint_with_a_path_is_used_as_it_is(collector: Collector) -> None:
    tracing = export_traces(TracingSettings(endpoint=f"{collector.url}/v1/traces/"), "lane")
    tracing.receive(record(traceparent=SAMPLED), "").end("indexed")
    tracing.flush(10)
    assert len(collector.spans) == 1


def test_a_collector_that_is_away_costs_one_line_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    tracing = export_traces(TracingSettings(endpoint="http://127.0.0.1:1", sample_rate=1.0), "lane")
    with caplog.at_level(logging.DEBUG):
        began_s = time.perf_counter()
        for offset in range(100):
            tracing.receive(record(offset), "").end("indexed")
        assert time.perf_counter() - began_s < 1.0
        tracing.flush(20)
    assert len([line for line in caplog.messages if "takes no spans" in line]) == 1
    assert not [entry for entry in caplog.records if entry.name.startswith("opentelemetry")]
