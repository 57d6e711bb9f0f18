from __future__ import annotations

import os

import psutil

from penstock.bench.memory import pss_mb


def test_memory_is_summed_by_part_and_in_megabytes() -> None:
    held = bytearray(os.urandom(64_000_000))
    found = pss_mb([psutil.Process()])
    assert len(held) / 1e6 < sum(found.values()) < 10_000
