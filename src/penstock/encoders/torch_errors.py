"""Whose fault torch's exceptions are, and how memory is given back."""

from __future__ import annotations

import torch

from penstock.encoders.sub_batching import FailureCause, classify_message, first_line
from penstock.errors import ConfigError, PenstockError, UnavailableError


def classify_error(exc: Exception) -> FailureCause:
    """Whose fault an exception of a forward pass is."""
    if isinstance(exc, (torch.OutOfMemoryError, MemoryError)):
        return FailureCause.MEMORY
    if isinstance(exc, RuntimeError):
        found = classify_message(str(exc))
        return FailureCause.DEVICE if found is FailureCause.ITEM and isinstance(exc, torch.AcceleratorError) else found
    return FailureCause.ITEM


def load_error(exc: Exception, model: str) -> PenstockError:
    """What to raise when a library could not load a model that is on this machine."""
    if classify_error(exc) is FailureCause.MEMORY:
        return UnavailableError(f"{model}: no memory to load it ({first_line(exc)}); put fewer workers on the device")
    return ConfigError(f"{model}: it could not be loaded ({first_line(exc)}); fetch or install its files again")


def release_memory() -> None:
    """Gives cached blocks back to the GPU, so that a smaller batch finds one piece."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
