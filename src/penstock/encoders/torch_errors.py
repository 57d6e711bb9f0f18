"""Translates torch's exceptions and gives its memory back."""

from __future__ import annotations

import torch

from penstock.encoders.model_errors import error_of_load
from penstock.encoders.sub_batching import FailureCause, SubBatcher, classify_message
from penstock.errors import PenstockError


def torch_batcher(max_size: int) -> SubBatcher:
    """Creates a `SubBatcher` for a model that torch runs."""
    return SubBatcher(max_size, classify=classify_error, release_memory=release_memory)


def classify_error(exc: Exception) -> FailureCause:
    """Returns the cause of an exception of a forward pass."""
    if isinstance(exc, (torch.OutOfMemoryError, MemoryError)):
        return FailureCause.MEMORY
    if isinstance(exc, RuntimeError):
        cause = classify_message(str(exc))
        is_device = cause is FailureCause.ITEM and isinstance(exc, torch.AcceleratorError)
        return FailureCause.DEVICE if is_device else cause
    return FailureCause.ITEM


def load_error(exc: Exception, model: str) -> PenstockError:
    """Returns the error to raise when a library could not load a model that is on this machine."""
    return error_of_load(exc, model, classify_error(exc))


def release_memory() -> None:
    """Gives cached blocks back to the GPU, so that a smaller batch finds one contiguous piece."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
