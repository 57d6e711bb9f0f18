"""Classifies what a model raises by what runs it, and translates what its load raises. Imports no torch by itself."""

from __future__ import annotations

from collections.abc import Callable

from penstock.encoders.base import Runtime
from penstock.encoders.sub_batching import FailureCause, SubBatcher
from penstock.errors import ConfigError, PenstockError, UnavailableError, first_line


def batcher_of(runtime: Runtime, max_size: int) -> SubBatcher:
    """Creates a `SubBatcher` for a model of a runtime."""
    if runtime == "numpy":
        return SubBatcher(max_size, classify=classify_array_error, release_memory=lambda: None)
    from penstock.encoders.torch_errors import torch_batcher

    return torch_batcher(max_size)


def classifier_of(runtime: Runtime) -> Callable[[Exception], FailureCause]:
    """Returns the function from an exception of a runtime to its cause."""
    if runtime == "numpy":
        return classify_array_error
    from penstock.encoders.torch_errors import classify_error

    return classify_error


def classify_array_error(exc: Exception) -> FailureCause:
    """Returns the cause of an exception of NumPy, which has no device that could be gone."""
    return FailureCause.MEMORY if isinstance(exc, MemoryError) else FailureCause.ITEM


def error_of_load(exc: Exception, model: str, cause: FailureCause) -> PenstockError:
    """Returns the error to raise when a model that is on this machine could not be loaded."""
    if cause is FailureCause.MEMORY:
        return UnavailableError(f"{model}: no memory to load it ({first_line(exc)}); put fewer workers on the device")
    return ConfigError(f"{model}: it could not be loaded ({first_line(exc)}); fetch or install its files again")
