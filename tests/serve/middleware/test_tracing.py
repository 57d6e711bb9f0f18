from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.observability import tracing
from penstock.observability.open_telemetry import OpenTelemetryTracing
from penstock.serve.plane import QueryPlane
from tests.serve.sample_index import raising


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with tracing.using(OpenTelemetryTracing(SimpleSpanProcessor(exporter), sample_rate=1.0)):
        yield exporter


def request_span(exporter: InMemorySpanExporter, path: str = "/v1/search") -> ReadableSpan:
    (span,) = (span for span in exporter.get_finished_spans() if span.name == f"POST {path}")
    assert span.attributes is not None
    return span


def test_a_search_is_traced_with_its_steps_and_channels(
    search: Callable[..., httpx.Response], exporter: InMemorySpanExporter
) -> None:
    assert search(text="a cat").status_code == 200
    request = request_span(exporter)
    steps = [span for span in exporter.get_finished_spans() if span is not request]
    assert {"encode", "search", "fuse", "judge", "search text.passage", "search image.joint"} <= {
        span.name for span in steps
    }
    assert all(span.parent is not None and span.parent.span_id == request.context.span_id for span in steps)
    assert request.attributes is not None
    assert request.attributes["penstock.outcome"] == "200"
    assert request.status.is_ok


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_is_traced_to_the_end_of_its_answer(
    call: Callable[..., httpx.Response], exporter: InMemorySpanExporter, stream: bool
) -> None:
    assert call("POST", "/v1/ask", json={"question": "a cat", "stream": stream}).status_code == 200
    request = request_span(exporter, "/v1/ask")
    steps = [span for span in exporter.get_finished_spans() if span is not request]
    assert {"encode", "search", "search text.passage"} <= {span.name for span in steps}
    assert all(span.parent is not None and span.parent.span_id == request.context.span_id for span in steps)


def test_a_refused_search_has_its_status_and_is_no_failure(
    search: Callable[..., httpx.Response], exporter: InMemorySpanExporter
) -> None:
    assert search(text="").status_code == 400
    request = request_span(exporter)
    assert request.attributes is not None
    assert request.attributes["penstock.outcome"] == "400"
    assert request.status.is_ok


def test_a_search_that_breaks_is_a_failure(
    plane: QueryPlane,
    search: Callable[..., httpx.Response],
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plane.searches, "search", raising(RuntimeError("a secret of the user")))
    assert search(text="a cat").status_code == 500
    request = request_span(exporter)
    assert not request.status.is_ok
    assert "secret" not in request.to_json()


def test_other_routes_are_not_traced(call: Callable[..., httpx.Response], exporter: InMemorySpanExporter) -> None:
    call("GET", "/v1/status")
    assert exporter.get_finished_spans() == ()
