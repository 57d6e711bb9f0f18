"""Reads the headers of W3C Trace Context (www.w3.org/TR/trace-context) as OpenTelemetry's contexts."""

from __future__ import annotations

import random
import re

from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

# W3C Trace Context, level 1: a version, trace id, parent id and flags; a later version may have more.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LENGTH = 55  # of version 0


def is_unsampled(traceparent: bytes) -> bool:
    """Returns whether a header has the shape of a trace that is not sampled. Nearly all have: so this is cheap."""
    return len(traceparent) == _LENGTH and traceparent.endswith(b"-00")


def parse_context(traceparent: bytes, tracestate: bytes) -> SpanContext | None:
    """Returns the context of these headers, of which `tracestate` may be empty; None if `traceparent` is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[4] and traceparent.startswith(b"00")):
        return None
    flags = TraceFlags(int(match[3], 16) & TraceFlags.SAMPLED)
    state = TraceState.from_header([tracestate.decode(errors="replace")]) if tracestate and flags else None
    return SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags, trace_state=state)


def random_id(bits: int) -> int:
    """Returns a random trace id of 128 bits or span id of 64."""
    return random.getrandbits(bits) or 1  # zeros are no id
