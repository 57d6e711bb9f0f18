"""Describes the machine: part of every output, since a figure means nothing without its machine."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from penstock.cpus import usable_cpus
from penstock.encoders.precision import choose_device, choose_precision, cpu_flags

_TOLD_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16")
_PACKAGES = ("penstock", "torch", "open_clip_torch", "sentence-transformers", "ray", "pymilvus", "milvus-lite",
             "kafka-python", "pillow", "numpy")  # fmt: skip


def machine_facts(*, precision: str = "auto", device: str = "auto") -> dict[str, Any]:
    """Processor, memory, load before, and versions; as plain JSON values.

    Args:
        precision, device: as configured; the result has what they resolve to on this machine.
    """
    where = choose_device(device)
    return {
        "cpu": _cpu_model(),
        "cores": usable_cpus(),
        "flags": sorted(cpu_flags().intersection(_TOLD_FLAGS)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "device": where,
        "precision": choose_precision(precision, where),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": dict(_versions()),
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return platform.processor()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1].strip() if model else platform.processor()


def _versions() -> Mapping[str, str]:
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
