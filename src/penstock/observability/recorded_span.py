"""A sampled span while it is recorded, and the root of a trace that is not sampled."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.trace import Link, SpanContext, SpanKind

from penstock.observability.trace_context import random_id
from penstock.observability.tracing import TRACEPARENT, TRACESTATE, Attribute, Header

_MAX_LINKS = 128  # of a span, as the SDK limits them


class RecordedSpan:
    """A sampled span (`tracing.OpenSpan`) that is emitted once, when it is finished.

    Args:
        name, kind, context, parent: of the span; no parent: it is the root of its trace.
        attributes: more are added to them.
        emit: receives the finished span.

    Attributes:
        began_ns, ended_ns: nanoseconds since the epoch; 0: it has not ended.
        links: to other spans.
        failed, finished: whether its step failed, and whether it was emitted.
        keep_open: whether `end` only notes outcome and time, and a block finishes the span.
        on_end: called by `end`.
    """

    __slots__ = (
        "_emit", "attributes", "began_ns", "context", "ended_ns", "failed", "finished", "keep_open", "kind", "links",
        "name", "on_end", "parent",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        *,
        parent: SpanContext | None,
        attributes: dict[str, Attribute],
        emit: Callable[[RecordedSpan], None],
    ) -> None:
        self.name = name
        self.kind = kind
        self.context = context
        self.parent = parent
        self.attributes = attributes
        self.links: list[Link] = []
        self.failed = False
        self.finished = False
        self.keep_open = False
        self.on_end: Callable[[], None] | None = None
        self.began_ns = time.time_ns()
        self.ended_ns = 0
        self._emit = emit

    @property
    def traceparent(self) -> str:
        """See `OpenSpan`."""
        return f"00-{self.context.trace_id:032x}-{self.context.span_id:016x}-01"

    @property
    def headers(self) -> Sequence[Header]:
        """See `OpenSpan`."""
        state = self.context.trace_state.to_header()
        headers = ((TRACEPARENT, self.traceparent.encode()),)
        return (*headers, (TRACESTATE, state.encode())) if state else headers

    def add_link(self, context: SpanContext, attributes: Mapping[str, Attribute] | None = None) -> None:
        """Links the span to another one, unless it has too many links."""
        if len(self.links) < _MAX_LINKS:
            self.links.append(Link(context, attributes))

    def end(self, outcome: str, *, failed: bool = False, **attributes: Attribute) -> None:
        """See `OpenSpan.end`."""
        if self.ended_ns:
            return
        self.ended_ns = time.time_ns()
        self.attributes |= own({"outcome": outcome, **attributes})
        self.failed = failed
        if not self.keep_open:
            self.finish()
        if self.on_end is not None:
            self.on_end()

    def finish(self) -> None:
        """Emits the span; a later call has no effect."""
        if not self.finished:
            self.finished = True
            self.ended_ns = self.ended_ns or time.time_ns()
            self._emit(self)


class UnsampledRoot:
    """The root of a trace that is not sampled: its message says so, for all that receive it."""

    __slots__ = ()

    traceparent = ""

    @property
    def headers(self) -> Sequence[Header]:
        """See `OpenSpan`."""
        return ((TRACEPARENT, f"00-{random_id(128):032x}-{random_id(64):016x}-00".encode()),)

    def end(self, outcome: str, *, failed: bool = False, **attributes: Attribute) -> None:
        """See `OpenSpan.end`."""


def own(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Returns attributes under Penstock's own names."""
    return {f"penstock.{name}": value for name, value in attributes.items()}
