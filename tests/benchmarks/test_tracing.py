from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.tracing import collector, measure
from penstock.config import load_settings


def test_the_share_of_tracing_is_measured_beside_events_without_it(tmp_path: Path) -> None:
    with collector() as url:
        settings = load_settings(
            profile="null:8",
            data_dir=tmp_path,
            ingest={"modalities": ["text"], "min_free_disk_bytes": 0},
            tracing={"endpoint": url},
        )
        figures: Any = measure(settings, events=64, rounds=2, rates=(1.0,), repetitions=2)
    assert figures["event_us"] > 0
    of_rate = figures["rates"]["1"]
    assert of_rate["calls_us"] > 0
    assert of_rate["by_calls"] == pytest.approx(of_rate["calls_us"] / figures["event_us"], rel=0.05)
    assert len(of_rate["by_rounds_quartiles"]) == 2
