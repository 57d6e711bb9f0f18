"""Chooses what computes a model, torch or NumPy, and its number format and threads. Imports torch only for torch."""

from __future__ import annotations

import os

from penstock.cpus import default_threads, usable_cpus
from penstock.encoders.base import Runtime
from penstock.encoders.precision import Precision, choose_precision
from penstock.encoders.profiles import ClipSpec, EncoderSpec, SentenceSpec


def runtime_of(spec: EncoderSpec, precision: str, device: str) -> Runtime:
    """Returns what computes a model: NumPy where its profile says so, on a CPU, unless another precision is set.

    Args:
        spec: the model.
        precision: the setting.
        device: as `choose_device` returns it.
    """
    in_arrays = isinstance(spec, ClipSpec | SentenceSpec) and spec.runtime == "numpy"
    return "numpy" if in_arrays and device == "cpu" and precision in ("auto", "fp32") else "torch"


def precision_of(spec: EncoderSpec, precision: str, device: str) -> Precision:
    """Returns the number format of a model: fp32 in NumPy. Arguments as `runtime_of`, errors as `choose_precision`."""
    return "fp32" if runtime_of(spec, precision, device) == "numpy" else choose_precision(precision, device)


def set_threads(runtime: Runtime, threads: int | None) -> None:
    """Sets the CPU threads of a runtime in this process.

    Args:
        runtime: torch or NumPy, whose library may have been loaded before OMP_NUM_THREADS was set.
        threads: None: those of OMP_NUM_THREADS, else every CPU that the container may use.
    """
    if runtime == "numpy":
        from threadpoolctl import threadpool_limits

        of_environment = os.environ.get("OMP_NUM_THREADS", "")
        number = threads or (int(of_environment) if of_environment.isdecimal() else 0) or usable_cpus()
        threadpool_limits(number, user_api="blas")
    elif (threads := threads or default_threads()) is not None:
        import torch

        torch.set_num_threads(threads)
