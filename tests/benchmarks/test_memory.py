from __future__ import annotations

import os

import psutil

from benchmarks.components import Component
from benchmarks.memory import CONSTANT_MB, bound_mb, peak_by_component, pss_mb
from penstock.config import IngestSettings


def test_memory_is_summed_by_part_and_in_megabytes() -> None:
    held = bytearray(os.urandom(64_000_000))
    megabytes = pss_mb([psutil.Process()])
    assert len(held) / 1e6 < sum(megabytes.values()) < 10_000


def test_the_highest_of_each_part_need_not_be_of_the_same_look() -> None:
    peaks = peak_by_component([{Component.INGEST: 1.0, Component.STORE: 9.0}, {Component.INGEST: 5.0}])
    assert (peaks[Component.INGEST], peaks[Component.STORE], peaks[Component.BROKER]) == (5.0, 9.0, 0.0)


def test_the_bound_is_the_budget_of_each_lane_and_a_constant() -> None:
    assert bound_mb(IngestSettings(max_in_flight_bytes=100_000_000, lanes=1)) == 100 + CONSTANT_MB
    assert bound_mb(IngestSettings(max_in_flight_bytes=100_000_000, lanes=3)) == 300 + CONSTANT_MB
