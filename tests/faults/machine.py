"""The machine that a report was made on, in a few words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory_gb = psutil.virtual_memory().total / 1e9
    return f"{os.cpu_count()} cores of {model}, {memory_gb:.0f} GB, Python {platform.python_version()}"
