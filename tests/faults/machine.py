"""Describes the machine and the commit of a report, in a few words."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import psutil


@cache
def commit() -> str:
    """Returns the short hash of the checkout's commit at the first call, with a plus if the checkout differs."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


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
