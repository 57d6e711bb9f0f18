from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from benchmarks import cli, ingest, memory
from benchmarks.components import Component
from benchmarks.ingest import TRANSPORT_PROFILE, IngestMeasure, IngestPlan, bench_ingest
from benchmarks.load_generator import LoadGenerator
from benchmarks.stack import LocalStack
from penstock.cli.main import main
from penstock.config import IngestSettings, Settings

ASKED = (
    "bare_per_s",
    "naive_per_s",
    "naive_batched_per_s",
    "pipeline_per_s",
    "efficiency",
    "transport_per_s",
    "store_alone_per_s",
    "freshness_p50_s",
    "freshness_p95_s",
    "freshness_p99_s",
    "peak_rss_mb",
)


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("ViT-B-32", "random:ViT-B-32"),
        ("random:ViT-L-14", "random:ViT-L-14"),
        ("reference", "reference"),
        ("small", "small"),
        ("null", TRANSPORT_PROFILE),
        ("null:64", "null:64"),
    ],
)
def test_a_model_is_a_profile_or_an_architecture_with_random_weights(model: str, profile: str) -> None:
    assert IngestPlan(model, frozenset(IngestMeasure)).profile == profile


def test_an_unknown_measure_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ingest", "--measure", "speed"]) == 2
    assert "rounds, freshness, transport, memory" in capsys.readouterr().err


class QuietHouse:
    """A stack of no processes, whose memory `Machine` reports."""

    def __init__(self, budget_bytes: int = 100_000_000) -> None:
        self.settings = Settings(ingest=IngestSettings(max_in_flight_bytes=budget_bytes))

    def processes(self) -> list[psutil.Process]:
        return []

    def idle_cores(self, _seconds: float) -> dict[str, float]:
        return {}


class Machine:
    """A stream whose messages take memory while they are under way, and the looks at that memory.

    Args:
        waits_for_looks: which calls of `through`, counted from 0, last until memory was sampled during them.
    """

    def __init__(self, waits_for_looks: Callable[[int], bool] = lambda _call: False) -> None:
        self._waits = waits_for_looks
        self._looked = threading.Event()
        self._busy = False
        self.calls = 0
        self.busy_looks: list[int] = []

    def send_all(self, payloads: Sequence[bytes], *, first: int) -> float:
        self._busy = True
        self._looked.clear()
        if self._waits(self.calls):
            assert self._looked.wait(20.0)
        self.calls += 1
        self._busy = False
        return 1.0

    def pss_mb(self, _processes: object) -> dict[Component, float]:
        if self._busy:
            self.busy_looks.append(self.calls)
            self._looked.set()
        return dict.fromkeys(Component, 10.0) | {Component.INGEST: 900.0 if self._busy else 500.0}


@contextmanager
def no_loops(*_args: object, **_options: object) -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(round=lambda _pictures: dict.fromkeys(("bare", "naive", "naive_batched"), 1.0))


def bench_of(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, measure: IngestMeasure, budget_bytes: int = 100_000_000
) -> dict[str, Any]:
    monkeypatch.setattr(ingest, "pss_mb", machine.pss_mb)
    monkeypatch.setattr(memory, "pss_mb", machine.pss_mb)
    monkeypatch.setattr(ingest, "baseline_loops", no_loops)
    monkeypatch.setattr(ingest, "_MEMORY_TO", 1_000)
    plan = IngestPlan("null", frozenset({measure}), images=2, rounds=3)
    stack, stream = cast(LocalStack, QuietHouse(budget_bytes)), cast(LoadGenerator, machine)
    return dict(ingest._Bench(plan, stack, stream, lambda _line: None).measure_all(plan.measures))


def test_rounds_alone_tell_the_peak_of_d_and_no_timed_round_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up, rounds = 2, 3
    machine = Machine(waits_for_looks=lambda call: call == warm_up + rounds)
    figures = bench_of(machine, monkeypatch, IngestMeasure.ROUNDS)
    assert figures["peak_rss_mb"] == 900.0
    assert figures["memory_mb"]["ingest"] == 500.0
    assert figures["peak_by_part_mb"] == {str(part): 900.0 if part is Component.INGEST else 10.0 for part in Component}
    assert set(machine.busy_looks) == {warm_up + rounds}
    assert len(figures["rounds"]["pipeline"]) == rounds


def test_memory_is_looked_at_right_after_each_round_of_d(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, looks = Machine(), list[int]()
    monkeypatch.setattr(ingest._Bench, "_sample_memory", lambda _self: looks.append(machine.calls) or {})
    bench_of(machine, monkeypatch, IngestMeasure.ROUNDS)
    assert looks[:3] == [3, 4, 5]  # two calls were to warm up


def test_memory_alone_tells_its_peak_and_keeps_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = bench_of(Machine(waits_for_looks=lambda call: call == 0), monkeypatch, IngestMeasure.MEMORY, 100_000_000)
    assert figures["peak_rss_mb"] == figures["memory_peak_mb"]["ingest"] == 900.0
    assert (figures["memory_constant_mb"], figures["memory_bound_mb"]) == (memory.CONSTANT_MB, 100 + memory.CONSTANT_MB)
    assert figures["memory_within_bound"] is True


def test_memory_above_its_bound_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = bench_of(Machine(waits_for_looks=lambda call: call == 0), monkeypatch, IngestMeasure.MEMORY, 90_000_000)
    assert figures["memory_bound_mb"] < figures["memory_peak_mb"]["ingest"]
    assert figures["memory_within_bound"] is False


def test_of_two_houses_the_peak_of_the_plans_own_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds run with the model, the memory of 20,000 events without one."""
    peaks = {"random:ViT-B-32": 1_600.0, TRANSPORT_PROFILE: 890.0}

    @contextmanager
    def stacks(_plan: IngestPlan, profile: str, _say: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(measure_all=lambda _measures: {"peak_rss_mb": peaks[profile], profile: True})

    monkeypatch.setattr(ingest, "_measured_stack", stacks)
    both = IngestPlan("ViT-B-32", frozenset({IngestMeasure.ROUNDS, IngestMeasure.MEMORY}))
    figures = bench_ingest(both, lambda _line: None)
    assert figures["peak_rss_mb"] == 1_600.0
    assert all(figures[profile] for profile in peaks)
    assert figures["freshness_p50_s"] is None
    alone = bench_ingest(IngestPlan("ViT-B-32", frozenset({IngestMeasure.MEMORY})), lambda _line: None)
    assert alone["peak_rss_mb"] == 890.0


def test_people_are_told_memory_by_part_and_whether_it_kept_to_its_bound() -> None:
    figures = {
        "bare_per_s": None,
        "peak_rss_mb": 893.0,
        "peak_by_part_mb": {"ingest": 893.0, "query": 624.0, "broker": 366.0, "store": 213.0, "ray": 505.0},
        "memory_peak_mb": {"ingest": 892.0},
        "memory_constant_mb": 800.0,
        "memory_bound_mb": 934.2,
        "memory_within_bound": True,
    }
    rows = {row["what"]: (row["figure"], row["unit"]) for row in cli._ingest_rows(figures)}
    assert rows == {
        "ingest plane's memory (sum of PSS), peak": ("893", "MB"),
        "ingest plane's memory at most, bound 934 MB (134 of budget and 800 beside it): kept": ("892", "MB"),
        "beside it, memory of the query plane, peak": ("624", "MB"),
        "beside it, memory of the broker, peak": ("366", "MB"),
        "beside it, memory of the store, peak": ("213", "MB"),
    }
    assert any("exceeded" in row["what"] for row in cli._ingest_rows(figures | {"memory_within_bound": False}))
    assert cli._ingest_rows({"peak_rss_mb": None}) == []


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_a_whole_penstock_is_measured_and_stopped() -> None:
    command = [sys.executable, "-m", "penstock.cli.main", "bench", "ingest", "--model", "null", "--rounds", "1"]
    small = ["--images", "33", "--events", "150", "--freshness-s", "1", "--json"]
    environment = {**os.environ, "PENSTOCK_KAFKA__PARTITIONS": "2"}
    done = subprocess.run([*command, *small], env=environment, capture_output=True, timeout=220, check=False)
    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(done.stdout)
    assert all(figures[name] > 0 for name in ASKED), figures
    assert figures["efficiency"] == pytest.approx(figures["pipeline_per_s"] / figures["bare_per_s"])
    assert figures["machine"]["cores"] > 0
    assert {part for part, megabytes in figures["memory_mb"].items() if megabytes > 10} >= {"ingest", "broker", "store"}
