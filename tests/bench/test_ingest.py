from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from penstock.bench.ingest import TRANSPORT_PROFILE, IngestPlan, Measure
from penstock.cli.main import main

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
    assert IngestPlan(model, frozenset(Measure)).profile == profile


def test_an_unknown_measure_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ingest", "--measure", "speed"]) == 2
    assert "rounds, freshness, transport, memory" in capsys.readouterr().err


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_a_whole_penstock_is_measured_and_stopped() -> None:
    command = [sys.executable, "-m", "penstock.cli.main", "bench", "ingest", "--model", "null", "--rounds", "1"]
    small = ["--images", "33", "--events", "150", "--freshness-s", "1", "--json"]
    environment = {**os.environ, "PENSTOCK_KAFKA__PARTITIONS": "2"}
    done = subprocess.run([*command, *small], env=environment, capture_output=True, timeout=220, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert all(found[name] > 0 for name in ASKED), found
    assert found["efficiency"] == pytest.approx(found["pipeline_per_s"] / found["bare_per_s"])
    assert found["machine"]["cores"] > 0
    assert {part for part, megabytes in found["memory_mb"].items() if megabytes > 10} >= {"ingest", "broker", "store"}
