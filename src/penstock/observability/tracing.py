"""Traces of events and searches, by OpenTelemetry: the interface, which costs next to nothing while tracing is off.

    send ─► process (an event) ─► batch ─► fetch, decode, encode, write (in the workers) · settle · commit
                 ▲ link
    call ─► search (a request) ─► encode · search … · fuse · rerank

Tracing is off unless `tracing.endpoint` is set: then `connect` replaces `NO_TRACING` with the implementation of
`observability.open_telemetry`, the only module that imports OpenTelemetry. Of what is not sampled nothing is recorded
but the decision. Spans carry names, numbers and positions, never what users sent: no text, URL, key, title or tenant,
and of an error its type alone. docs/tracing.md lists all spans.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:  # this module is imported by commands that need none of them
    from penstock.config import Settings
    from penstock.records import Position, Record

Header: TypeAlias = tuple[str, bytes]
Attribute: TypeAlias = str | int | float | bool

TRACEPARENT = "traceparent"  # the headers of the W3C Trace Context, in Kafka and in HTTP
TRACESTATE = "tracestate"


class OpenSpan(Protocol):
    """A span that began in one place and ends in another, perhaps on another thread."""

    @property
    def traceparent(self) -> str:
        """Its context as W3C `traceparent`; empty if it is not sampled."""

    @property
    def headers(self) -> Sequence[Header]:
        """The headers that make the receiver of a message continue the trace."""

    def end(self, outcome: str, *, failed: bool = False, **attributes: Attribute) -> None:
        """Ends the span with its outcome, a word of a closed list; names of attributes are as `Tracing.span` has them.

        A later call has no effect.
        """


class Tracing(Protocol):
    """Begins spans. Safe to use from several threads and tasks; never raises, waits or slows down its caller.

    A span that is begun as a block becomes the parent of those within, on this thread or in this task.
    """

    def send(self, topic: str) -> OpenSpan:
        """Begins the span of a message to Kafka, which decides for the whole trace whether it is sampled."""

    def call(self, route: str) -> OpenSpan:
        """Begins the span of a request to the query plane, as `send` does that of a message."""

    def receive(self, record: Record, traceparent: str) -> OpenSpan:
        """Begins the span of an event, from its receipt to its outcome.

        It continues the trace of the record's headers; else that of `traceparent`, from its CloudEvents attributes;
        else it is the root of a new one. A malformed context counts as none.
        """

    def batch(self, topic: str, events: Sequence[OpenSpan]) -> AbstractContextManager[None]:
        """Traces a batch with sampled events, in the trace of the first, with links to and from all of them."""

    def commit(self, commits: Callable[[Position], bool]) -> AbstractContextManager[None]:
        """Traces a commit of offsets, with links to those of the settled events that it `commits`."""

    def request(self, route: str, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[OpenSpan]:
        """Traces an HTTP request, in the trace of its headers or as the root of a new one.

        The span ends with `end`, but remains the current one, and open for links, until the block ends.
        """

    def carrier(self) -> str:
        """Returns the context of the current span, for another process; empty if there is none or it is not sampled."""

    def span(self, name: str, *, parent: str | None = None, **attributes: Attribute) -> AbstractContextManager[None]:
        """Traces a step, if its parent is sampled. An exception is recorded by its type.

        Args:
            name: of the step.
            parent: from `carrier`; None: the current span.
            attributes: are named `penstock.…`.
        """

    def add_ended(self, name: str, *, began_s_ago: float, ended_s_ago: float) -> None:
        """Adds a step that has ended already, if the current span is sampled."""

    def link(self, traceparent: str, origin: Position) -> None:
        """Links the current span to that of the event which was produced at `origin`."""

    def flush(self, timeout_s: float) -> None:
        """Exports what waits, within this time."""


# --- off -------------------------------------------------------------------------------------------------------------


class _NoSpan:
    traceparent = ""
    headers: Sequence[Header] = ()

    def end(self, outcome: str, *, failed: bool = False, **attributes: Attribute) -> None:
        pass


NO_SPAN: Final[OpenSpan] = _NoSpan()
NO_BLOCK: Final[AbstractContextManager[None]] = nullcontext()
NO_REQUEST: Final[AbstractContextManager[OpenSpan]] = nullcontext(NO_SPAN)


class NoTracing:
    """Records nothing: tracing is off. See `Tracing`."""

    def send(self, topic: str) -> OpenSpan:
        """See `Tracing.send`."""
        return NO_SPAN

    def call(self, route: str) -> OpenSpan:
        """See `Tracing.call`."""
        return NO_SPAN

    def receive(self, record: Record, traceparent: str) -> OpenSpan:
        """See `Tracing.receive`."""
        return NO_SPAN

    def batch(self, topic: str, events: Sequence[OpenSpan]) -> AbstractContextManager[None]:
        """See `Tracing.batch`."""
        return NO_BLOCK

    def commit(self, commits: Callable[[Position], bool]) -> AbstractContextManager[None]:
        """See `Tracing.commit`."""
        return NO_BLOCK

    def request(self, route: str, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[OpenSpan]:
        """See `Tracing.request`."""
        return NO_REQUEST

    def carrier(self) -> str:
        """See `Tracing.carrier`."""
        return ""

    def span(self, name: str, *, parent: str | None = None, **attributes: Attribute) -> AbstractContextManager[None]:
        """See `Tracing.span`."""
        return NO_BLOCK

    def add_ended(self, name: str, *, began_s_ago: float, ended_s_ago: float) -> None:
        """See `Tracing.add_ended`."""

    def link(self, traceparent: str, origin: Position) -> None:
        """See `Tracing.link`."""

    def flush(self, timeout_s: float) -> None:
        """See `Tracing.flush`."""


# --- of this process -------------------------------------------------------------------------------------------------

NO_TRACING: Final[Tracing] = NoTracing()
_lock = threading.Lock()
_of_process: Tracing = NO_TRACING


def current() -> Tracing:
    """Returns the tracing of this process: `NO_TRACING` until `connect` switches it on."""
    return _of_process


def connect(settings: Settings, process: str) -> None:
    """Makes this process export its spans, if tracing is on. A second call has no effect.

    Args:
        settings: the collector and the rate of sampling.
        process: the name of this process, without a number: `decode`.

    Raises:
        ConfigError: tracing is on and its packages are not installed.
    """
    global _of_process  # noqa: PLW0603 - it belongs to the process, as its metrics do
    with _lock:
        if settings.tracing.endpoint is None or _of_process is not NO_TRACING:
            return
        try:
            from penstock.observability.open_telemetry import export_traces
        except ModuleNotFoundError as exc:
            from penstock.errors import ConfigError

            raise ConfigError(
                f"tracing.endpoint is set, but {exc.name} is not installed: pip install 'penstock[tracing]', or "
                "unset it"
            ) from exc
        _of_process = export_traces(settings.tracing, process)


@contextmanager
def using(tracing: Tracing) -> Iterator[None]:
    """Makes this the tracing of the process for a block: for tests and benchmarks."""
    global _of_process  # noqa: PLW0603
    before, _of_process = _of_process, tracing
    try:
        yield
    finally:
        _of_process = before
