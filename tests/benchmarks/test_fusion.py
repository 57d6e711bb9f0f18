"""The benchmark of fusion runs, and reports every method."""

from __future__ import annotations

from benchmarks.fusion import CHANNELS, METHODS, bench_fusion


def test_every_method_is_measured() -> None:
    figures = bench_fusion(questions=3)
    assert figures["channels"] == len(CHANNELS)
    assert [row["method"] for row in figures["rows"]] == [name for name, _ in METHODS]
    assert all(0 < row["computing_p50_ms"] <= row["computing_p95_ms"] for row in figures["rows"])
    assert figures["count_computing_p50_us"] > 0
