"""An OpenTelemetry collector in this process: takes spans by OTLP over HTTP and keeps them."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | int | float | bool


@dataclass(frozen=True)
class Link:
    """A link of a span to another one, by the hexadecimal ids of that."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Value]


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived, with the attributes of its resource; ids are hexadecimal."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    failed: bool
    message: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Value]
    resource: Mapping[str, Value]
    links: tuple[Link, ...]
    events: tuple[str, ...]


@dataclass
class Collector:
    """Keeps the spans that arrived, and decides how requests are answered.

    Attributes:
        url: of the receiver, without a path.
        spans: all so far.
        headers: of each request.
        status: of the answers; the spans of others than 200 are not kept.
    """

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    status: int = 200

    def await_spans(self, holds: Callable[[list[ReceivedSpan]], bool], awaited: str, timeout_s: float = 20.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds(self.spans):
            names = sorted(span.name for span in self.spans)
            assert time.monotonic() < deadline_s, f"did not arrive: {awaited}; there are {names}"
            time.sleep(0.01)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReceivedSpan:
        (span,) = self.named(name)
        return span

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        self.headers.append(headers)
        if path != "/v1/traces":
            return 404
        if self.status == 200:
            data = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            self.spans += _spans(ExportTraceServiceRequest.FromString(data))
        return self.status


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector on a free port of loopback."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.take(self.path, headers, body))
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            yield from (_span(span, resource) for span in scope.spans)


def _span(span: Span, resource: Mapping[str, Value]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        trace_state=span.trace_state,
        failed=span.status.code == 2,
        message=span.status.message,
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        resource=resource,
        links=tuple(Link(link.trace_id.hex(), link.span_id.hex(), _values(link.attributes)) for link in span.links),
        events=tuple(event.name for event in span.events),
    )


def _values(attributes: object) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in attributes}  # type: ignore[attr-defined]


def _value(value: AnyValue) -> Value:
    return getattr(value, value.WhichOneof("value"))  # type: ignore[no-any-return]
