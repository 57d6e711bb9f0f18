"""Chooses the device and the number format of an encoder. Imports torch only to query GPUs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, cast

from penstock.errors import ConfigError

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]

_CPUINFO = Path("/proc/cpuinfo")
_DEVICES = Path("/dev")
# Without one of these Linux has no GPU that torch could use: of NVIDIA, within WSL, of AMD, of Jetson boards.
_GPU_DEVICES = ("nvidiactl", "nvidia0", "dxg", "kfd", "nvmap", "nvhost-ctrl")

# Linux' names of the instructions that multiply bf16 in hardware. A CPU without them emulates each product: measured a
# hundred times slower than fp32. With AVX512-BF16, CPU time of one thread, fp32 over bf16, batches of 32: ViT-B-32
# 1.96, MiniLM 1.89, the reference tower 1.47 (0.8 for a single image, of 3 ms). Smallest cosine with fp32: 0.9999,
# 0.9998 and 0.9996 (over all 775 images and names, recall unchanged), so that nothing argues for an exception.
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class Cuda(Protocol):
    """The part of torch.cuda that is used here."""

    def is_available(self) -> bool:
        """Returns whether there is a GPU that torch can use."""

    def device_count(self) -> int:
        """Returns the number of GPUs."""

    def is_bf16_supported(self, including_emulation: bool = ...) -> bool:
        """Returns whether the present GPU computes in bf16."""


def choose_device(requested: str, *, cuda: Cuda | None = None, has_mps: Callable[[], bool] | None = None) -> str:
    """Returns `cpu`, `cuda`, `cuda:N` or `mps`. `auto` is `cuda` where there is one.

    It is never `mps`, the GPU of Apple's machines: that has to be named, as its speed has not been measured.

    Args:
        requested: the setting.
        cuda: torch.cuda, handed in by tests.
        has_mps: returns whether torch can use Apple's GPU; handed in by tests.

    Raises:
        ConfigError: no such device here.
    """
    if requested == "cpu":
        return requested
    if requested == "mps":
        if not (has_mps or _torch_has_mps)():
            raise ConfigError("device 'mps': torch sees no Apple GPU here; use device=auto or cpu")
        return requested
    match = re.fullmatch(r"auto|cuda(?::(\d+))?", requested)
    if match is None:
        raise ConfigError(f"device {requested!r} is none of auto, cpu, cuda, cuda:N, mps")
    if requested == "auto" and cuda is None and not may_have_gpu():
        return "cpu"
    cuda = cuda or _torch_cuda()
    available = cuda.device_count() if cuda.is_available() else 0
    if requested == "auto":
        return "cuda" if available else "cpu"
    if int(match[1] or 0) >= available:
        raise ConfigError(f"device {requested!r}: torch sees {available} GPUs here; use device=auto or cpu")
    return requested


def choose_precision(
    requested: str,
    device: str,
    *,
    flags: Callable[[], frozenset[str]] | None = None,
    cuda: Cuda | None = None,
) -> Precision:
    """Returns the number format. `auto` is bf16 where a CPU or an NVIDIA GPU multiplies it in hardware, else fp32.

    Vectors of either precision agree to a cosine above 0.999, so an index takes both; precision is no part of an
    encoder's fingerprint.

    Args:
        requested: the setting: auto, fp32, bf16 or fp16.
        device: as `choose_device` returns it.
        flags: reads the CPU's flags; handed in by tests.
        cuda: torch.cuda, handed in by tests.

    Raises:
        ConfigError: an unknown precision, or fp16 on a CPU.
    """
    if requested not in ("auto", "fp32", "bf16", "fp16"):
        raise ConfigError(f"precision {requested!r} is none of auto, fp32, bf16, fp16")
    if requested == "fp16" and device == "cpu":
        raise ConfigError("precision fp16 is for GPUs; use auto, fp32 or bf16 on a CPU")
    if requested != "auto":
        return cast("Precision", requested)
    if device == "cpu":
        return "bf16" if (flags or cpu_flags)() & _BF16_FLAGS else "fp32"
    if device == "mps":
        return "fp32"
    return "bf16" if (cuda or _torch_cuda()).is_bf16_supported(including_emulation=False) else "fp32"


def speech_device(device: str) -> str:
    """Returns the device of the speech model: CTranslate2, which runs it, has no Apple GPU."""
    return "cpu" if device == "mps" else device


def cpu_flags(path: Path = _CPUINFO) -> frozenset[str]:
    """Returns the instruction sets of the first CPU by Linux' names; empty on other systems."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def may_have_gpu(devices: Path = _DEVICES, *, system: str = sys.platform) -> bool:
    """Returns whether torch, which takes 290 MB, has to look for GPUs: not on Linux without a device."""
    return system != "linux" or any((devices / name).exists() for name in _GPU_DEVICES)


def _torch_cuda() -> Cuda:
    import torch

    return torch.cuda


def _torch_has_mps() -> bool:
    import torch

    return torch.backends.mps.is_available()
