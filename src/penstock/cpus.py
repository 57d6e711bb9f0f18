"""Counts the CPUs that this process may use: its affinity, and the limits of its container (cgroup v1 and v2)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@lru_cache
def usable_cpus() -> int:
    """Returns how many threads of this process can compute at the same time, at least 1.

    A limit of 1.5 CPUs counts as 1: the kernel would stop a second thread, and all that wait for it, half of the time.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(affinity, cpu_limit())))


def default_threads() -> int | None:
    """Returns `usable_cpus`; None if OMP_NUM_THREADS has the number, which torch and CTranslate2 read themselves."""
    return None if "OMP_NUM_THREADS" in os.environ else usable_cpus()


def cpu_limit(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float:
    """Returns the CPU time that the cgroups of this process allow, in CPUs; infinity without a limit.

    Each cgroup is limited by its own quota and by those above it, so that the smallest holds.

    Args:
        cgroups: the mount point of the cgroup file systems.
        membership: lists the cgroups of the process, as /proc/self/cgroup does.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += (_quota_v2(folder) for root in (cgroups, cgroups / "unified") for folder in _upwards(root, path))
        elif "cpu" in controllers.split(","):
            limits += (_quota_v1(folder) for name in {controllers, "cpu"} for folder in _upwards(cgroups / name, path))
    return min(limits)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yields the folder of a cgroup and those above it. Without a cgroup namespace only `root` may be visible."""
    relative = PurePosixPath(path.lstrip("/"))
    for folder in (relative, *relative.parents):
        yield root / folder
    yield root


def _quota_v2(folder: Path) -> float:
    return _ratio(*_words(folder / "cpu.max"))


def _quota_v1(folder: Path) -> float:
    return _ratio(*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us"))


def _ratio(quota_us: str = "max", period_us: str = "100000", *_: str) -> float:
    """Returns the CPUs of a quota. No limit is written as `max` in v2 and as -1 in v1."""
    if quota_us == "max" or int(quota_us) <= 0:
        return math.inf
    return int(quota_us) / int(period_us)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
