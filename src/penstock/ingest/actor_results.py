"""Waits for the results of actors' calls, with errors of our own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from penstock.errors import PenstockError, UnavailableError
from penstock.ingest.executor.ray_actor import remote_reason

T = TypeVar("T")

ANSWER_TIMEOUT_S = 5.0  # for a small question to an actor that may be stopped or dead
START_TIMEOUT_S = 600.0  # models may have to be downloaded


def results_of(calls: Sequence[ObjectRef[T]], awaited: str, timeout_s: float = ANSWER_TIMEOUT_S) -> list[T]:
    """Returns the results of calls, in order.

    Args:
        calls: of any actors.
        awaited: what is waited for, for the error message.
        timeout_s: for all of them together.

    Raises:
        PenstockError: raised by a call itself.
        UnavailableError: an actor died or did not answer in time.
    """
    try:
        return list(ray.get(list(calls), timeout=timeout_s))
    except RayError as exc:
        cause = getattr(exc, "cause", None) or exc.__cause__
        if isinstance(cause, PenstockError):
            raise cause from exc
        raise UnavailableError(f"waited for {awaited}: {remote_reason(exc)}") from exc


def results_or_none(calls: Sequence[ObjectRef[T]], timeout_s: float = ANSWER_TIMEOUT_S) -> list[T | None]:
    """Returns the results of calls, in order; None for each that failed or is not there in time."""
    deadline_s = time.monotonic() + timeout_s
    results: list[T | None] = []
    for call in calls:
        try:
            results.append(ray.get(call, timeout=max(0.0, deadline_s - time.monotonic())))
        except RayError:
            results.append(None)
    return results
