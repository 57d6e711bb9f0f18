"""Counts the operations of an encoder and measures the peak of its device, for `penstock bench encode`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.encoders.base import Encoder
from penstock.encoders.precision import Precision
from penstock.records import EncoderInput

_MATMUL_CPU, _MATMUL_GPU = 2048, 8192  # sides of the matrices: large enough to fill the pipelines of caches and GPU
_PEAK_S = 1.0  # duration of the measurement; the fastest product counts


def flops(encoder: Encoder, batch: EncoderInput) -> int:
    """Returns the floating-point operations of one `encode`; a multiplication and an addition are two.

    Counted by torch.utils.flop_counter.

    Matrix products, convolutions and attention are counted, which is all but a few per mille. 0 for an encoder without
    a model.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with _plain_attention(), FlopCounterMode(display=False) as counter:
        encoder.encode(batch)
    return int(counter.get_total_flops())


def device_peak(device: str, precision: Precision) -> float:
    """Returns the floating-point operations per second of the fastest matrix product on the device.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        precision: of the matrices.
    """
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    side = _MATMUL_CPU if device == "cpu" else _MATMUL_GPU
    first, second = (torch.rand(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    best_s, began_s = float("inf"), time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - began_s < _PEAK_S:
            start_s = time.perf_counter()
            torch.mm(first, second)
            if device != "cpu":
                torch.cuda.synchronize(device)
            best_s = min(best_s, time.perf_counter() - start_s)
    return 2 * side**3 / best_s


def device_facts(device: str) -> dict[str, object]:
    """Returns name and memory of a GPU, and the number of torch's CPU threads."""
    import torch

    facts: dict[str, object] = {"torch_threads": torch.get_num_threads()}
    if device != "cpu":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    return facts


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Switches off torch's fused multi-head attention, an operation that the counter cannot see into."""
    from torch.backends import mha

    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(fast)
