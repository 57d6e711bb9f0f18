"""Counts the events of requests to `/v1/events` that were not accepted, by why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from penstock.errors import ConfigError, OverloadedError, PermanentError, UsageError
from penstock.observability import metrics


@dataclass(slots=True)
class ReceivedEvents:
    """The number of events of a request; 1 until it is read."""

    events: int = 1


@contextmanager
def count_failures() -> Iterator[ReceivedEvents]:
    """Counts the events of a request that ends by an error, which is raised on."""
    received = ReceivedEvents()
    try:
        yield received
    except Exception as exc:
        metrics.RECEIVED_EVENTS.labels(_result_of(exc)).inc(received.events)
        raise


def _result_of(exc: Exception) -> str:
    if isinstance(exc, OverloadedError):
        return "limited"
    is_refused = isinstance(exc, (UsageError, PermanentError, RequestValidationError, HTTPException))
    return "refused" if is_refused and not isinstance(exc, ConfigError) else "unacknowledged"
