"""Whose fault torch's exceptions are, and how memory is given back."""

from __future__ import annotations

import torch

from penstock.encoders.sub_batching import Fault, blame_message, first_line
from penstock.errors import ConfigError, PenstockError, UnavailableError


def blame(exc: Exception) -> Fault:
    """Whose fault an exception of a forward pass is."""
    if isinstance(exc, (torch.OutOfMemoryError, MemoryError)):
        return Fault.MEMORY
    if isinstance(exc, RuntimeError):
        found = blame_message(str(exc))
        return Fault.DEVICE if found is Fault.ITEM and isinstance(exc, torch.AcceleratorError) else found
    return Fault.ITEM


def load_error(exc: Exception, model: str) -> PenstockError:
    """What to raise when a library could not load a model that is on this machine."""
    if blame(exc) is Fault.MEMORY:
        return UnavailableError(f"{model}: no memory to load it ({first_line(exc)}); put fewer workers on the device")
    return ConfigError(f"{model}: it could not be loaded ({first_line(exc)}); fetch or install its files again")


def release_memory() -> None:
    """Gives cached blocks back to the GPU, so that a smaller batch finds one piece."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
