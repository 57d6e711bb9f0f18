"""Whose fault torch's exceptions are, and how memory is given back."""

from __future__ import annotations

import re

import torch

from penstock.encoders.batching import Fault, first_line
from penstock.errors import ConfigError, PenstockError, UnavailableError

# What CPU and CUDA libraries say in a plain RuntimeError when an allocation fails.
_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE)
# After one of these every later call in the process fails too.
_DEVICE = re.compile(r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR)|device-side assert")


def blame(exc: Exception) -> Fault:
    """Whose fault an exception of a forward pass is."""
    if isinstance(exc, (torch.OutOfMemoryError, MemoryError)):
        return Fault.MEMORY
    if isinstance(exc, RuntimeError):
        if _MEMORY.search(str(exc)):
            return Fault.MEMORY
        if isinstance(exc, torch.AcceleratorError) or _DEVICE.search(str(exc)):
            return Fault.DEVICE
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
