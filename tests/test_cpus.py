"""Tests the CPU limits of containers, on trees of files as the kernel shows them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from penstock import cpus
from penstock.cpus import cpu_limit, usable_cpus


def limit(folder: Path, membership: str, files: Mapping[str, str]) -> float:
    """Returns the limit in a tree of cgroups."""
    for name, content in files.items():
        file = folder / "cgroups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    listed = folder / "membership"
    listed.write_text(membership)
    return cpu_limit(folder / "cgroups", listed)


V1 = "4:memory:/pod/box\n3:cpu,cpuacct:/pod/box\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        pytest.param("0::/\n", {"cpu.max": "100000 100000"}, 1.0, id="v2, as a container sees it"),
        pytest.param("0::/pod/box\n", {"pod/box/cpu.max": "250000 100000"}, 2.5, id="v2, as its host sees it"),
        pytest.param(
            "0::/pod/box\n",
            {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "50000 100000"},
            0.5,
            id="v2, limited by the cgroup above",
        ),
        pytest.param("0::/kube/pod/box\n", {"cpu.max": "200000 50000"}, 4.0, id="v2, without a cgroup namespace"),
        pytest.param("0::/\n", {"cpu.max": "max 100000"}, math.inf, id="v2, without a limit"),
        pytest.param(
            V1,
            {"cpu,cpuacct/pod/box/cpu.cfs_quota_us": "150000", "cpu,cpuacct/pod/box/cpu.cfs_period_us": "100000"},
            1.5,
            id="v1",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"},
            3.0,
            id="v1, mounted by one name and without a cgroup namespace",
        ),
        pytest.param(
            V1,
            {"cpu/pod/box/cpu.cfs_quota_us": "-1", "cpu/pod/box/cpu.cfs_period_us": "100000"},
            math.inf,
            id="v1, without a limit",
        ),
        pytest.param("", {}, math.inf, id="none"),
    ],
)
def test_the_smallest_quota_of_the_cgroups_holds(
    tmp_path: Path, membership: str, files: Mapping[str, str], expected: float
) -> None:
    assert limit(tmp_path, membership, files) == expected


def test_a_system_without_cgroups_has_no_limit(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path, tmp_path / "missing") == math.inf


@pytest.mark.parametrize(("allowed", "expected"), [(0.5, 1), (1.9, 1), (2.0, 2), (math.inf, 64)])
def test_part_of_a_cpu_is_no_thread(monkeypatch: pytest.MonkeyPatch, allowed: float, expected: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(cpus, "cpu_limit", lambda: allowed)
    usable_cpus.cache_clear()
    try:
        assert usable_cpus() == expected
    finally:
        usable_cpus.cache_clear()
