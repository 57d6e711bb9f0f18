"""Reads the headers of W3C Trace Context (www.w3.org/TR/trace-context) as OpenTelemetry's contexts."""

from __future__ import annotations

import random
import re

from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

# W3C Trace Context, level 1: a version, trace id, parent id and flags; a later version may have more.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# The same of version 0 without the flag: nearly all that arrive, so that they have to be cheap.
_UNSAMPLED = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")


def is_unsampled(traceparent: bytes) -> bool:
    """Returns whether a header is that of a trace which is not sampled; it may be malformed if not."""
    return _UNSAMPLED.fullmatch(traceparent) is not None


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
